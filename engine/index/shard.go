package index

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Shard is one shard's key range. One Txn at a time writes it; any number of Views read it.
type Shard struct {
	db *DB
	k  keys

	writer sync.Mutex // held from Begin to Commit or Discard, and by Load; guards the four below
	expiry expiryQueue
	filter idFilter
	graves graveState
	cache  writerCache

	// excise is held for writing while Load swaps the range, for reading while a View starts a read: pebble's
	// snapshots do not outlive the excision of what they show.
	excise     sync.RWMutex
	generation uint64 // guarded by excise; counts loads

	applied atomic.Uint64 // valid once known is set
	known   atomic.Bool

	durableMu sync.Mutex // guards the two below
	durable   uint64     // applied index in the tables on disk, as of flush number durableAt-1
	durableAt uint64
}

func (s *Shard) errorf(format string, args ...any) error {
	return fmt.Errorf("index shard %d: "+format, append([]any{uint32(s.k)}, args...)...)
}

// forget drops what was remembered about committed state, when that is in doubt. The caller holds writer.
func (s *Shard) forget() {
	s.expiry, s.filter, s.graves, s.cache = expiryQueue{}, idFilter{}, gravesUnknown, writerCache{}
}

// Ready says why the shard's database cannot flush, or nil: soon commits will wait.
func (s *Shard) Ready() error { return s.db.Ready() }

// Applied is the index of the last log entry whose effects are in the database, durable or not.
func (s *Shard) Applied() (uint64, error) {
	if s.known.Load() {
		return s.applied.Load(), nil
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	return s.appliedLocked()
}

// appliedLocked reads the applied index at first use. The caller holds writer.
func (s *Shard) appliedLocked() (uint64, error) {
	if s.known.Load() {
		return s.applied.Load(), nil
	}
	var applied uint64
	q := source{k: s.k, r: s.db.p}
	if _, err := q.get(s.k.applied(), func(v []byte) (err error) {
		applied, err = decodeIndex(v)
		return err
	}); err != nil {
		return 0, s.errorf("applied index: %w", err)
	}
	s.applied.Store(applied)
	s.known.Store(true)
	return applied, nil
}

// Flushed is an applied index that a crash cannot take back: what the tables on disk say, without memtables.
// It may lag behind, and never runs ahead of Applied: a batch can be in a table a moment before Commit has said so.
func (s *Shard) Flushed() uint64 {
	flushed := s.flushed()
	if s.known.Load() {
		return min(flushed, s.applied.Load())
	}
	return flushed
}

func (s *Shard) flushed() uint64 {
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	at := s.db.flushes.Load() + 1 // before reading, so that a flush in between is not missed
	if s.durableAt == at {
		return s.durable
	}
	durable, err := s.readDurable()
	if err != nil {
		s.db.opts.Logger.Errorf("shard %d: read flushed index: %v", uint32(s.k), err)
		return s.durable
	}
	s.durable, s.durableAt = durable, at
	return durable
}

func (s *Shard) readDurable() (applied uint64, err error) {
	key := s.k.applied()
	it, err := s.db.p.NewIter(&pebble.IterOptions{
		LowerBound:                key,
		UpperBound:                after(key),
		OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return 0, err
	}
	if it.First() {
		applied, err = decodeIndex(it.Value())
	}
	return applied, joinClose(err, it)
}

// FlushTo returns once Flushed is at least index, which must have been applied.
func (s *Shard) FlushTo(index uint64) error {
	if s.Flushed() >= index {
		return nil
	}
	applied, err := s.Applied()
	if err != nil {
		return err
	}
	if applied < index {
		return s.errorf("flush to %d: applied only up to %d", index, applied)
	}
	s.db.flushMu.Lock()
	defer s.db.flushMu.Unlock()
	if s.Flushed() >= index { // another shard's flush took this one along
		return nil
	}
	if err := s.db.p.Flush(); err != nil {
		return s.errorf("flush to %d: %w", index, err)
	}
	if flushed := s.Flushed(); flushed < index {
		return s.errorf("flush to %d: only %d became durable", index, flushed)
	}
	return nil
}
