package rehouse

import (
	"context"
	"maps"
	"slices"
	"sync"

	"hongyan/cluster/client"
	"hongyan/cluster/transport"
	"hongyan/engine/volume"
)

const methodStatus = "rehouse.status" // how far are the shards that you lead?

type statusRequest struct{}

type statusResponse struct {
	Shards []client.Following `cbor:"1,keyasint,omitempty"`
}

// left is what is known to be left to do.
type left struct {
	mu     sync.Mutex // guards the rest
	shards map[uint32]*leftOf
}

type leftOf struct {
	why map[volume.ID]string
	all bool   // volumes were looked at, once
	sum string // of the policies at that time
}

func (l *left) of(shard uint32) *leftOf {
	if l.shards == nil {
		l.shards = make(map[uint32]*leftOf)
	}
	s := l.shards[shard]
	if s == nil {
		s = &leftOf{why: make(map[volume.ID]string)}
		l.shards[shard] = s
	}
	return s
}

// note says why a volume waits, "" if it does not.
func (l *left) note(at place, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.of(at.shard); why == "" {
		delete(s.why, at.volume)
	} else {
		s.why[at.volume] = why
	}
}

// looked says which volumes were looked at for a shard, which is all that could have something under a wrong policy: the others wait no more.
func (l *left) looked(shard uint32, volumes map[volume.ID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.of(shard).why, func(id volume.ID, _ string) bool { return !volumes[id] })
}

// all says that what was looked at for a shard is all that there is under these policies.
func (l *left) all(shard uint32, sum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(shard)
	s.all, s.sum = true, sum
}

func (r *Rehouser) serveStatus(ctx context.Context, _ string, _ *statusRequest) (*statusResponse, error) {
	w, err := r.wishes(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(statusResponse)
	r.left.mu.Lock()
	defer r.left.mu.Unlock()
	for _, g := range r.led() {
		s := r.left.of(g.Shard())
		one := client.Following{Shard: g.Shard(), Node: r.cfg.Self, Waiting: len(s.why), Looked: s.all && s.sum == w.sum}
		for _, why := range s.why {
			one.Why = why
			break
		}
		resp.Shards = append(resp.Shards, one)
	}
	return resp, nil
}

// Ask asks nodes how far the shards are that they lead.
func Ask(ctx context.Context, net *transport.Net, nodes []string) []client.Following {
	answers := make([][]client.Following, len(nodes))
	var work sync.WaitGroup
	for i, node := range nodes {
		work.Go(func() {
			var resp statusResponse
			if net.Call(ctx, node, methodStatus, &statusRequest{}, &resp) == nil { // else its shards are missing from the answer
				answers[i] = resp.Shards
			}
		})
	}
	work.Wait()
	list := slices.Concat(answers...)
	slices.SortFunc(list, func(a, b client.Following) int { return int(a.Shard) - int(b.Shard) })
	return list
}
