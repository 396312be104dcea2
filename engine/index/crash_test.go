package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/atrest"
	"hongyan/engine/effort"
)

// Power is cut at moments of its own choosing while three shards are written, memtables rotate, flush and compact. Afterwards
// each shard stands at an applied index a, not below what Flushed said before, and holds what entries 1 to a give,
// byte for byte: invariant 1.
func TestCrashWhileWriting(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		crashWhileWriting(t, uint64(effort.Of(80, 250, 400)), func(fs vfs.FS) vfs.FS { return fs })
	})
	t.Run("encrypted", func(t *testing.T) {
		crashWhileWriting(t, uint64(effort.Of(60, 120, 200)), atrest.NewKey([32]byte{1}).FS)
	})
}

func crashWhileWriting(t *testing.T, entries uint64, wrap func(vfs.FS) vfs.FS) {
	const shards = 3
	reference := referenceDumps(t)
	r := rand.New(rand.NewPCG(1, 1))
	fs := vfs.NewCrashableMem()
	db := openTest(t, wrap(fs))
	flushedOnce := false // before a crash; flushes take their time, and entries go on until there was one
	for index := uint64(1); index <= entries || !flushedOnce; index++ {
		if index > 100*entries {
			t.Fatal("nothing was ever flushed")
		}
		for id := range uint32(shards) {
			entry(t, db.Shard(id), index, func(tx *Txn) { busyEntry(t, tx, index) })
		}
		if r.IntN(40) > 0 {
			continue
		}
		var flushed [shards]uint64
		for id := range flushed {
			flushed[id] = db.Shard(uint32(id)).Flushed()
			flushedOnce = flushedOnce || flushed[id] > 0
		}
		after := openTest(t, wrap(fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})))
		for id, least := range flushed {
			s := after.Shard(uint32(id))
			applied, err := s.Applied()
			must(t, err)
			if applied < least || applied > index || s.Flushed() != applied {
				t.Fatalf("shard %d: %d after a crash at %d, flushed was %d, is %d", id, applied, index, least, s.Flushed())
			}
			if !bytes.Equal(dump(t, s), reference(applied)) {
				t.Fatalf("shard %d at %d:\n%s", id, applied, describe(t, s))
			}
		}
		closeTest(t, after)
	}
	closeTest(t, db)
}

// referenceDumps gives what the log's entries 1 to applied make of a shard, by replaying them.
func referenceDumps(t *testing.T) func(applied uint64) []byte {
	db, id, at := openTest(t, vfs.NewMem()), uint32(0), uint64(0)
	t.Cleanup(func() { closeTest(t, db) })
	return func(applied uint64) []byte {
		if applied < at {
			id, at = id+1, 0
		}
		for ; at < applied; at++ {
			entry(t, db.Shard(id), at+1, func(tx *Txn) { busyEntry(t, tx, at+1) })
		}
		return dump(t, db.Shard(id))
	}
}

// busyEntry is entry number index of a log that delivers, flags, expunges and deletes.
func busyEntry(t *testing.T, tx *Txn, index uint64) {
	must(t, tx.EnsureAccount(index%5, 1))
	_, _, err := tx.AddMessages(index%5, 1, []NewMessage{{Ref: testRef(index), Size: index, Summary: bytes.Repeat([]byte{byte(index)}, 700)}})
	must(t, err)
	if index%3 == 0 {
		_, _, err = tx.SetFlags(index%5, 1, roaring.BitmapOf(uint32(index/7)), OpAdd, Flags{System: FlagSeen | FlagDeleted}, 0)
		must(t, err)
	}
	if index%11 == 0 {
		_, err = tx.Expunge(index%5, 1, nil, true)
		must(t, err)
	}
	if index%13 == 0 {
		name := fmt.Sprint("m", index%4)
		if _, err := tx.CreateMailbox(index%5, name, "", 1); err != nil {
			must(t, tx.DeleteMailbox(index%5, name))
		}
	}
	must(t, tx.Remember([16]byte{byte(index), byte(index >> 8)}, []byte("done")))
}

// A full disk is reported, holds what was committed in memory, and is forgiven once there is room again.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	db := openTest(t, fs)
	s := db.Shard(1)
	fill(t, s, 1, 3)
	must(t, s.FlushTo(3))
	entry(t, s, 4, func(tx *Txn) { must(t, tx.Put([]byte("k"), []byte("v"))) })
	full.Store(true)
	flushed := make(chan error, 1)
	go func() { flushed <- s.FlushTo(4) }()
	for db.Ready() == nil {
		runtime.Gosched()
	}
	if got := s.Flushed(); got != 3 {
		t.Fatalf("flushed %d to a full disk", got)
	}
	full.Store(false)
	must(t, <-flushed)
	if err := db.Ready(); err != nil || s.Flushed() != 4 {
		t.Fatal(err, s.Flushed())
	}
	closeTest(t, db)
}
