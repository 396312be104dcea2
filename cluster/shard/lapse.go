package shard

import (
	"context"
	"errors"
	"time"

	"hongyan/cluster/wire"
)

// A replica whose disk has lost what it had acknowledged, at its journal's end where no frame tells of it, or since it is an older copy of itself, cannot know. Its
// leader does: it remembers up to where each follower has acknowledged in its term (transport, rafttell.go), and hears with each answer where the follower's log
// ended. It tells the node, which must not vote any more and has everything made anew. A leader that came to office since does not remember. So a node that has
// started asks every other one, which may have led before, what it has acknowledged there of what was committed: no later leader can have taken that back. An
// answer counts if it was known before the node began, and is held against where its log ended then. Who leads nothing any more since it has restarted has
// forgotten: who loses data, and all who led it restart, is not found out.

// MethodLapse tells a node, MethodKept asks one.
const (
	MethodLapse = "shard.lapse"
	MethodKept  = "shard.kept"
)

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

// KeptRequest asks what the asker has acknowledged.
type KeptRequest struct{}

// KeptResponse says it of the shards that the answerer has led since its process began.
type KeptResponse struct {
	Kept []Kept `cbor:"1,keyasint,omitempty"`
}

// Kept is a committed entry that was acknowledged. Age is for how long that has been known, in milliseconds.
type Kept struct {
	Shard uint32 `cbor:"1,keyasint"`
	Entry uint64 `cbor:"2,keyasint"`
	Age   uint64 `cbor:"3,keyasint"`
}

// lapsing is the part of our transport that remembers what followers acknowledged.
type lapsing interface {
	OnLapse(f func(node string, had, has uint64))
	Forget(node string)
	Kept(node string) (entry uint64, at time.Time)
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

func (h *Host) kept(_ context.Context, from string, _ *KeptRequest) (*KeptResponse, error) {
	resp := new(KeptResponse)
	for _, g := range h.ordered() {
		if t, ok := g.cfg.Transport.(lapsing); ok {
			if entry, at := t.Kept(from); entry > 0 {
				resp.Kept = append(resp.Kept, Kept{Shard: g.Shard(), Entry: entry, Age: uint64(time.Since(at).Milliseconds())})
			}
		}
	}
	return resp, nil
}

// AskKept asks a node what this one has acknowledged to it, and has it end if its logs did not have that when it began. Replicas that were made since, or had not
// been filled, have lost nothing.
func (h *Host) AskKept(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, lapseTimeout)
	defer cancel()
	var resp KeptResponse
	if err := h.net.Call(ctx, node, MethodKept, &KeptRequest{}, &resp); err != nil && !errors.Is(err, wire.ErrUnsupported) {
		return err
	}
	for _, k := range resp.Kept {
		if g, ok := h.Group(k.Shard); ok && h.Lapsed != nil && g.lacks(k) {
			h.Lapsed(k.Shard, node, k.Entry, g.began.index)
			return nil
		}
	}
	return nil
}

// lacks says whether this replica began with less than it had acknowledged before.
func (g *Group) lacks(k Kept) bool {
	return g.began.filled && k.Entry > g.began.index && time.Duration(k.Age)*time.Millisecond > time.Since(g.began.at)
}

// begin notes how the replica is before raft runs.
func (g *Group) begin(snaps *snapshotStore) error {
	last, err := g.log.LastIndex()
	if err != nil {
		return err
	}
	list, err := snaps.List()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		last = max(last, list[0].Index)
	}
	g.began = beginning{time.Now(), last, !g.cfg.Joins && !g.cfg.Founds && !g.unfilled.Load()}
	return nil
}

// beginning is how a replica was when its process, or it itself, began.
type beginning struct {
	at     time.Time
	index  uint64 // the last entry of its log
	filled bool   // it was not made just then, and had had all that a leader had
}
