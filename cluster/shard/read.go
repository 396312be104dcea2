package shard

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// ConfirmRequest asks a voter which term it is in.
type ConfirmRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// ConfirmResponse is the answer: no leader of an earlier term can be elected or commit without this voter's
// knowing.
type ConfirmResponse struct {
	Term uint64 `cbor:"1,keyasint"`
}

// confirmTimeout bounds a round of questions. A majority that takes longer is as good as none: the caller tries again, or elsewhere.
const confirmTimeout = 400 * time.Millisecond

// MethodConfirm asks a voter for its term.
const MethodConfirm = "shard.confirm"

// ReadIndex gives the entry that a reader must wait for to see every command acknowledged before this call.
//
//  1. This node leads, and has applied all entries of earlier terms.
//  2. Note the last applied entry: what this leader has acknowledged is in it.
//  3. Ask the voters for their terms. If a majority, this node included, is still in this term, then no
//     later leader had been elected when the question was asked, so nobody else acknowledged anything. While a change of the voters is
//     under way a majority of those before it does as well as of those after it: the two differ by one voter, so any two majorities meet.
//
// Calls that arrive while a round is under way share the next one.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) {
	return g.rounds.join(ctx, g.readRound)
}

// readIndexFor is ReadIndex for a node that says in which term it was when the read had begun. If it is a voter and a majority with this node, as in groups of three, its
// word is the answer to step 3's question, and nobody else is asked.
func (g *Group) readIndexFor(ctx context.Context, voter string, was uint64) (uint64, error) {
	if at, ok := g.vouched(voter, was); ok {
		return at, nil
	}
	return g.ReadIndex(ctx)
}

func (g *Group) vouched(voter string, was uint64) (applied uint64, ok bool) {
	term, err := g.leads()
	if err != nil || was > term || voter == g.cfg.Self {
		return 0, false
	}
	applied = g.Applied()
	voters := g.roster().Voters
	if len(voters)/2 > 1 || !slices.Contains(voters, voter) || !slices.Contains(voters, g.cfg.Self) {
		return 0, false
	}
	return applied, g.raft.CurrentTerm() == term
}

// leads is step 1, with the term.
func (g *Group) leads() (term uint64, err error) {
	term = g.raft.CurrentTerm()
	if g.raft.State() != raft.Leader || g.ready.Load() != term {
		return 0, g.notLeader()
	}
	if err := g.Err(); err != nil {
		return 0, wire.Errorf(wire.Unavailable, "shard %d: %v", g.Shard(), err)
	}
	return term, nil
}

func (g *Group) readRound(ctx context.Context) (uint64, error) {
	term, err := g.leads()
	if err != nil {
		return 0, err
	}
	applied := g.Applied() // step 2
	if err := g.confirm(ctx, g.roster().Voters, term); err != nil {
		return 0, err
	}
	if g.raft.CurrentTerm() != term {
		return 0, g.notLeader()
	}
	return applied, nil
}

// office is when this replica became the leader of a term, at the earliest.
type office struct {
	term  uint64
	since time.Time
}

// Office says since when this replica leads, by the monotonic clock, and in which term. Like a read index it is the answer of a leader that no later one had
// been elected beside when it was asked.
func (g *Group) Office(ctx context.Context) (term uint64, since time.Time, err error) {
	o := g.office.Load()
	if o == nil {
		return 0, time.Time{}, g.notLeader()
	}
	if _, err := g.ReadIndex(ctx); err != nil {
		return 0, time.Time{}, err
	}
	if g.raft.CurrentTerm() != o.term { // else the round was one of this term: terms only grow
		return 0, time.Time{}, g.notLeader()
	}
	return o.term, o.since, nil
}

// confirm is step 3: it returns nil once a majority of the voters is known to be in term.
func (g *Group) confirm(ctx context.Context, voters []string, term uint64) error {
	need := len(voters) / 2 // besides this node
	if need == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	answers := make(chan error, len(voters))
	asked := 0
	for _, v := range voters {
		if v == g.cfg.Self {
			continue
		}
		asked++
		go func() { answers <- g.confirmOne(ctx, v, term) }()
	}
	var last error
	for ; asked > 0; asked-- {
		if err := <-answers; err != nil {
			last = err
		} else if need--; need == 0 {
			return nil
		}
	}
	return wire.Errorf(wire.Unavailable, "shard %d: no majority confirms term %d: %v", g.Shard(), term, last)
}

func (g *Group) confirmOne(ctx context.Context, voter string, term uint64) error {
	var resp ConfirmResponse
	if err := g.cfg.Peers.Call(ctx, voter, MethodConfirm, &ConfirmRequest{Shard: g.Shard()}, &resp); err != nil {
		return err
	}
	if resp.Term > term {
		return fmt.Errorf("%s is in term %d", voter, resp.Term)
	}
	return nil
}

// rounds lets callers share read index rounds. A caller must get a round that began after it came: those who
// come while one is under way form the next.
type rounds struct {
	mu      sync.Mutex
	running bool
	next    *round
}

type round struct {
	done  chan struct{}
	index uint64
	err   error
}

func (r *rounds) join(ctx context.Context, run func(context.Context) (uint64, error)) (uint64, error) {
	r.mu.Lock()
	mine := r.next
	if mine == nil {
		mine = &round{done: make(chan struct{})}
		r.next = mine
	}
	if !r.running {
		r.running = true
		go r.work(run)
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.index, mine.err
	case <-ctx.Done():
		return 0, wire.Errorf(wire.Unavailable, "read index: %v", ctx.Err())
	}
}

// work runs rounds until nobody waits.
func (r *rounds) work(run func(context.Context) (uint64, error)) {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		if now == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		now.index, now.err = run(context.Background())
		close(now.done)
	}
}
