package index

import (
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is \Recent is counted from any UID on, also where that is in a block that is full; nothing but Told moves it, and never back.
func TestRecent(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	const n = 3*blockBits + 100
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		_, _, err := tx.AddMessages(1, 1, make([]NewMessage, n))
		must(t, err)
	})
	entry(t, s, 2, func(tx *Txn) {
		_, err := tx.Expunge(1, 1, roaring.BitmapOf(4097, 9000, n), false)
		must(t, err)
	})
	before := look(t, s)
	for i, step := range []struct{ told, below, recent uint32 }{
		{0, 0, n - 3}, {1, 1, n - 3}, {2, 2, n - 4}, {4097, 4097, n - 3 - 4096}, {4098, 4098, n - 4097 - 2}, {100, 4098, n - 4097 - 2},
		{9001, 9001, n - 9000 - 1}, {n, n, 0}, {n + 1, n + 1, 0}, {1 << 30, n + 1, 0},
	} {
		entry(t, s, uint64(3+i), func(tx *Txn) { must(t, tx.Told(1, 1, step.told)) })
		got := look(t, s)
		if got.Told != step.below || got.Recent != step.recent || got.HighestModSeq != before.HighestModSeq {
			t.Errorf("told of %d: %+v, want %d and %d recent", step.told, got, step.below, step.recent)
		}
	}
	entry(t, s, 100, func(tx *Txn) {
		_, _, err := tx.AddMessages(1, 1, make([]NewMessage, 2))
		must(t, err)
	})
	if got := look(t, s); got.Recent != 2 {
		t.Errorf("two more: %+v", got)
	}
}

func look(t *testing.T, s *Shard) Mailbox {
	v := s.View()
	defer func() { must(t, v.Close()) }()
	mb, err := v.Mailbox(1, 1)
	must(t, err)
	return mb
}
