package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// A group that has lost its majority for ever goes on from one replica, the survivor. Steps, at its node:
//
//  1. The replica stops. It is refused unless it still ends where it ended when it was chosen.
//  2. Its term is raised far beyond any that a voter can have seen. Raising a term is always allowed: a crash after it leaves the old group.
//  3. One append to its log takes it over: an entry by which it is the only voter, the other survivors learning, and the commands that have to come before all
//     else. It is one frame of the journal, so a crash leaves all of it or nothing.
//  4. The replica starts again, elects itself and commits what its log holds.
//
// The survivor has the best log of those that are left, as Raft compares logs, so it has every entry that any of them has applied: an applied entry was
// committed, every leader of a later term had it (leader completeness), and of two logs that end in the same term one begins with the other. So the others may
// follow as learners, and what they have applied stays true. What only the lost ones had is lost; who says that they are lost answers for it.
//
// A lost one that comes back knows nothing of step 3: its Raft messages have to be refused from before it on (transport.Net.SetFenced).

// ahead is by how much step 2 raises the term: those who are declared lost, and live, may be in an election meanwhile.
const ahead = 1 << 16

// Report is what a node says of its replica of a shard, for who looks for a survivor.
type Report struct {
	Shard    uint32   `cbor:"1,keyasint"`
	Voters   []string `cbor:"2,keyasint,omitempty"` // as its log has them
	Learners []string `cbor:"3,keyasint,omitempty"`
	Leads    bool     `cbor:"4,keyasint,omitempty"`
	Term     uint64   `cbor:"5,keyasint,omitempty"` // that it has seen
	LastTerm uint64   `cbor:"6,keyasint,omitempty"` // of its last entry
	Last     uint64   `cbor:"7,keyasint,omitempty"`
	Applied  uint64   `cbor:"8,keyasint,omitempty"`
	Time     int64    `cbor:"9,keyasint,omitempty"`  // unix seconds of the last command in its log; 0: there is none
	Filled   bool     `cbor:"10,keyasint,omitempty"` // it has had all that a leader had
	Short    bool     `cbor:"11,keyasint,omitempty"` // it lacks what an erased replica had at its node, so it does not vote
	Broken   string   `cbor:"12,keyasint,omitempty"` // why it applies nothing, or its log cannot be read

	First     uint64 `cbor:"13,keyasint,omitempty"` // entry of its log
	FirstTime int64  `cbor:"14,keyasint,omitempty"` // of the first command in its log
}

// Votes says whether a majority may count on it.
func (r *Report) Votes() bool { return r.Filled && !r.Short && r.Broken == "" }

// timeSearch bounds how many entries Report looks through for the last command.
const timeSearch = 1000

// Report describes this replica. One that believes to lead is asked until a majority has confirmed it, or it believes so no longer, at most until ctx ends: a
// leader that lost its followers takes the lease's time to notice.
func (g *Group) Report(ctx context.Context) *Report {
	for g.raft.State() == raft.Leader && ctx.Err() == nil {
		if _, err := g.ReadIndex(ctx); err == nil {
			break
		}
		select {
		case <-time.After(officePause):
		case <-ctx.Done():
		}
	}
	members := g.Members()
	r := &Report{
		Shard: g.Shard(), Voters: members.Voters, Learners: members.Learners, Leads: g.raft.State() == raft.Leader, Term: g.raft.CurrentTerm(),
		Applied: g.Applied(), Filled: g.holds(), Short: g.mayVote() != nil,
	}
	at := g.last()
	r.LastTerm, r.Last = at.term, at.index
	var failed error
	if r.First, failed = g.log.FirstIndex(); failed == nil {
		r.Time, failed = g.timeOf(at.index, r.First, -1)
	}
	if failed == nil {
		r.FirstTime, failed = g.timeOf(r.First, at.index, +1)
	}
	if err := errors.Join(g.Err(), failed); err != nil {
		r.Broken = err.Error()
	}
	return r
}

// End is where the log of a replica ends that does not run; 0 and 0 if that cannot be read.
func (l *Logs) End(shard uint32) (term, last uint64) {
	log := l.group(shard)
	last, err := log.LastIndex()
	var e raft.Log
	if err == nil {
		err = log.GetLog(last, &e)
	}
	if err != nil {
		return 0, 0
	}
	return e.Term, last
}

// holds says whether the replica is a real one. Unlike Filled it is true of a shard that never saw a command.
func (g *Group) holds() bool { return !g.unfilled.Load() && g.last().index > 0 }

// timeOf is when the first command was proposed that is met on the way from one entry of the log to another, 0 if none is near. Those that this program cannot
// read, of a newer one, say nothing.
func (g *Group) timeOf(from, to uint64, step int) (int64, error) {
	var e raft.Log
	for i, seen := from, 0; seen < timeSearch && i > 0; i, seen = i+uint64(step), seen+1 {
		err := g.log.GetLog(i, &e)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read the log of shard %d: %w", g.Shard(), err)
		}
		if e.Type == raft.LogCommand {
			if c, err := DecodeCommand(e.Data); err == nil {
				return c.Now, nil
			}
		}
		if i == to {
			break
		}
	}
	return 0, nil
}

// Rescue asks the survivor's node to have it go on alone.
type Rescue struct {
	Shard    uint32   `cbor:"1,keyasint"`
	LastTerm uint64   `cbor:"2,keyasint"` // where the replica ended when it was chosen
	Last     uint64   `cbor:"3,keyasint"`
	Term     uint64   `cbor:"4,keyasint"`           // the latest that any survivor has seen
	Learners []string `cbor:"5,keyasint,omitempty"` // the others
	Commands [][]byte `cbor:"6,keyasint,omitempty"` // bodies of what is to be applied before all else
}

// Rescue is steps 2 and 3, for a replica that has been stopped. Errors of kind wire.ErrInvalid leave it as it was; after others it is as it was or taken over,
// which its next start shows.
func (g *Group) Rescue(r Rescue, now int64) error {
	if have := g.last(); have != (position{r.LastTerm, r.Last}) {
		return wire.Errorf(wire.Invalid, "shard %d: the replica ends at entry %d of term %d now, not at %d of %d: look at the cluster again",
			g.Shard(), have.index, have.term, r.Last, r.LastTerm)
	}
	if !g.holds() {
		return wire.Errorf(wire.Invalid, "shard %d: the replica never had all that its leader had", g.Shard())
	}
	name := []byte("CurrentTerm") // raft's name for it
	term, err := g.log.GetUint64(name)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("rescue shard %d: read its term: %w", g.Shard(), err)
	}
	term = max(term, r.Term, r.LastTerm) + ahead
	if err := g.log.SetUint64(name, term); err != nil { // step 2
		return fmt.Errorf("rescue shard %d: raise its term: %w", g.Shard(), err)
	}
	members := membership(placement.Group{Voters: []string{g.cfg.Self}, Learners: r.Learners})
	entries := []*raft.Log{{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(members)}}
	for _, body := range r.Commands {
		c := Command{Level: feature.Moves, ID: NewRequestID(), Now: now, Body: body} // recovery is refused below that level
		entries = append(entries, &raft.Log{Type: raft.LogCommand, Data: c.Encode()})
	}
	for i, e := range entries {
		e.Index, e.Term, e.AppendedAt = r.Last+1+uint64(i), term, time.Unix(now, 0)
	}
	if err := g.log.StoreLogs(entries); err != nil { // step 3
		return fmt.Errorf("rescue shard %d: append to its log: %w", g.Shard(), err)
	}
	return nil
}

// StandAlone is step 4's election, of a replica that is the only voter: it need not wait for anybody's silence.
func (g *Group) StandAlone(ctx context.Context) {
	g.standKnowing(ctx, nil, "the only voter that is left")
}
