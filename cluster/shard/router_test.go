package shard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// Every node's router finds the leader, and follows it when it moves or goes.
func TestRouterFollowsTheLeader(t *testing.T) {
	members := startGroup(t, 3)
	first := leaderOf(t, members)
	want := uint64(0)
	everybody := func(of []*member) {
		t.Helper()
		for _, m := range of {
			want++
			if n := m.propose(t, "x"); n != want {
				t.Fatalf("%s counted %d, want %d", m.id, n, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			at, err := m.router.ReadIndex(ctx, testShard)
			cancel()
			must(t, err)
			must(t, m.group.WaitApplied(t.Context(), at))
			if n := stored(t, m.cfg.Store, "x"); n != want {
				t.Fatalf("%s read %d after an acknowledged %d", m.id, n, want)
			}
		}
	}
	everybody(members)
	second := others(members, first)[0]
	must(t, first.group.handOver(t.Context(), second.id))
	everybody(members)
	second.stop(t)
	everybody(others(members, second))
	second.start(t)
	everybody(members)
}

// A node without a replica goes by hints and by what it learned.
func TestRouterWithoutReplica(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	asked := &hookedPeers{Peers: leader.net}
	outside := NewRouter("elsewhere", asked, &Host{}, []placement.Group{members[0].cfg.Group})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range uint64(3) {
		before := asked.calls.Load()
		b, _, err := outside.Propose(ctx, testShard, []byte("x"), ForPeople)
		must(t, err)
		if count(b) != i+1 {
			t.Errorf("counted %d", count(b))
		}
		if calls := asked.calls.Load() - before; i > 0 && calls != 1 {
			t.Errorf("%d calls to a leader that is known", calls)
		}
	}
	if _, _, err := outside.Propose(ctx, 99, nil, ForPeople); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("a shard that is not there: %v", err)
	}
}

// A reply that is lost is asked for again under the same id: the command is applied once, and its result is the first one's.
func TestLostReply(t *testing.T) {
	members := startGroup(t, 3)
	leaderOf(t, members)
	var lost atomic.Int64
	members[1].peers.set(nil, func(_, method string) bool { return method == MethodPropose && lost.Add(1) <= 2 })
	if n := members[1].propose(t, "x"); n != 1 {
		t.Errorf("counted %d", n)
	}
	if lost.Load() < 3 {
		t.Error("no reply was lost")
	}
	if n := members[2].propose(t, "x"); n != 2 {
		t.Errorf("then %d", n)
	}
}

// What another node would answer just the same is not asked again.
func TestFinalAnswers(t *testing.T) {
	members := startGroup(t, 1)
	m := leaderOf(t, members)
	for _, final := range []error{wire.ErrInvalid, wire.ErrDenied, wire.ErrLimit} {
		m.peers.set(func(string, string) error { return final }, nil)
		before := m.peers.calls.Load()
		if _, _, err := m.router.Propose(t.Context(), testShard, nil, ForPeople); !errors.Is(err, final) || m.peers.calls.Load() != before+1 {
			t.Errorf("%v: %v after %d calls", final, err, m.peers.calls.Load()-before)
		}
	}
}

// While a shard has no majority its many callers do not storm the nodes that are left, and all get on as soon as it has one.
func TestNoMajorityNoStorm(t *testing.T) {
	members := startGroup(t, 3)
	leaderOf(t, members)
	must(t, members[0].group.WaitApplied(t.Context(), 1))
	members[1].stop(t)
	members[2].stop(t)
	eventually(t, "nobody leads", func() bool { return members[0].group.Leader() == "" })
	const callers, waited = 200, 2 * time.Second
	before := members[0].peers.calls.Load()
	var work sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), waited)
	defer cancel()
	for range callers {
		work.Go(func() {
			if _, err := members[0].router.ReadIndex(ctx, testShard); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("without a majority: %v", err)
			}
		})
	}
	work.Wait()
	// A round through the voters when a caller comes, and one a second; one caller looks on for all.
	if calls := members[0].peers.calls.Load() - before; calls > callers*4*4 {
		t.Errorf("%d calls for %d callers in %v", calls, callers, waited)
	}
	for range callers {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if _, err := members[0].router.ReadIndex(ctx, testShard); err != nil {
				t.Error(err)
			}
		})
	}
	members[1].start(t)
	leaderOf(t, members[:2])
	began := time.Now()
	work.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("callers got on %v after there was a leader", took)
	}
}

// A hint to a node that is gone, or to one that points back, does not keep a caller from asking the third.
func TestMisleadingHints(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	rest := others(members, leader)
	m := rest[0]
	m.peers.set(func(node, _ string) error {
		if node == leader.id {
			return nil
		}
		hint := rest[0].id
		if node == hint {
			hint = rest[1].id
		}
		return &wire.Error{Code: wire.NotLeader, Hint: hint}
	}, nil)
	m.router.found(testShard, rest[1].id)
	if n := m.propose(t, "x"); n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestReadyAndStatus(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	leader.propose(t, "x")
	status, err := leader.router.Status()
	must(t, err)
	if len(status) != 1 || status[0].Leader != leader.id || status[0].Applied == 0 || !slices.Equal(status[0].Voters, []string{"v1", "v2", "v3"}) {
		t.Errorf("%+v", status)
	}
	if why := leader.router.Ready(); len(why) != 0 {
		t.Errorf("not ready for %v", why)
	}
}
