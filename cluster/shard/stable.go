package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// terms keeps the terms and votes of all groups in one raft-boltdb. Those who write while a transaction is being committed share the
// next one: when a node is lost hundreds of its shards elect at once, and each election writes three values.
//
// raft-boltdb commits each key by itself, but any number of log entries together. So a value is kept as the data of a log entry, whose number
// says what it is: the shard in the higher bits, the value's place among stableNames in the lowest two, and one added, since there is no entry 0. What a
// former version wrote under the value's name is read until it is written again.
type terms struct {
	db   *raftboltdb.BoltStore
	turn sync.Mutex // held by who commits

	mu   sync.Mutex // guards next
	next *termWrites
}

// Raft's names for what it keeps: all it ever writes.
var (
	voteTerm, voteFor = []byte("LastVoteTerm"), []byte("LastVoteCand")
	stableNames       = [][]byte{[]byte("CurrentTerm"), voteTerm, voteFor}
)

// termWrites are those of one transaction.
type termWrites struct {
	entries []*raft.Log
	done    chan struct{} // closed when err is set
	err     error
}

// stableEntry is the number under which a shard's value is kept.
func stableEntry(shard uint32, name []byte) (uint64, error) {
	for i, n := range stableNames {
		if bytes.Equal(n, name) {
			return uint64(shard)<<2 + uint64(i) + 1, nil
		}
	}
	return 0, fmt.Errorf("raft keeps %q, which this version does not know", name)
}

// set returns when the values are durable, all of them at once.
func (s *terms) set(values ...*raft.Log) error {
	s.mu.Lock()
	w := s.next
	first := w == nil
	if first {
		w = &termWrites{done: make(chan struct{})}
		s.next = w
	}
	w.entries = append(w.entries, values...)
	s.mu.Unlock()
	if !first {
		<-w.done
		return w.err
	}
	s.turn.Lock() // others join until the transaction before is done
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	w.err = s.db.StoreLogs(w.entries)
	close(w.done)
	return w.err
}

// groupTerms are one group's: a raft.StableStore.
type groupTerms struct {
	terms *terms
	shard uint32
}

var _ raft.StableStore = groupTerms{}

// Set implements raft.StableStore. Raft writes a vote in two steps, its term and then for whom it is. A crash between them must not leave the vote of an earlier term under the new
// one: raft would repeat it to whoever got it then, without a look at his log. So the term comes with a vote for nobody.
func (g groupTerms) Set(name, value []byte) error {
	entry, err := stableEntry(g.shard, name)
	if err != nil {
		return err
	}
	values := []*raft.Log{{Index: entry, Data: bytes.Clone(value)}}
	if bytes.Equal(name, voteTerm) {
		entry, err = stableEntry(g.shard, voteFor)
		values = append(values, &raft.Log{Index: entry})
	}
	if err != nil {
		return err
	}
	return g.terms.set(values...)
}

// Get implements raft.StableStore. raft knows by the text of ErrKeyNotFound that there is no value.
func (g groupTerms) Get(name []byte) ([]byte, error) {
	entry, err := stableEntry(g.shard, name)
	if err != nil {
		return nil, err
	}
	var kept raft.Log
	err = g.terms.db.GetLog(entry, &kept)
	if errors.Is(err, raft.ErrLogNotFound) {
		return g.terms.db.Get(fmt.Appendf(nil, "%04x/%s", g.shard, name)) // of a former version
	}
	if err == nil && len(kept.Data) == 0 {
		err = raftboltdb.ErrKeyNotFound // a vote for nobody
	}
	return kept.Data, err
}

// SetUint64 implements raft.StableStore.
func (g groupTerms) SetUint64(name []byte, v uint64) error {
	return g.Set(name, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore.
func (g groupTerms) GetUint64(name []byte) (uint64, error) {
	v, err := g.Get(name)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%q of shard %d has %d bytes instead of a number's 8", name, g.shard, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
