package index

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/volume"
)

func earlyVolumes(t *testing.T, s *Shard) []Early {
	t.Helper()
	v := s.View()
	list, err := v.EarlyVolumes()
	must(t, err)
	must(t, v.Close())
	return list
}

func uids(t *testing.T, s *Shard, account uint64, box uint32) []uint32 {
	t.Helper()
	v := s.View()
	set, err := v.UIDs(account, box)
	must(t, err)
	must(t, v.Close())
	return set.ToArray()
}

func early(record uint64) volume.Ref { return volume.Ref{Volume: 7, Record: record, Length: 10} }

// enterEarly gives account 1 five messages in INBOX, of records 1 to 5 of volume 7.
func enterEarly(t *testing.T, s *Shard, at uint64) {
	entry(t, s, at, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		for n := range uint64(5) {
			_, _, err := tx.AddMessages(1, 1, []NewMessage{{Ref: early(n + 1), Size: 10, Summary: []byte("s")}})
			must(t, err)
			must(t, tx.MarkEarly(7))
		}
	})
}

// A marker is there once, knows the last reference, travels with a saved shard, and goes when the volume is settled.
func TestEarlyMarker(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterEarly(t, s, 1)
	if got := earlyVolumes(t, s); !slices.Equal(got, []Early{{Volume: 7, Last: 5}}) {
		t.Errorf("markers are %v", got)
	}
	var saved bytes.Buffer
	_, err := s.Save(&saved)
	must(t, err)
	other := openTest(t, vfs.NewMem())
	defer closeTest(t, other)
	must(t, other.Shard(1).Load(&saved))
	if got := earlyVolumes(t, other.Shard(1)); !slices.Equal(got, []Early{{Volume: 7, Last: 5}}) {
		t.Errorf("markers of the saved shard are %v", got)
	}
	entry(t, s, 2, func(tx *Txn) {
		gone, err := tx.Settle(7, 5)
		must(t, err)
		if marked, err := tx.IsEarly(7); err != nil || marked || len(gone) > 0 {
			t.Errorf("marked %v, removed %v, %v", marked, gone, err)
		}
	})
	if got := earlyVolumes(t, s); len(got) > 0 {
		t.Errorf("markers are %v", got)
	}
	if got := uids(t, s, 1, 1); len(got) != 5 {
		t.Errorf("messages %v", got)
	}
}

// What lies behind the seal is expunged wherever it is by then, also in the transaction that entered it. UIDs are not used again, and
// who knows the mailbox learns of it.
func TestSettle(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterEarly(t, s, 1)
	entry(t, s, 2, func(tx *Txn) {
		_, _, err := tx.CopyMessages(1, 1, roaring.BitmapOf(4), 2, false, 0)
		must(t, err)
		_, _, err = tx.CopyMessages(1, 1, roaring.BitmapOf(5), 4, true, 0)
		must(t, err)
		must(t, tx.DeleteMailbox(1, "Junk")) // box 4: its rows need not be swept yet
		_, _, err = tx.AddMessages(1, 1, []NewMessage{{Ref: early(6)}, {Ref: volume.Ref{Volume: 8, Record: 9}}})
		must(t, err)
		gone, err := tx.Settle(7, 3)
		must(t, err)
		if want := []Reference{{Account: 1, Mailbox: 1}, {Account: 1, Mailbox: 2}}; !slices.Equal(gone, want) {
			t.Errorf("removed in %v, want %v", gone, want)
		}
	})
	if got := fmt.Sprint(uids(t, s, 1, 1), uids(t, s, 1, 2)); got != "[1 2 3 7] []" {
		t.Errorf("messages %s", got)
	}
	v := s.View()
	defer v.Close()
	c, err := v.Changes(1, 1, 0, 0)
	must(t, err)
	if got := c.Vanished.ToArray(); !slices.Equal(got, []uint32{4, 5, 6}) {
		t.Errorf("vanished %v", got)
	}
	box, err := v.Mailbox(1, 1)
	must(t, err)
	if box.UIDNext != 8 || box.Messages != 4 {
		t.Errorf("mailbox %+v", box)
	}
}

// More than one command removes keeps the marker.
func TestSettleManyAtOnce(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	list := make([]NewMessage, settleAtOnce+1)
	for i := range list {
		list[i].Ref = early(uint64(i + 1))
	}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		_, _, err := tx.AddMessages(1, 1, list)
		must(t, err)
		must(t, tx.MarkEarly(7))
	})
	for i, want := range []bool{true, false} {
		entry(t, s, uint64(i+2), func(tx *Txn) {
			_, err := tx.Settle(7, 0)
			must(t, err)
			if marked, err := tx.IsEarly(7); err != nil || marked != want {
				t.Errorf("after %d: marked %v, %v", i+1, marked, err)
			}
		})
	}
	if got := uids(t, s, 1, 1); len(got) > 0 {
		t.Errorf("%d messages are left", len(got))
	}
}

// A message's bytes move without anybody seeing it; so do those of its copies. A second time changes nothing.
func TestRebind(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterEarly(t, s, 1)
	entry(t, s, 2, func(tx *Txn) {
		_, _, err := tx.CopyMessages(1, 1, roaring.BitmapOf(2), 2, false, 0)
		must(t, err)
	})
	again := volume.Ref{Volume: 9, Record: 1, Length: 10}
	before := describeBox(t, s)
	for at := range uint64(2) {
		entry(t, s, 3+at, func(tx *Txn) {
			there, err := tx.Rebind(1, early(2), again)
			must(t, err)
			if want := []Rebound{{Mailbox: 1, UID: 2}, {Mailbox: 2, UID: 1}}; !slices.Equal(there, want) {
				t.Errorf("%v, want %v", there, want)
			}
		})
	}
	if got := describeBox(t, s); got != before {
		t.Errorf("mailbox was %s, is %s", before, got)
	}
	if got := len(references(t, s, 7)); got != 4 {
		t.Errorf("%d references to the old volume", got)
	}
	if got := references(t, s, 9); !slices.Equal(got, []Reference{{Record: 1, Account: 1, Mailbox: 1}, {Record: 1, Account: 1, Mailbox: 2}}) {
		t.Errorf("references to the new volume: %v", got)
	}
	v := s.View()
	defer v.Close()
	must(t, v.Messages(1, 1, roaring.BitmapOf(2), WantImmutable|WantSummary, func(m *Message) error {
		if m.Ref != again || string(m.Summary) != "s" {
			t.Errorf("message is %+v", m)
		}
		return nil
	}))
	entry(t, s, 5, func(tx *Txn) {
		if there, err := tx.Rebind(1, early(77), early(78)); err != nil || len(there) > 0 {
			t.Errorf("%v, %v", there, err)
		}
		must(t, tx.Condemn(9, 1))
		if _, err := tx.Rebind(1, early(3), again); err == nil {
			t.Error("bound to a condemned volume")
		}
	})
}

func describeBox(t *testing.T, s *Shard) string {
	t.Helper()
	v := s.View()
	defer v.Close()
	box, err := v.Mailbox(1, 1)
	must(t, err)
	c, err := v.Changes(1, 1, 0, 0)
	must(t, err)
	return fmt.Sprint(box, c.Changed, c.Vanished)
}
