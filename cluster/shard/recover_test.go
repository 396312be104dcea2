package shard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// TestLostIndex takes the index of a replica whose log was cut: it refuses to start, fetches the state of another one, and goes on
// as a voter with the log that it has.
func TestLostIndex(t *testing.T) {
	members := startGroup(t, 3)
	lead := leaderOf(t, members)
	for i := range 40 {
		lead.propose(t, fmt.Sprintf("before %d", i%7))
	}
	victim := others(members, lead)[0]
	eventually(t, "the victim has applied all", func() bool { return victim.group.Applied() == lead.group.Applied() })
	must(t, victim.group.raft.Snapshot().Error())
	flushed := victim.group.Applied()
	victim.stop(t)
	must(t, victim.db.Close())
	victim.db = openIndex(t, vfs.NewMem())
	victim.cfg.Store = victim.db.Shard(testShard)

	for i := range 5 {
		lead.propose(t, fmt.Sprintf("meanwhile %d", i))
	}
	victim.openLogs(t)
	victim.cfg.Transport = victim.net.RaftGroup(testShard)
	_, err := Start(victim.cfg)
	var lost *LostError
	if !errors.As(err, &lost) || lost.Has != 0 || lost.Least != flushed || lost.Shard != testShard {
		t.Fatalf("started with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, victim.cfg.Transport.(raft.WithClose).Close())
	must(t, Recover(ctx, victim.cfg, victim.net, lost))
	must(t, victim.cfg.Logs.Close())
	victim.start(t)
	eventually(t, "the victim has applied all again", func() bool { return victim.group.Applied() == lead.group.Applied() })
	for i := range 7 {
		name := fmt.Sprintf("before %d", i)
		if got, want := stored(t, victim.cfg.Store, name), stored(t, lead.cfg.Store, name); got != want {
			t.Errorf("%s: %d here, %d at the leader", name, got, want)
		}
	}
	// It counts again: with it the other two are a majority without the old leader.
	lead.stop(t)
	next := leaderOf(t, others(members, lead))
	if got := next.propose(t, "before 0"); got != 7 {
		t.Errorf("applied %d times after the recovery, want 7", got)
	}
}

// TestRecoverWaits asks again until a replica has the state, and ends with its context.
func TestRecoverWaits(t *testing.T) {
	members := startGroup(t, 3)
	lead := leaderOf(t, members)
	lead.propose(t, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	store := openIndex(t, vfs.NewMem())
	defer func() { must(t, store.Close()) }()
	cfg := members[0].cfg
	cfg.Store = store.Shard(testShard)
	if err := Recover(ctx, cfg, members[0].net, &LostError{Shard: testShard, Least: 1 << 40}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a state that nobody has: %v", err)
	}
	if at, err := cfg.Store.Applied(); err != nil || at != 0 {
		t.Errorf("the store stands at %d, %v", at, err)
	}
}
