package index

import (
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What came last is found behind and before thousands of messages that are gone, also where whole blocks of UIDs are empty.
func TestChangesBehindWhatIsGone(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	add := func(index uint64, n int) {
		entry(t, s, index, func(tx *Txn) {
			must(t, tx.EnsureAccount(1, 1))
			list := make([]NewMessage, n)
			for i := range list {
				list[i] = NewMessage{Ref: testRef(index*10_000 + uint64(i))}
			}
			_, _, err := tx.AddMessages(1, 1, list)
			must(t, err)
		})
	}
	remove := func(index uint64, from, to uint64) {
		entry(t, s, index, func(tx *Txn) {
			some := roaring.New()
			some.AddRange(from, to+1)
			_, err := tx.Expunge(1, 1, some, false)
			must(t, err)
		})
	}
	check := func(since uint64, want ...uint32) {
		t.Helper()
		v := s.View()
		c, err := v.Changes(1, 1, since, 0)
		must(t, err)
		must(t, v.Close())
		var got []uint32
		for _, ch := range c.Changed {
			got = append(got, ch.UID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("since %d: %v, want %v", since, got, want)
		}
	}
	add(1, 9000)
	add(2, 2)
	check(1, 9001, 9002)
	remove(3, 100, 9002) // the open block and the one before are empty
	check(1)
	add(4, 1)
	check(2, 9003)
	check(4)
	remove(5, 1, 9003)
	check(0)
	add(6, 2)
	check(0, 9004, 9005)
	check(5, 9004, 9005)
	check(6)
	for i := range uint64(20) { // of each thousand that come at once every hundredth stays; the newest thousand fill two blocks' ends
		first := 9006 + 1000*i
		add(7+2*i, 1000)
		entry(t, s, 8+2*i, func(tx *Txn) {
			gone := roaring.New()
			gone.AddRange(first, first+1000)
			for n := uint64(50); n < 1000; n += 100 {
				gone.Remove(uint32(first + n))
			}
			_, err := tx.Expunge(1, 1, gone, false)
			must(t, err)
		})
	}
	for i := range uint64(20) {
		var want []uint32
		for n := 9006 + 1000*i + 50; n < 9006+20_000; n += 100 {
			want = append(want, uint32(n))
		}
		check(7+2*i-1, want...)
	}
}

func TestBlockNext(t *testing.T) {
	var b block
	if _, ok := b.next(0); ok {
		t.Error("a member of an empty block")
	}
	for _, low := range []uint32{0, 63, 64, 200, blockBits - 1} {
		b.set(low)
	}
	for from, want := range map[uint32]uint32{0: 0, 1: 63, 63: 63, 64: 64, 65: 200, 201: blockBits - 1, blockBits - 1: blockBits - 1} {
		if got, ok := b.next(from); !ok || got != want {
			t.Errorf("from %d: %d, %v, want %d", from, got, ok, want)
		}
	}
	if got, ok := b.next(blockBits); ok {
		t.Errorf("behind the end: %d", got)
	}
}
