package transport

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// tellDelay is how long a commit waits for a request that carries it anyway.
const tellDelay = 2 * time.Millisecond

// teller lets followers know at once how far a leader has committed. Raft itself says so with its next AppendEntries, which on an
// idle shard is a timer away: a short timer costs CPU on every shard all the time, a long one makes readers elsewhere wait.
// What a follower has missed, for a lost request or a restart, shows in its answers to heartbeats, and it is told again.
//
// What it sends is an AppendEntries without entries, built from what raft sent and the follower acknowledged:
//
//  1. Its previous entry is one that this follower has acknowledged in the term that the request names, so their logs agree up to there;
//     only a leader of a later term could change that, and then the follower refuses the request for its term.
//  2. Its commit index is at most that entry, and at most what this leader's state machine has applied.
//
// So it says nothing that raft could not have said itself in that term. Its answer is for nobody.
//
// A follower that restarts with less than it has acknowledged in the term, since its disk lost some or is an older copy, shows in its answers too (lapsed).
//
// In turn the AppendEntries that raft sends at each of its timers need not travel while a follower is known to have all that they say (idle).
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
	alive   bool                      // it answered the latest heartbeat, of the term that request names, with what follows:
	last    uint64                    // the last entry that it has, in its log
	knows   uint64                    // highest commit index that it has heard of
	busy    bool                      // a request of ours is under way

	kept   uint64    // the last entry that it has acknowledged and that was committed by then, in whatever term: its log will always have it
	keptAt time.Time // when that became known
}

// keep notes that a follower has acknowledged what a leader had committed. It is called under mu.
func (f *follower) keep(entry uint64) {
	if entry > f.kept {
		f.kept, f.keptAt = entry, time.Now()
	}
}

// kept gives what a follower has acknowledged of what was committed, and since when that is known. It outlives this leader's office.
func (t *teller) kept(target raft.ServerAddress) (entry uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil {
		return f.kept, f.keptAt
	}
	return 0, time.Time{}
}

// sent notes the commit index that a request of raft's carries.
func (t *teller) sent(target raft.ServerAddress, args *raft.AppendEntriesRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil {
		f.told = max(f.told, args.LeaderCommitIndex)
	}
}

// after gives the term in which a follower acknowledged an entry last, and the number of the one after it.
func (t *teller) after(target raft.ServerAddress) (term, next uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil {
		return f.request.Term, f.matched + 1
	}
	return 0, 0
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
	f.keep(min(matched, args.LeaderCommitIndex))
	if args.Term == f.request.Term && matched <= f.matched {
		return false
	}
	if args.Term < f.request.Term {
		return false
	}
	f.alive = f.alive && args.Term == f.request.Term
	f.request = raft.AppendEntriesRequest{RPCHeader: args.RPCHeader, Term: args.Term}
	f.matched, f.term = matched, term
	f.told = max(f.told, args.LeaderCommitIndex)
	return min(t.committed, f.matched) > f.told
}

// heard notes a follower's answer to a heartbeat. It reports whether there is something to tell it: its restart made it forget, or a
// request did not arrive. One that is under way makes it look so too; then it hears the same twice.
func (t *teller) heard(target raft.ServerAddress, term uint64, answer wire.BeatAnswer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[target]
	if f == nil || f.request.Term != term {
		return false
	}
	f.alive = answer.Success && answer.Term == term
	if !f.alive {
		return false
	}
	f.last, f.knows, f.told = answer.Last, answer.Heard, answer.Heard
	return !f.busy && min(t.committed, f.matched) > f.told
}

// memory is what a follower had acknowledged when a request to it was sent.
type memory struct {
	f    *follower
	term uint64
	had  uint64
}

// acknowledged gives what a follower has acknowledged in a term up to now.
func (t *teller) acknowledged(target raft.ServerAddress, term uint64) (m memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil && f.request.Term == term {
		m = memory{f, term, f.matched}
	}
	return m
}

// lapsed reports whether the answer to a request that was sent after acknowledged gave m says of a log that ended before, as none can that has kept what
// it acknowledged in that term.
func (t *teller) lapsed(target raft.ServerAddress, m memory, term, last uint64) bool {
	if m.f == nil || term != m.term || last >= m.had {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.followers[target] == m.f // else its replica was made anew meanwhile
}

// forget ends the memory of a follower whose replica is made anew.
func (t *teller) forget(target raft.ServerAddress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.followers, target)
}

// missed notes that a follower did not answer a heartbeat.
func (t *teller) missed(target raft.ServerAddress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil {
		f.alive = false
	}
}

// idle reports whether a request of raft's says nothing that the follower does not know: it is without entries, the follower has acknowledged the
// entry before in this term, and has said since, in answer to a heartbeat, that it has it and has heard of the commit index. A restart or
// the loss of its log would show in its next answer, and the request after that travels.
func (t *teller) idle(target raft.ServerAddress, args *raft.AppendEntriesRequest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[target]
	return f != nil && f.alive && len(args.Entries) == 0 && args.Term == f.request.Term &&
		args.PrevLogEntry <= min(f.matched, f.last) && args.LeaderCommitIndex <= f.knows
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
	if f == nil {
		return false
	}
	f.busy = false
	return min(t.committed, f.matched) > f.told
}

// took notes the answer to a request of next.
func (t *teller) took(target raft.ServerAddress, request *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.followers[target]; f != nil && resp.Success && resp.Term == request.Term {
		f.keep(request.LeaderCommitIndex)
	}
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

// tell sends what is due. A request that does not arrive shows at the next heartbeat.
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
				if err := link.wait(ctx, nil, call); err == nil { // an answer or none, raft need not know
					g.teller.took(target, request, &resp)
				}
			}
		}
	}
	if g.teller.answered(target) && g.ctx.Err() == nil {
		g.tellSoon()
	}
}
