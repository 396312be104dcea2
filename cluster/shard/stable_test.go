package shard

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Those who come while a transaction is being committed share the next one, and each has its value when it returns.
func TestStableCommitsTogether(t *testing.T) {
	s, err := openStable(filepath.Join(t.TempDir(), "raft.db"), nil)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	commits := func() (id int) {
		must(t, s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }))
		return id
	}
	before := commits()
	s.turn.Lock() // a commit that takes its time
	const writers = 50
	var work sync.WaitGroup
	for i := range uint64(writers) {
		work.Go(func() {
			key := fmt.Appendf(nil, "%d", i)
			if err := s.SetUint64(key, i); err != nil {
				t.Error(err)
			}
			if v, err := s.GetUint64(key); err != nil || v != i {
				t.Errorf("wrote %d, read %d, %v", i, v, err)
			}
		})
	}
	eventually(t, "all wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.next != nil && len(s.next.pairs) == writers
	})
	s.turn.Unlock()
	work.Wait()
	if n := commits() - before; n != 1 {
		t.Errorf("%d commits", n)
	}
}

// The file is as raft-boltdb writes and reads it.
func TestStableIsAsBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	before, err := raftboltdb.NewBoltStore(path)
	must(t, err)
	must(t, before.SetUint64([]byte("term"), 7))
	must(t, before.Close())
	s, err := openStable(path, nil)
	must(t, err)
	if n, err := s.GetUint64([]byte("term")); err != nil || n != 7 {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := s.GetUint64([]byte("other")); !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	must(t, s.SetUint64([]byte("term"), 8))
	must(t, s.Set([]byte("vote"), []byte("v2")))
	if _, err := s.GetUint64([]byte("vote")); err == nil {
		t.Error("a name was read as a number")
	}
	must(t, s.Close())
	after, err := raftboltdb.NewBoltStore(path)
	must(t, err)
	if n, err := after.GetUint64([]byte("term")); err != nil || n != 8 {
		t.Errorf("raft-boltdb reads %d, %v", n, err)
	}
	must(t, after.Close())
}
