package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// proposals are the requests that wait for their entry at this replica, by id. A request that is asked for again, by
// a caller whose patience was too short, waits for the same entry: in an overload retries would else fill the log.
type proposals struct {
	mu      sync.Mutex // guards waiting
	waiting map[RequestID]*proposal
}

type proposal struct {
	done chan struct{} // closed when out and err are set
	out  outcome
	err  error
}

// Class is what a command is for. In an overload the least important is refused first.
type Class uint8

// The classes.
const (
	ForPeople  Class = iota // somebody waits at a screen
	Bulk                    // mail that its sender will offer again
	Background              // upkeep, which is tried again anyway
)

// maxWaiting is how many proposals may wait at a leader: some seconds' worth, after which a client is gone or better off with an answer.
const maxWaiting = 4096

// room is how many proposals of all classes may wait for one of this class to be let in.
func (c Class) room() int {
	switch c {
	case ForPeople:
		return maxWaiting
	case Bulk:
		return maxWaiting * 3 / 4
	}
	return maxWaiting / 2
}

// join gives the request's proposal, and whether it is new: then the caller must end it. nil when too many wait already.
func (p *proposals) join(id RequestID, class Class) (w *proposal, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.waiting[id]; w != nil {
		return w, false
	}
	if len(p.waiting) >= class.room() {
		return nil, false
	}
	if p.waiting == nil {
		p.waiting = make(map[RequestID]*proposal)
	}
	w = &proposal{done: make(chan struct{})}
	p.waiting[id] = w
	return w, true
}

func (p *proposals) end(id RequestID, w *proposal) {
	p.mu.Lock()
	delete(p.waiting, id)
	p.mu.Unlock()
	close(w.done)
}

// Propose commits a command on this leader. It gives the machine's result and the entry's index. ErrNotLeader and
// ErrUnavailable leave open whether it was or will be applied: retry, there or elsewhere, with the same id. After ErrOverloaded it will not be.
func (g *Group) Propose(ctx context.Context, c Command, class Class) (result []byte, at uint64, err error) {
	if size := c.size(); size > MaxCommand {
		return nil, 0, wire.Errorf(wire.Limit, "shard %d: a command of %d bytes", g.Shard(), size)
	}
	w, first := g.proposals.join(c.ID, class)
	if w == nil {
		return nil, 0, wire.Errorf(wire.Overloaded, "shard %d: %d commands wait", g.Shard(), class.room())
	}
	if first {
		go func() { // raft answers, or shuts down and forgets
			future := g.raft.Apply(c.Encode(), proposeEnqueue)
			if w.err = future.Error(); w.err == nil {
				var ok bool
				if w.out, ok = future.Response().(outcome); !ok {
					w.err = fmt.Errorf("the state machine answered %T", future.Response())
				}
			}
			g.proposals.end(c.ID, w)
		}()
	}
	select {
	case <-w.done:
		err = w.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-g.closed:
		err = raft.ErrRaftShutdown
	}
	if err != nil {
		return nil, 0, g.refusal(err)
	}
	if w.out.err != nil {
		return nil, 0, wire.Errorf(wire.Unavailable, "shard %d: apply: %v", g.Shard(), w.out.err)
	}
	return w.out.result, w.out.index, nil
}

// refusal turns raft's errors into ours.
func (g *Group) refusal(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost),
		errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrAbortedByRestore):
		return g.notLeader()
	}
	return wire.Errorf(wire.Unavailable, "shard %d: propose: %v", g.Shard(), err)
}
