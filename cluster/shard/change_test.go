package shard

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
	"hongyan/engine/atrest"
	"hongyan/engine/codec"
	"hongyan/engine/durable"
)

// take asks for a step until it is taken, as the mover does.
func take(t *testing.T, by *member, kind placement.StepKind, node string) placement.Group {
	t.Helper()
	var after placement.Group
	step := placement.Step{Shard: testShard, Kind: kind, Node: node}
	eventually(t, fmt.Sprintf("%v taken", step), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		now, err := by.router.Members(ctx, testShard, placement.Group{})
		if err != nil {
			return false
		}
		after, err = by.router.Change(ctx, step, now)
		return err == nil
	})
	return after
}

// join makes an empty replica.
func (m *member) join(t *testing.T) {
	t.Helper()
	m.cfg.Joins, m.cfg.Founds = true, false
	m.start(t)
}

// erase ends the replica and forgets it.
func (m *member) erase(t *testing.T) {
	t.Helper()
	must(t, m.host.Remove(testShard))
	must(t, Erase(m.cfg.Logs, m.cfg.Dir, testShard, m.cfg.Store))
	must(t, m.cfg.Logs.Close())
	m.group = nil
}

// leave ends the replica, as if its node were down.
func (m *member) leave(t *testing.T) {
	t.Helper()
	must(t, m.host.Remove(testShard))
	must(t, m.cfg.Logs.Close())
	m.group = nil
}

// writer proposes names of its own until it is stopped, and says how many were acknowledged.
type writer struct {
	names []string
	stop  func()
	work  sync.WaitGroup
}

func write(t *testing.T, by *member) *writer {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{stop: cancel}
	w.work.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("written %d", i)
			if _, _, err := by.router.Propose(ctx, testShard, []byte(name), ForPeople); err == nil {
				w.names = append(w.names, name)
			} else if ctx.Err() == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return w
}

func (w *writer) end() []string {
	w.stop()
	w.work.Wait()
	return w.names
}

// TestMoveReplica moves all three replicas of a group to three other nodes while a client writes: nothing is refused, lost or doubled, and what is left
// behind is erased.
func TestMoveReplica(t *testing.T) {
	members := startWith(t, 3, 3)
	leaderOf(t, members[:3]).propose(t, "x")
	w := write(t, members[3])
	for i := range 3 {
		from, to := members[i], members[i+3]
		to.join(t)
		take(t, members[4], placement.AddLearner, to.id)
		take(t, members[4], placement.Promote, to.id)
		after := take(t, members[4], placement.Remove, from.id)
		if !slices.Contains(after.Voters, to.id) || after.Holds(from.id) {
			t.Errorf("after the move from %s to %s: %v", from.id, to.id, after)
		}
		from.erase(t)
	}
	names := w.end()
	if len(names) < 10 {
		t.Errorf("%d writes", len(names))
	}
	lead := leaderOf(t, members[3:])
	if n := lead.propose(t, "x"); n != 2 {
		t.Errorf("what was written before the moves counts %d", n)
	}
	for _, m := range members[3:] {
		eventually(t, m.id+" has all", func() bool { return m.group.Applied() == lead.group.Applied() })
		for _, name := range names {
			if n := stored(t, m.cfg.Store, name); n != 1 {
				t.Errorf("%s has %q %d times", m.id, name, n)
			}
		}
	}
	for _, m := range members[:3] {
		if at, err := m.cfg.Store.Applied(); err != nil || at != 0 {
			t.Errorf("%s holds entries up to %d, %v", m.id, at, err)
		}
	}
}

// TestMoveBySnapshot fills a replica that needs more than the log has, and one that comes back to a node that had it before.
func TestMoveBySnapshot(t *testing.T) {
	members := startWith(t, 3, 1)
	lead := leaderOf(t, members[:3])
	for range 3 {
		lead.propose(t, "heavy") // too much for memory: flushed
	}
	lead.propose(t, "x")
	spare := members[3]
	for round := range 2 {
		must(t, lead.group.raft.Snapshot().Error())
		conf := lead.group.raft.ReloadableConfig()
		conf.TrailingLogs = 1
		must(t, lead.group.raft.ReloadConfig(conf))
		lead.propose(t, "more")
		must(t, lead.group.raft.Snapshot().Error())
		spare.join(t)
		take(t, lead, placement.AddLearner, spare.id)
		eventually(t, "the new replica has all", func() bool { return spare.group.Applied() == lead.group.Applied() })
		if n := stored(t, spare.cfg.Store, "x"); n != 1 {
			t.Errorf("round %d: %d", round, n)
		}
		take(t, lead, placement.Promote, spare.id)
		take(t, lead, placement.Demote, spare.id)
		take(t, lead, placement.Remove, spare.id)
		spare.erase(t)
	}
}

// TestNewReplicaGetsState makes replicas of groups with few and with many commands: of many the state is sent, so that they are not all applied again.
func TestNewReplicaGetsState(t *testing.T) {
	for _, commands := range []int{20, freshLog + 20} {
		members := startWith(t, 3, 1)
		lead, spare := leaderOf(t, members[:3]), members[3]
		var work sync.WaitGroup
		for by := range 8 {
			work.Go(func() {
				for range commands / 8 {
					if _, _, err := lead.router.Propose(t.Context(), testShard, fmt.Appendf(nil, "by %d", by), ForPeople); err != nil {
						t.Error(err)
					}
				}
			})
		}
		work.Wait()
		lead.propose(t, "x")
		spare.join(t)
		take(t, lead, placement.AddLearner, spare.id)
		lead.propose(t, "x")
		eventually(t, "the new replica has all", func() bool { return spare.group.Applied() == lead.group.Applied() })
		for by := range 8 {
			if n := stored(t, spare.cfg.Store, fmt.Sprintf("by %d", by)); n != uint64(commands/8) {
				t.Errorf("%d commands: %d by %d", commands, n, by)
			}
		}
		if n := stored(t, spare.cfg.Store, "x"); n != 2 {
			t.Errorf("%d commands: x is %d", commands, n)
		}
		if commands > freshLog { // what was sent is listed after it was put in place
			eventually(t, "a snapshot is listed", func() bool { return spare.group.snaps.listed().Index >= freshLog })
		} else if at := spare.group.snaps.listed().Index; at != 0 {
			t.Errorf("%d commands: the state was sent, up to %d", commands, at)
		}
		take(t, lead, placement.Promote, spare.id)
	}
}

// TestChangeIsRefused holds that a step is taken only for the members that it was computed for, by the leader, and that a learner that lags gets no vote.
func TestChangeIsRefused(t *testing.T) {
	members := startWith(t, 3, 2)
	lead := leaderOf(t, members[:3])
	ctx := t.Context()
	now := lead.group.Members()
	stale := now
	stale.Voters = stale.Voters[:2]
	if err := lead.group.change(ctx, placement.Step{Shard: testShard, Kind: placement.Remove, Node: now.Voters[2]}, stale); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("for other members: %v", err)
	}
	follower := others(members[:3], lead)[0]
	if err := follower.group.change(ctx, placement.Step{Shard: testShard, Kind: placement.Remove, Node: lead.id}, now); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("by a follower: %v", err)
	}
	after := take(t, lead, placement.AddLearner, "v4") // which has no replica
	if err := lead.group.change(ctx, placement.Step{Shard: testShard, Kind: placement.Promote, Node: "v4"}, after); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("a learner that has nothing: %v", err)
	}
	if !slices.Equal(lead.group.Members().Voters, now.Voters) {
		t.Errorf("voters %v", lead.group.Members().Voters)
	}
	lead.propose(t, "x")
}

// TestLeaderGoes removes the leader: it hands over first, so that who writes meanwhile waits for no election timeout.
func TestLeaderGoes(t *testing.T) {
	members := startWith(t, 4, 0)
	lead := leaderOf(t, members)
	lead.propose(t, "x")
	began := time.Now()
	after := take(t, others(members, lead)[0], placement.Remove, lead.id)
	if after.Holds(lead.id) || len(after.Voters) != 3 {
		t.Errorf("members %v", after)
	}
	if n := others(members, lead)[1].propose(t, "x"); n != 2 {
		t.Errorf("counted %d", n)
	}
	t.Logf("removed and written after %v", time.Since(began))
	lead.erase(t)
}

// TestLeftBehind has a replica that was down when it was removed find the leader all the same, for reads and writes of its node, and erases it.
func TestLeftBehind(t *testing.T) {
	members := startWith(t, 3, 3)
	lead := leaderOf(t, members[:3])
	lead.propose(t, "x")
	behind := others(members[:3], lead)[0]
	behind.leave(t)
	for _, m := range members[3:] {
		m.join(t)
		take(t, members[3], placement.AddLearner, m.id)
		take(t, members[3], placement.Promote, m.id)
	}
	for _, m := range members[:3] {
		take(t, members[3], placement.Remove, m.id)
		if m != behind {
			m.erase(t)
		}
	}
	behind.start(t) // with the members of then
	now, err := members[3].router.Members(t.Context(), testShard, placement.Group{})
	must(t, err)
	behind.router.SetGroups([]placement.Group{now})
	if n := behind.propose(t, "x"); n != 2 {
		t.Errorf("counted %d", n)
	}
	again, err := behind.router.Members(t.Context(), testShard, placement.Group{})
	must(t, err)
	if again.Holds(behind.id) {
		t.Errorf("members %v", again)
	}
	behind.erase(t)
}

// TestErasedDoesNotVote has a member that was left behind ask for the vote of a replica that was erased and made anew: it counted for that one's group once, and
// must not help to elect somebody who lacks what it acknowledged.
func TestErasedDoesNotVote(t *testing.T) {
	members := startWith(t, 3, 1)
	lead := leaderOf(t, members[:3])
	lead.propose(t, "x")
	rest := others(members[:3], lead)
	behind, erased := rest[0], rest[1]
	eventually(t, "all have the first entry", func() bool { return behind.group.Applied() == lead.group.Applied() })
	behind.leave(t)
	spare := members[3]
	spare.join(t)
	take(t, spare, placement.AddLearner, spare.id)
	take(t, spare, placement.Promote, spare.id)
	take(t, spare, placement.Remove, erased.id)
	erased.erase(t)
	lead.propose(t, "acknowledged without either")
	erased.join(t) // and is not a member yet
	lead.leave(t)
	behind.start(t)
	e, ok := behind.cfg.Transport.(elector)
	if !ok {
		t.Fatal("the transport starts no elections")
	}
	for range 5 { // past pre-vote
		must(t, e.Elect(t.Context(), 0, nil))
		if pause.For(t.Context(), 200*time.Millisecond); behind.group.raft.State() == raft.Leader {
			t.Fatal("the vote of an erased replica elected a member without what was acknowledged")
		}
	}
	lead.start(t)
	if n := leaderOf(t, []*member{lead, spare}).propose(t, "acknowledged without either"); n != 2 {
		t.Errorf("counted %d", n)
	}
}

// TestEraseIsResumed goes on with what a crash interrupted, and the term survives it.
func TestEraseIsResumed(t *testing.T) {
	members := startGroup(t, 1)
	m := members[0]
	leaderOf(t, members).propose(t, "x")
	term := m.group.raft.CurrentTerm()
	m.leave(t)
	m.openLogs(t)
	must(t, mark(vfs.Default, m.cfg.Dir, goneName)) // as far as Erase came
	data := filepath.Dir(filepath.Dir(m.cfg.Dir))
	kept, gone, err := Replicas(vfs.Default, data)
	must(t, err)
	if len(kept) != 0 || !slices.Equal(gone, []uint32{testShard}) {
		t.Fatalf("kept %v, gone %v", kept, gone)
	}
	behind := position{term: term + 1, index: 1 << 20} // of a snapshot that the log does not reach
	record, err := codec.Marshal(&snapshotRecord{Version: 1, Term: behind.term, Index: behind.index})
	must(t, err)
	sealed := m.cfg.Logs.key.FS(vfs.Default)
	must(t, durable.Replace(sealed, sealed.PathJoin(m.cfg.Dir, snapshotDir, recordName), record, vfs.WriteCategoryUnspecified))
	must(t, Erase(m.cfg.Logs, m.cfg.Dir, testShard, m.cfg.Store))
	must(t, m.cfg.Logs.Close())
	if floor, err := readFloor(vfs.Default, m.cfg.Dir); err != nil || floor != behind {
		t.Errorf("floor %+v, %v; want %+v", floor, err, behind)
	}
	if kept, gone, err = Replicas(vfs.Default, data); err != nil || len(kept)+len(gone) != 0 {
		t.Errorf("kept %v, gone %v, %v", kept, gone, err)
	}
	logs, err := OpenLogs(filepath.Dir(m.cfg.Dir), atrest.NewKey([32]byte{7}), m.cfg.Log)
	must(t, err)
	defer func() { must(t, logs.Close()) }()
	if now, err := logs.group(testShard).GetUint64([]byte("CurrentTerm")); err != nil || now != term {
		t.Errorf("term %d, %v, was %d", now, err, term)
	}
	if last, err := logs.group(testShard).LastIndex(); err != nil || last != 0 {
		t.Errorf("the log ends at %d, %v", last, err)
	}
}
