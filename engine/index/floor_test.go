package index

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/volume"
)

func references(t *testing.T, s *Shard, id volume.ID) (list []Reference) {
	t.Helper()
	v := s.View()
	must(t, v.References(id, func(r Reference) error { list = append(list, r); return nil }))
	must(t, v.Close())
	return list
}

// A condemned volume takes nothing new from outside, in the same transaction and later; what is there can be copied and goes on.
// A saved shard keeps its floors.
func TestFloor(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	message := []NewMessage{{Ref: volume.Ref{Volume: 7, Record: 3}}}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		_, _, err := tx.AddMessages(1, 1, message)
		must(t, err)
		must(t, tx.Condemn(7, 2))
		if _, _, err := tx.AddMessages(1, 1, message); !errors.Is(err, ErrCondemned) {
			t.Errorf("got %v", err)
		}
		must(t, tx.Condemn(7, 1)) // late: changes nothing
	})
	entry(t, s, 2, func(tx *Txn) {
		if _, _, err := tx.AddMessages(1, 1, message); !errors.Is(err, ErrCondemned) {
			t.Errorf("got %v", err)
		}
		_, _, err := tx.AddMessages(1, 1, []NewMessage{{Ref: volume.Ref{Volume: 8, Record: 3}}})
		must(t, err)
		_, _, err = tx.CopyMessages(1, 1, roaring.BitmapOf(1), 2, false, 0)
		must(t, err)
	})
	v := s.View()
	for id, want := range map[volume.ID]uint32{7: 2, 8: 0} {
		if floor, err := v.Floor(id); err != nil || floor != want {
			t.Errorf("floor of %d is %d, %v", id, floor, err)
		}
	}
	must(t, v.Close())
	var saved bytes.Buffer
	_, err := s.Save(&saved)
	must(t, err)
	other := openTest(t, vfs.NewMem())
	defer closeTest(t, other)
	must(t, other.Shard(1).Load(&saved))
	entry(t, other.Shard(1), 3, func(tx *Txn) {
		if _, _, err := tx.AddMessages(1, 1, message); !errors.Is(err, ErrCondemned) {
			t.Errorf("got %v", err)
		}
	})
}

// References are told once a mailbox. Those of a deleted one count no longer, before its rows are swept.
func TestReferences(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	db.sweep = 1
	s := db.Shard(1)
	list := []NewMessage{{Ref: volume.Ref{Volume: 7, Record: 1}}, {Ref: volume.Ref{Volume: 7, Record: 1}}, {Ref: volume.Ref{Volume: 7, Record: 2}}}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		for _, box := range []uint32{1, 4} {
			_, _, err := tx.AddMessages(1, box, list)
			must(t, err)
		}
	})
	want := []Reference{{1, 1, 1}, {1, 1, 4}, {2, 1, 1}, {2, 1, 4}}
	if got := references(t, s, 7); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	entry(t, s, 2, func(tx *Txn) { must(t, tx.DeleteMailbox(1, "Junk")) })
	want = []Reference{{1, 1, 1}, {2, 1, 1}}
	if got := references(t, s, 7); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
