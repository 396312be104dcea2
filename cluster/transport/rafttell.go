package transport

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// tellDelay is how long a commit waits for a request that carries it anyway.
const tellDelay = 2 * time.Millisecond

// teller lets followers know at once how far a leader has committed. Raft itself says so with its next AppendEntries, which on an
// idle shard is a timer away: a short timer costs CPU on every shard all the time, a long one makes readers elsewhere wait.
//
// What it sends is an AppendEntries without entries, built from what raft sent and the follower acknowledged:
//
//  1. Its previous entry is one that this follower has acknowledged in the term that the request names, so their logs agree up to there;
//     only a leader of a later term could change that, and then the follower refuses the request for its term.
//  2. Its commit index is at most that entry, and at most what this leader's state machine has applied.
//
// So it says nothing that raft could not have said itself in that term. Its answer is for nobody.
type teller struct {
	mu        sync.Mutex // guards the fields below
	committed uint64
	followers map[raft.ServerAddress]*follower
	pending   bool // a round is due
}

// follower is what a peer has acknowledged.
type follower struct {
	request raft.AppendEntriesRequest // the last one that it accepted, without entries
	matched uint64                    // the last entry that it has because of that
	term    uint64                    // of that entry
	told    uint64                    // highest commit index sent to it
	busy    bool                      // a request of ours is under way
}

// sent notes the commit index that a request of raft's carries.
func (t *teller) sent(target raft.ServerAddress, args *raft.AppendEntriesRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil {
		f.told = max(f.told, args.LeaderCommitIndex)
	}
}

// accepted notes what a follower has acknowledged. It reports whether there is something to tell it.
func (t *teller) accepted(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) bool {
	matched, term := args.PrevLogEntry, args.PrevLogTerm
	if n := len(args.Entries); n > 0 {
		matched, term = args.Entries[n-1].Index, args.Entries[n-1].Term
	}
	if !resp.Success || resp.Term != args.Term || matched == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[target]
	if f == nil {
		f = &follower{}
		t.followers[target] = f
	}
	if args.Term == f.request.Term && matched <= f.matched {
		return false
	}
	if args.Term < f.request.Term {
		return false
	}
	f.request = raft.AppendEntriesRequest{RPCHeader: args.RPCHeader, Term: args.Term}
	f.matched, f.term = matched, term
	f.told = max(f.told, args.LeaderCommitIndex)
	return min(t.committed, f.matched) > f.told
}

// next gives the requests that are due and marks their followers busy.
func (t *teller) next() map[raft.ServerAddress]*raft.AppendEntriesRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = false
	out := make(map[raft.ServerAddress]*raft.AppendEntriesRequest)
	for target, f := range t.followers {
		commit := min(t.committed, f.matched)
		if f.busy || commit <= f.told {
			continue
		}
		request := f.request
		request.PrevLogEntry, request.PrevLogTerm, request.LeaderCommitIndex = f.matched, f.term, commit
		f.told, f.busy = commit, true
		out[target] = &request
	}
	return out
}

// answered ends a follower's busy time. It reports whether there is more to tell.
func (t *teller) answered(target raft.ServerAddress) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[target]
	f.busy = false
	return min(t.committed, f.matched) > f.told
}

// due reports whether a round must be started, at most one at a time.
func (t *teller) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending {
		return false
	}
	t.pending = true
	return true
}

// Committed is to be called by a leader whose state machine has applied everything up to index: followers are told soon.
func (g *raftGroup) Committed(index uint64) {
	g.teller.mu.Lock()
	g.teller.committed = max(g.teller.committed, index)
	g.teller.mu.Unlock()
	g.tellSoon()
}

func (g *raftGroup) tellSoon() {
	if g.teller.due() {
		time.AfterFunc(tellDelay, g.tell)
	}
}

// tell sends what is due. A request that does not arrive is made good by raft's own timer.
func (g *raftGroup) tell() {
	for target, request := range g.teller.next() {
		if !g.n.spawn(func() { g.tellOne(target, request) }) {
			return
		}
	}
}

func (g *raftGroup) tellOne(target raft.ServerAddress, request *raft.AppendEntriesRequest) {
	ctx, cancel := context.WithTimeout(g.ctx, g.n.cfg.timing.vote)
	defer cancel()
	if p, err := g.n.peer(string(target)); err == nil {
		if link, err := p.raft.get(ctx); err == nil {
			var resp raft.AppendEntriesResponse
			if call, err := link.start(ctx, g.shard, request, &resp, false); err == nil {
				_ = link.wait(ctx, nil, call) // an answer or none, raft need not know
			}
		}
	}
	if g.teller.answered(target) && g.ctx.Err() == nil {
		g.tellSoon()
	}
}
