package index

import (
	"bytes"
	"errors"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestLimitsExceeded(t *testing.T) {
	for _, c := range []struct {
		limits     Limits
		used, more Usage
		over       string
	}{
		{Limits{}, Usage{1 << 60, 1 << 60}, Usage{1 << 60, 1}, ""},
		{Limits{Bytes: 10}, Usage{Bytes: 9}, Usage{1, 1}, ""},
		{Limits{Bytes: 10}, Usage{Bytes: 9}, Usage{2, 1}, "bytes"},
		{Limits{Bytes: 10}, Usage{Bytes: 11}, Usage{0, 0}, ""}, // nothing may be added
		{Limits{Bytes: 10}, Usage{Bytes: 11}, Usage{1, 1}, "bytes"},
		{Limits{Bytes: 10}, Usage{}, Usage{1<<64 - 1, 1}, "bytes"}, // no overflow
		{Limits{Messages: 3}, Usage{Messages: 2}, Usage{1 << 40, 1}, ""},
		{Limits{Messages: 3}, Usage{Messages: 2}, Usage{0, 2}, "messages"},
		{Limits{10, 3}, Usage{5, 3}, Usage{1, 1}, "messages"},
	} {
		var over *QuotaError
		got := ""
		if errors.As(c.limits.Exceeded(c.used, c.more), &over) {
			got = over.What
		}
		if got != c.over {
			t.Errorf("%+v with %+v and %+v more: %q, want %q", c.limits, c.used, c.more, got, c.over)
		}
	}
}

// An account's values stay as they were until somebody asks with limits: programs that know none must be able to read them (feature.Sharing).
func TestCountedOnceLimited(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	counted := func() bool {
		v := s.View()
		defer func() { must(t, v.Close()) }()
		c, _, err := v.q.counters(1)
		must(t, err)
		return c.counted
	}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		_, _, err := tx.AddMessages(1, 1, []NewMessage{{Size: 100, Ref: testRef(1)}, {Size: 50, Ref: testRef(2)}})
		must(t, err)
		must(t, tx.Allow(1, Limits{}, Usage{1, 1}))
	})
	if counted() {
		t.Fatal("counted without limits")
	}
	entry(t, s, 2, func(tx *Txn) {
		if err := tx.Allow(1, Limits{Messages: 2}, Usage{1, 1}); err == nil {
			t.Error("a third message under a limit of two")
		}
		must(t, tx.Allow(1, Limits{Bytes: 151}, Usage{1, 1}))
		if err := tx.Allow(2, Limits{Bytes: 1}, Usage{}); !errors.Is(err, ErrNoAccount) {
			t.Errorf("of no account: %v", err)
		}
		_, err := tx.Expunge(1, 1, roaring.BitmapOf(1), false)
		must(t, err)
		must(t, tx.Allow(1, Limits{Messages: 2}, Usage{1, 1})) // room at once
		sum, err := tx.Weigh(1, 1, roaring.BitmapOf(1, 2, 3))
		must(t, err)
		if sum != (Usage{50, 1}) {
			t.Errorf("weighs %+v", sum)
		}
	})
	if !counted() {
		t.Fatal("not counted")
	}
}

// What an account holds moves with it, and goes on being counted there.
func TestUsageMoves(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	from, to := db.Shard(1), db.Shard(2)
	entry(t, from, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		_, _, err := tx.AddMessages(1, 1, []NewMessage{{Size: 100, Ref: testRef(1)}})
		must(t, err)
		must(t, tx.Allow(1, Limits{Bytes: 1000}, Usage{1, 1}))
	})
	var pairs []Pair
	v := from.View()
	must(t, v.Account(1, func(key, value []byte) error {
		pairs = append(pairs, Pair{Key: bytes.Clone(key), Value: bytes.Clone(value)})
		return nil
	}))
	must(t, v.Close())
	entry(t, to, 1, func(tx *Txn) {
		must(t, tx.Arrive(1, 1, 1))
		must(t, tx.Import(1, 1, pairs, nil))
		must(t, tx.Activate(1, 1))
		must(t, tx.Allow(1, Limits{Bytes: 110}, Usage{10, 1}))
		if err := tx.Allow(1, Limits{Bytes: 110}, Usage{11, 1}); err == nil {
			t.Error("the account that moved may hold more than its quota")
		}
		must(t, tx.DeleteMailbox(1, "Trash"))
	})
	v = to.View()
	defer func() { must(t, v.Close()) }()
	if u, err := v.Usage(1); err != nil || u != (Usage{100, 1}) {
		t.Errorf("holds %+v, %v", u, err)
	}
}
