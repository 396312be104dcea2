package transport

import (
	"maps"
	"slices"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// A leader's raft has a new entry on its own disk before it sends it to anyone, so a commit takes two fsyncs one after the other. Ahead sends it while the
// leader's disk is at work (Ongaro, "Consensus: bridging theory and practice", section 10.2.1):
//
//  1. What is sent is the AppendEntries that raft will ask for: the same term, previous entry and entries, on the same connection, in order. A
//     follower may have an entry before its leader has; the leader counts itself only when it has stored it.
//  2. When raft comes to send them, the request is not sent again: its future waits for the answer to the early one. So raft hears of no answer before
//     its own disk is done.
//  3. Only who is up to date gets them, by a pipeline that raft has in use, in the term for which it made it. Else raft sends them as ever.
//  4. It never waits: where there is no room, nothing is sent.

// early is a request that went out before raft asked for it.
type early struct {
	args  *raft.AppendEntriesRequest
	call  *raftCall
	known memory // of the follower when it was sent
}

func (e early) last() uint64 { return e.args.Entries[len(e.args.Entries)-1].Index }

// Ahead sends followers what raft, which leads in the entries' term, is about to store. before is the entry before them, committed what is committed.
func (g *raftGroup) Ahead(before *raft.Log, committed uint64, entries []*raft.Log) {
	g.mu.Lock()
	pipes := slices.Collect(maps.Values(g.pipes))
	g.mu.Unlock()
	if len(pipes) == 0 {
		return
	}
	args := &raft.AppendEntriesRequest{
		RPCHeader: raftHeader(g.n.cfg.ID), Term: entries[0].Term,
		PrevLogEntry: before.Index, PrevLogTerm: before.Term, Entries: entries, LeaderCommitIndex: committed,
	}
	payload, err := wire.EncodeRaft(nil, args)
	if err != nil || len(payload) > wire.MaxPiece {
		return // raft will meet the error; many bytes are not waited for less
	}
	for _, p := range pipes {
		p.ahead(args, payload)
	}
}

// ahead sends a request of Ahead's if it follows what this pipeline has sent.
func (p *pipeline) ahead(args *raft.AppendEntriesRequest, payload []byte) {
	if !p.mu.TryLock() {
		return // raft is sending
	}
	defer p.mu.Unlock()
	if args.Term != p.term || args.PrevLogEntry+1 != p.next || len(p.early) == maxPipelined {
		return
	}
	known := p.g.teller.acknowledged(p.target, args.Term)
	if call := p.link.tryStart(p.g.shard, payload, new(raft.AppendEntriesResponse)); call != nil {
		e := early{args, call, known}
		p.early = append(p.early, e)
		p.next = e.last() + 1
		p.g.teller.sent(p.target, args)
	}
}

// claim finds the early request that has the last entry of raft's, if there is one, and lets go of those before. When a follower has accepted that one its log agrees with the
// leader's up to there. p.mu is held.
func (p *pipeline) claim(args *raft.AppendEntriesRequest) (e early, ok bool) {
	n := len(args.Entries)
	if n == 0 || args.Term != p.term {
		return early{}, false
	}
	last := args.Entries[n-1].Index
	for len(p.early) > 0 {
		e = p.early[0]
		if e.last() > last {
			return e, true
		}
		p.early = p.early[1:]
		if e.last() == last {
			return e, true
		}
	}
	return early{}, false
}
