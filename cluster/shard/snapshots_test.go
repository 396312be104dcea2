package shard

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/engine/index"
)

// TestOwnSnapshotMeetsReceivedOne: raft takes a snapshot of its own on another goroutine than the one that installs
// a received one, and either may end first. The older must neither undo the newer nor keep it from being listed.
func TestOwnSnapshotMeetsReceivedOne(t *testing.T) {
	fs := vfs.NewMem()
	db, err := index.Open(fs, "/index", index.Options{})
	must(t, err)
	defer db.Close()
	s, err := openSnapshots(fs, "/snapshot", db.Shard(1))
	must(t, err)
	own := func(at uint64) {
		t.Helper()
		sink, err := s.Create(1, at, 1, raft.Configuration{}, 1, nil)
		must(t, err)
		must(t, (&flushedSnapshot{store: db.Shard(1), log: logger(t)}).Persist(sink))
	}
	listed := func() uint64 {
		t.Helper()
		again, err := openSnapshots(fs, "/snapshot", db.Shard(1)) // as after a restart
		must(t, err)
		list, err := again.List()
		must(t, err)
		return list[0].Index
	}
	own(500)
	received, err := s.Create(1, 9000, 2, raft.Configuration{}, 1, nil)
	must(t, err)
	_, err = received.Write([]byte("state"))
	must(t, err)
	must(t, received.Close())
	own(600) // while the received one is being installed
	must(t, s.installed(9000))
	if got := listed(); got != 9000 {
		t.Fatalf("snapshot of entry %d is listed after one of entry 9000 was installed", got)
	}
	own(700) // begun before, ended after
	if got := listed(); got != 9000 {
		t.Fatalf("an own snapshot took the list back to entry %d", got)
	}
	own(9500)
	if got := listed(); got != 9500 {
		t.Fatalf("entry %d is listed, 9500 was written", got)
	}
}

// TestIndexOfAnotherTime: the index was lost, or put back from an old copy, and the log is not as old.
func TestIndexOfAnotherTime(t *testing.T) {
	fs := vfs.NewMem()
	db, err := index.Open(fs, "/index", index.Options{})
	must(t, err)
	defer db.Close()
	store := db.Shard(1)
	s, err := openSnapshots(fs, "/snapshot", store)
	must(t, err)
	txn := store.Begin()
	txn.SetIndex(400)
	must(t, txn.Commit(400))
	sink, err := s.Create(1, 401, 1, raft.Configuration{}, 1, nil) // 401 is a barrier
	must(t, err)
	must(t, (&flushedSnapshot{store: store, index: 400, log: logger(t)}).Persist(sink))
	if _, err := newFSM(store, nil, s, logger(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := newFSM(db.Shard(2), nil, s, logger(t)); err == nil {
		t.Fatal("a replica whose index lacks what the log no longer has was started")
	}
}
