package shard

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/engine/index"
)

// TestIndexOfAnotherTime: the index was lost, or put back from an old copy, and the log is not as old.
func TestIndexOfAnotherTime(t *testing.T) {
	fs := vfs.NewMem()
	db, err := index.Open(fs, "/index", index.Options{})
	must(t, err)
	defer db.Close()
	store := db.Shard(1)
	s, err := openSnapshots(fs, "/snapshot", 1, store, raft.NewInmemStore())
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
