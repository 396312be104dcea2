package index

import (
	"fmt"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Rows that have one version, some, and very many, beside each other, are read as the last change left them: while they are in memory, and after a flush.
func TestRowsOfManyVersions(t *testing.T) {
	db, err := Open(vfs.NewMem(), "index", Options{}) // nothing is flushed before it is said
	must(t, err)
	defer closeTest(t, db)
	s := db.Shard(1)
	const messages = 100
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		list := make([]NewMessage, messages)
		for i := range list {
			list[i] = NewMessage{Ref: testRef(uint64(i))}
		}
		_, _, err := tx.AddMessages(1, 1, list)
		must(t, err)
	})
	last := make(map[uint32]uint64)
	for index := uint64(2); index < 90; index++ {
		some := roaring.New()
		for uid := uint32(1); uid <= messages; uid++ {
			if index < 2+uint64(uid*uid%89) || uid > 40 && uid < 60 && index%3 > 0 {
				some.Add(uid)
				last[uid] = index
			}
		}
		entry(t, s, index, func(tx *Txn) {
			_, _, err := tx.SetFlags(1, 1, some, FlagOp(1+index%2), Flags{System: FlagFlagged, Keywords: []string{fmt.Sprint("k", index%5)}}, 0)
			must(t, err)
		})
	}
	for _, when := range []string{"in memory", "flushed"} {
		v := s.View()
		next := uint32(1)
		must(t, v.Messages(1, 1, nil, WantFlags, func(m *Message) error {
			key := s.k.uid(mailboxKey{1, 1}, tagFlags, m.UID)
			_, err := v.q.get(key, func(b []byte) error { // by itself, without an iterator
				row, err := decodeHot(b)
				if m.UID != next || row.modseq != m.ModSeq || row.system != m.Flags.System || len(row.keywords) != len(m.Flags.Keywords) {
					t.Errorf("%s: message %d is %+v, its row %+v", when, next, m, row)
				}
				return err
			})
			if m.ModSeq > max(last[m.UID], 1) {
				t.Errorf("%s: message %d has modseq %d, was last stored by %d", when, m.UID, m.ModSeq, last[m.UID])
			}
			next++
			return err
		}))
		if next != messages+1 {
			t.Errorf("%s: %d messages", when, next-1)
		}
		must(t, v.Close())
		must(t, db.Flush())
	}
}

// Who knows of a change need not be told of it, however many messages it was of; what came before, after it and in its midst is told.
func TestChangesBut(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		list := make([]NewMessage, 100)
		for i := range list {
			list[i] = NewMessage{Ref: testRef(uint64(i))}
		}
		_, _, err := tx.AddMessages(1, 1, list)
		must(t, err)
	})
	store := func(index uint64, flag uint8, uids ...uint32) {
		entry(t, s, index, func(tx *Txn) {
			_, _, err := tx.SetFlags(1, 1, roaring.BitmapOf(uids...), OpAdd, Flags{System: flag}, 0)
			must(t, err)
		})
	}
	many := roaring.New()
	many.AddRange(1, 81)
	store(2, FlagSeen, 7, 90)
	store(3, FlagFlagged, many.ToArray()...)
	store(4, FlagSeen, 20, 91)
	entry(t, s, 5, func(tx *Txn) {
		_, err := tx.Expunge(1, 1, roaring.BitmapOf(21), false)
		must(t, err)
	})
	for _, c := range []struct {
		since uint64
		limit int
		but   []uint64
		want  string
	}{
		{1, 0, []uint64{3}, "90@2 20@4 91@4, [21] gone, at 5, more false"},
		{2, 0, []uint64{3}, "20@4 91@4, [21] gone, at 5, more false"},
		{1, 0, []uint64{2, 3, 4}, ", [21] gone, at 5, more false"},
		{1, 0, []uint64{5, 9}, "81 changes, [21] gone, at 5, more false"},
		{1, 1, []uint64{3}, "90@2, [] gone, at 2, more true"},
		{3, 0, []uint64{3}, "20@4 91@4, [21] gone, at 5, more false"},
	} {
		v := s.View()
		got, err := v.Changes(1, 1, c.since, c.limit, c.but...)
		must(t, err)
		must(t, v.Close())
		told := fmt.Sprint(len(got.Changed), " changes")
		if len(got.Changed) < 10 {
			told = ""
			for i, ch := range got.Changed {
				if i > 0 {
					told += " "
				}
				told += fmt.Sprintf("%d@%d", ch.UID, ch.ModSeq)
			}
		}
		if told = fmt.Sprintf("%s, %v gone, at %d, more %t", told, got.Vanished.ToArray(), got.HighestModSeq, got.More); told != c.want {
			t.Errorf("since %d at most %d but %v: %s, want %s", c.since, c.limit, c.but, told, c.want)
		}
	}
}
