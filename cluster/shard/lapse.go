package shard

import (
	"context"
	"time"

	"hongyan/cluster/wire"
)

// A replica whose disk has lost what it had acknowledged, at its journal's end where no frame tells of it, or since it is an older copy of itself, cannot know. Its
// leader does: it remembers up to where each follower has acknowledged in its term (transport, rafttell.go), and hears with each answer where the follower's log
// ended. It tells the node, which must not vote any more and has everything made anew. A leader that came to office since does not remember: who loses
// data and its leader at once is not found out.

// MethodLapse tells a node.
const MethodLapse = "shard.lapse"

const (
	lapseTimeout = 5 * time.Second
	lapsePause   = 2 * time.Second // between two words about one shard
)

// LapseRequest says that the node's replica of a shard has acknowledged an entry, and has a log that ends before.
type LapseRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
	Had   uint64 `cbor:"2,keyasint"` // entry
	Has   uint64 `cbor:"3,keyasint"` // the last that is left
}

// LapseResponse says that the node has heard it.
type LapseResponse struct{}

// lapsing is the part of our transport that remembers what followers acknowledged.
type lapsing interface {
	OnLapse(f func(node string, had, has uint64))
	Forget(node string)
}

// watchLapses has nodes told of theirs while a group leads.
func (h *Host) watchLapses(g *Group) {
	t, ok := g.cfg.Transport.(lapsing)
	if !ok || h.net == nil {
		return
	}
	t.OnLapse(func(node string, had, has uint64) {
		now := time.Now()
		if last := g.lapseTold.Load(); last != nil && now.Sub(*last) < lapsePause {
			return
		}
		g.lapseTold.Store(&now)
		h.mu.RLock()
		defer h.mu.RUnlock()
		if h.ctx.Err() == nil {
			h.work.Go(func() { h.tellLapse(g, node, had, has) })
		}
	})
}

func (h *Host) tellLapse(g *Group, node string, had, has uint64) {
	g.cfg.Log.Error("a replica lacks what it acknowledged: its disk lost some, or is an older copy", "shard", g.Shard(), "peer", node, "had", had, "has", has)
	ctx, cancel := context.WithTimeout(h.ctx, lapseTimeout)
	defer cancel()
	if err := h.net.Call(ctx, node, MethodLapse, &LapseRequest{Shard: g.Shard(), Had: had, Has: has}, &LapseResponse{}); err != nil {
		g.cfg.Log.Warn("a node was not told what it lacks", "shard", g.Shard(), "peer", node, "err", err)
	}
}

// lapse takes the word of a leader. A replica that was made since the process began has lost nothing with it.
func (h *Host) lapse(_ context.Context, from string, req *LapseRequest) (*LapseResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	if leader := g.Leader(); leader != from {
		return nil, wire.Errorf(wire.Invalid, "shard %d is led by %q, not by %s", req.Shard, leader, from)
	}
	if !g.cfg.Joins && !g.cfg.Founds && h.Lapsed != nil {
		h.Lapsed(req.Shard, from, req.Had, req.Has)
	}
	return &LapseResponse{}, nil
}
