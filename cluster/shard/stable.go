package shard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// stableBucket is where raft-boltdb, which wrote this file before, has its keys.
var stableBucket = []byte("conf")

// stable keeps the terms and votes of all groups in one bbolt file. Those who write while a transaction is being committed share the
// next one: when a node is lost hundreds of its shards elect at once, and each election writes three keys.
type stable struct {
	db   *bbolt.DB
	turn sync.Mutex // held by who commits

	mu   sync.Mutex // guards next
	next *stableWrites
}

// stableWrites are those of one transaction.
type stableWrites struct {
	pairs [][2][]byte
	done  chan struct{} // closed when err is set
	err   error
}

func openStable(path string, o *bbolt.Options) (*stable, error) {
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(stableBucket)
		return err
	})
	if err != nil {
		_ = db.Close() // nothing was written
		return nil, err
	}
	return &stable{db: db}, nil
}

// Close closes the file. Nobody writes any more.
func (s *stable) Close() error { return s.db.Close() }

// Set returns when the value is durable.
func (s *stable) Set(key, value []byte) error {
	s.mu.Lock()
	w := s.next
	first := w == nil
	if first {
		w = &stableWrites{done: make(chan struct{})}
		s.next = w
	}
	w.pairs = append(w.pairs, [2][]byte{key, value})
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
	w.err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, p := range w.pairs {
			if err := tx.Bucket(stableBucket).Put(p[0], p[1]); err != nil {
				return err
			}
		}
		return nil
	})
	close(w.done)
	return w.err
}

// Get gives a value, or the error by whose text raft knows that there is none.
func (s *stable) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(stableBucket).Get(key)
		if v == nil {
			return raftboltdb.ErrKeyNotFound
		}
		value = bytes.Clone(v)
		return nil
	})
	return value, err
}

func (s *stable) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

func (s *stable) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%q has %d bytes instead of a number's 8", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
