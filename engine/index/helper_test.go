package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/volume"
)

// small keeps memtables and caches of tests small, so that many databases fit and flushes happen.
func small() Options {
	return Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10, MaxOpenFiles: 100}
}

func openTest(t testing.TB, fs vfs.FS) *DB {
	t.Helper()
	o := small()
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	db, err := Open(fs, "index", o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func closeTest(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// entry applies one log entry in a Txn of its own.
func entry(t testing.TB, s *Shard, index uint64, fn func(tx *Txn)) {
	t.Helper()
	tx := s.Begin()
	defer tx.Discard()
	tx.SetIndex(index)
	fn(tx)
	if err := tx.Commit(index); err != nil {
		t.Fatal(err)
	}
}

// dump is every key and value of a shard.
func dump(t testing.TB, s *Shard) []byte {
	t.Helper()
	v := s.View()
	defer func() {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	var out bytes.Buffer
	lower, upper := s.k.span()
	if err := v.q.scan(lower, upper, func(key, value []byte) error {
		for _, b := range [][]byte{key[shardLen:], value} {
			out.Write(binary.AppendUvarint(nil, uint64(len(b))))
			out.Write(b)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// describe renders a dump for a failing test.
func describe(t testing.TB, s *Shard) string {
	t.Helper()
	v := s.View()
	defer func() { _ = v.Close() }()
	var out strings.Builder
	lower, upper := s.k.span()
	if err := v.q.scan(lower, upper, func(key, value []byte) error {
		fmt.Fprintf(&out, "%q = %x\n", key[shardLen:], value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func testRef(n uint64) volume.Ref {
	r := volume.Ref{Volume: volume.ID(1 + n%3), Record: n / 3, Length: 100 + n}
	binary.BigEndian.PutUint64(r.Hash[:], n)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
