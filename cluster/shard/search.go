package shard

import (
	"context"
	"time"
)

// How long a caller that looks for a leader waits between rounds through the voters, and how long the others wait for it.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = 50 * time.Millisecond
	joinPatience = time.Second
)

// search is under way while a shard has no leader that answers. Of all callers one goes on asking the voters, the others
// wait for it: thousands of sessions that each asked ten times a second would keep the nodes that are left from electing.
type search struct {
	over chan struct{} // closed when somebody found the leader, or who looked for it gave up
}

// turns is one caller's part in the search for a shard's leader.
type turns struct {
	r     *Router
	shard uint32
	mine  *search // the one that this caller leads
	pause time.Duration
}

func (r *Router) takeTurns(shard uint32) *turns {
	return &turns{r: r, shard: shard, pause: firstPause}
}

// wait returns true when it is time for another round, false when ctx has ended. That is at once when this node's replica comes to know
// a leader: who looks for it may be waiting for an answer of its own by then, from far away.
func (t *turns) wait(ctx context.Context) bool {
	if t.mine == nil {
		s, led := t.r.join(t.shard)
		if led {
			return t.pauseFor(ctx, s.over, joinPatience)
		}
		t.mine = s
	}
	pause := t.pause
	t.pause = min(2*pause, longestPause)
	return t.pauseFor(ctx, nil, pause)
}

func (t *turns) pauseFor(ctx context.Context, over <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	g, here := t.r.host.Group(t.shard)
	for {
		var changed <-chan struct{}
		if here {
			changed = g.leaders.change()
		}
		select {
		case <-changed:
			if leader := g.Leader(); leader == "" || t.r.peers.InDoubt(leader) {
				continue
			}
		case <-timer.C:
		case <-over:
		case <-ctx.Done():
		}
		return ctx.Err() == nil
	}
}

// end lets another caller lead the search.
func (t *turns) end() {
	if t.mine == nil {
		return
	}
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.searches[t.shard] == t.mine {
		t.r.over(t.shard)
	}
}

// join gives the search that is under way, or a new one that nobody leads yet.
func (r *Router) join(shard uint32) (s *search, led bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leaders, shard)
	if s = r.searches[shard]; s != nil {
		return s, true
	}
	s = &search{over: make(chan struct{})}
	r.searches[shard] = s
	return s, false
}

// found notes who answered, and sends everybody there who waits for it.
func (r *Router) found(shard uint32, leader string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaders[shard] = leader
	r.over(shard)
}

// over is called under mu.
func (r *Router) over(shard uint32) {
	if s := r.searches[shard]; s != nil {
		close(s.over)
		delete(r.searches, shard)
	}
}
