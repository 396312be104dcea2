package shard

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

func openTerms(t *testing.T, path string) *terms {
	t.Helper()
	db, err := raftboltdb.NewBoltStore(path)
	must(t, err)
	return &terms{db: db}
}

// Those who come while a transaction is being committed share the next one, and each has its value when it returns.
func TestTermsCommitTogether(t *testing.T) {
	s := openTerms(t, filepath.Join(t.TempDir(), "raft.db"))
	defer func() { must(t, s.db.Close()) }()
	before := s.db.Stats()
	s.turn.Lock() // a commit that takes its time
	const shards = 50
	var work sync.WaitGroup
	for shard := range uint32(shards) {
		work.Go(func() {
			g, name := groupTerms{s, shard}, stableNames[shard%3]
			if err := g.SetUint64(name, uint64(shard)); err != nil {
				t.Error(err)
			}
			if v, err := g.GetUint64(name); err != nil || v != uint64(shard) {
				t.Errorf("wrote %d, read %d, %v", shard, v, err)
			}
		})
	}
	const withVote = 17 // those that write a vote's term, which comes with a vote for nobody
	eventually(t, "all wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.next != nil && len(s.next.entries) == shards+withVote
	})
	s.turn.Unlock()
	work.Wait()
	after := s.db.Stats()
	if syncs := after.TxStats.Sub(&before.TxStats); syncs.GetWrite() > 8 {
		t.Errorf("%d writes to the file for one commit", syncs.GetWrite())
	}
}

// Groups have values of their own; what a former version wrote under names is read until it is written again.
func TestTermsOfAFormerVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	before, err := raftboltdb.NewBoltStore(path)
	must(t, err)
	must(t, before.SetUint64([]byte("0001/CurrentTerm"), 7))
	must(t, before.Close())
	s := openTerms(t, path)
	one, two := groupTerms{s, 1}, groupTerms{s, 2}
	if n, err := one.GetUint64(stableNames[0]); err != nil || n != 7 {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := two.GetUint64(stableNames[0]); !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		t.Errorf("a value that is not there: %v", err)
	}
	must(t, one.SetUint64(stableNames[0], 8))
	must(t, one.Set(stableNames[2], []byte("v2")))
	must(t, two.SetUint64(stableNames[0], 9))
	must(t, s.db.Close())
	s = openTerms(t, path)
	defer func() { must(t, s.db.Close()) }()
	one, two = groupTerms{s, 1}, groupTerms{s, 2}
	if n, err := one.GetUint64(stableNames[0]); err != nil || n != 8 {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := two.GetUint64(stableNames[0]); err != nil || n != 9 {
		t.Errorf("read %d, %v", n, err)
	}
	if v, err := one.Get(stableNames[2]); err != nil || string(v) != "v2" {
		t.Errorf("read %q, %v", v, err)
	}
	if _, err := one.GetUint64(stableNames[2]); err == nil {
		t.Error("a name was read as a number")
	}
	if err := one.Set([]byte("something else"), nil); err == nil {
		t.Error("kept what it does not know")
	}
	var _ raft.StableStore = one
}
