package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// A group's membership changes one replica at a time, by entries of its own log (raft's single-server changes). Steps of a replica that moves:
//
//  1. The node opens an empty one that Joins (MethodOpen of package cluster); nothing is asked of it yet.
//  2. AddLearner: the leader sends it log or snapshot. It has no vote, so nobody waits for it.
//  3. Promote, once it lags by at most homeLag entries.
//  4. Remove the replica that goes; a leader hands leadership over first.
//  5. The node that had it is told to Erase it, and does when the leader says that it is no member.
//
// A crash of anybody leaves a membership that works; whoever looks after placement goes on from what the log says.

// How long a change may take. One that is not committed by then may still be.
const (
	changeTimeout = 10 * time.Second
	enterTimeout  = time.Second // for raft to take it
)

// MethodMembers asks a leader for the membership, MethodChange for one change of it.
const (
	MethodMembers = "shard.members"
	MethodChange  = "shard.change"
)

// MembersRequest asks the leader.
type MembersRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// MembersResponse is the membership, committed, by a node that led after it was asked.
type MembersResponse struct {
	Group placement.Group `cbor:"1,keyasint"`
}

// ChangeRequest asks the leader for a step, if the members are Now's.
type ChangeRequest struct {
	Step placement.Step  `cbor:"1,keyasint"`
	Now  placement.Group `cbor:"2,keyasint"`
}

// ChangeResponse is the membership after the change.
type ChangeResponse struct {
	Group placement.Group `cbor:"1,keyasint"`
}

// Members asks a shard's leader for the membership. It is looked for among likely's voters too: this node's replica may have been left behind.
func (r *Router) Members(ctx context.Context, shard uint32, likely placement.Group) (placement.Group, error) {
	var resp MembersResponse
	err := r.atLeaderOf(ctx, shard, likely, MethodMembers, &MembersRequest{Shard: shard}, &resp)
	return resp.Group, err
}

// Change has a shard's leader take one step. It is refused (wire.ErrInvalid) if the members are not now's, and put off (wire.ErrUnavailable)
// while a learner that should vote lags. After any other error the step may have been taken.
func (r *Router) Change(ctx context.Context, step placement.Step, now placement.Group) (placement.Group, error) {
	var resp ChangeResponse
	err := r.AtLeader(ctx, step.Shard, MethodChange, &ChangeRequest{Step: step, Now: now}, &resp)
	return resp.Group, err
}

func (h *Host) members(ctx context.Context, _ string, req *MembersRequest) (*MembersResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	before := g.Members() // perhaps of an entry that is not committed
	if _, err := g.ReadIndex(ctx); err != nil {
		return nil, err
	}
	if err := g.await(ctx, g.raft.Barrier(enterTimeout)); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "shard %d: %v", req.Shard, err)
	}
	if now := g.Members(); !sameMembers(before, now) {
		return nil, wire.Errorf(wire.Unavailable, "shard %d: the members change", req.Shard)
	}
	return &MembersResponse{Group: before}, nil
}

func (h *Host) change(ctx context.Context, from string, req *ChangeRequest) (*ChangeResponse, error) {
	g, err := h.find(req.Step.Shard)
	if err != nil {
		return nil, err
	}
	if err := g.change(ctx, req.Step, req.Now); err != nil {
		return nil, fmt.Errorf("%v, asked for by %s: %w", req.Step, from, err)
	}
	return &ChangeResponse{Group: g.Members()}, nil
}

// sameMembers compares regardless of order.
func sameMembers(a, b placement.Group) bool {
	same := func(x, y []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
	}
	return same(a.Voters, b.Voters) && same(a.Learners, b.Learners)
}

// change takes one step at this leader and returns when it is committed. One at a time: the lock makes the comparison with now count.
func (g *Group) change(ctx context.Context, step placement.Step, now placement.Group) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if step.Kind == placement.AddLearner && g.IsLeader() {
		g.summarize(ctx)
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return wire.FromError(err)
	}
	if !g.IsLeader() {
		return g.notLeader()
	}
	if have := g.Members(); !sameMembers(have, now) {
		return wire.Errorf(wire.Invalid, "the members of shard %d are %v with learners %v, not %v with %v", g.Shard(), have.Voters, have.Learners, now.Voters, now.Learners)
	}
	id, address := raft.ServerID(step.Node), raft.ServerAddress(step.Node)
	var f raft.IndexFuture
	switch step.Kind {
	case placement.AddLearner:
		if t, ok := g.cfg.Transport.(lapsing); ok {
			t.Forget(step.Node)
		}
		f = g.raft.AddNonvoter(id, address, 0, enterTimeout)
	case placement.Promote:
		if !g.caughtUp(ctx, step.Node) {
			return wire.Errorf(wire.Unavailable, "shard %d: %s has not caught up", g.Shard(), step.Node)
		}
		f = g.raft.AddVoter(id, address, 0, enterTimeout)
	case placement.Demote, placement.Remove:
		if step.Node == g.cfg.Self {
			g.leaveTo(ctx, errors.New("its replica is to go"))
			return g.notLeader()
		}
		if step.Kind == placement.Demote {
			f = g.raft.DemoteVoter(id, 0, enterTimeout)
		} else {
			f = g.raft.RemoveServer(id, 0, enterTimeout)
		}
	default:
		return wire.Errorf(wire.Invalid, "%v is a step that this version does not know", step)
	}
	if err := g.await(ctx, f); err != nil {
		return wire.Errorf(wire.Unavailable, "shard %d: %v", g.Shard(), err)
	}
	g.cfg.Log.Info("membership changed", "shard", g.Shard(), "step", step.String(), "voters", g.Members().Voters)
	return nil
}

// summarize takes a snapshot if the last one is long ago, for a replica that is made: it is to get the state, not every command since.
func (g *Group) summarize(ctx context.Context) {
	if applied := g.Applied(); applied < g.snaps.listed().Index+freshLog {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout/2) // the change itself needs some of the time
	defer cancel()
	err := g.await(ctx, future(func() error { // raft.Snapshot itself waits while another one is taken
		_, err, _ := g.summaries.Do("", func() (any, error) { return nil, g.raft.Snapshot().Error() })
		return err
	}))
	if err != nil {
		g.cfg.Log.Info("a new replica gets a longer log than it could have", "shard", g.Shard(), "err", err)
	}
}

// future is a raft.Future of something that is done when it is waited for.
type future func() error

// Error implements raft.Future.
func (f future) Error() error { return f() }

// stateFirst is a group's log as raft reads it. A replica that has nothing asks for the first entry, and nobody else does where a snapshot is listed: it is
// sent the state, unless the commands that made it are few. A log that is long enough lacks its first entries anyway.
type stateFirst struct {
	*groupLog
	snaps *snapshotStore
}

// GetLog implements raft.LogStore.
func (l *stateFirst) GetLog(index uint64, entry *raft.Log) error {
	if index == 1 && l.snaps.listed().Index >= freshLog {
		return raft.ErrLogNotFound
	}
	return l.groupLog.GetLog(index, entry)
}
