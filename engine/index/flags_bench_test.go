package index

import (
	"fmt"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// storeAll changes a flag of account 0's messages 1 to 500, back and forth.
func storeAll(b *testing.B, s *Shard, index uint64) {
	set := roaring.New()
	set.AddRange(1, 501)
	entry(b, s, index, func(tx *Txn) {
		changed, _, err := tx.SetFlags(0, 1, set, FlagOp(1+index%2), Flags{System: FlagFlagged}, 0)
		if err != nil || len(changed) != 500 {
			b.Fatal(len(changed), err)
		}
	})
}

// benchMailbox is a shard whose account 0 has 10,000 messages, flushed; index is its last entry, an odd one.
func benchMailbox(b *testing.B) (s *Shard, index uint64) {
	s = benchShard(b, vfs.Default)
	for index = uint64(1); index < 21; {
		index++
		entry(b, s, index, func(tx *Txn) {
			list := make([]NewMessage, 500)
			for i := range list {
				list[i] = NewMessage{Date: 1700000000, Size: 10000, Ref: testRef(index*500 + uint64(i)), Summary: []byte("short")}
			}
			_, _, err := tx.AddMessages(0, 1, list)
			must(b, err)
		})
	}
	must(b, s.db.Flush())
	return s, index
}

// benchCPU measures what processor time something takes, which other work on the machine changes less than the clock.
func benchCPU(b *testing.B, do func()) {
	before := cpuTime(b)
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkChangedFlags changes and reads the flags of 500 messages that were changed some times since the last flush: pebble keeps each version until then.
func BenchmarkChangedFlags(b *testing.B) {
	for _, versions := range []int{1, 10, 100, 600} {
		s, index := benchMailbox(b)
		again := func() {
			index++
			storeAll(b, s, index)
		}
		for range versions {
			again()
		}
		read := func(uids *roaring.Bitmap) func(b *testing.B) {
			return func(b *testing.B) {
				benchCPU(b, func() {
					v := s.View()
					must(b, v.Messages(0, 1, uids, WantFlags, func(*Message) error { return nil }))
					must(b, v.Close())
				})
			}
		}
		some, few := roaring.New(), roaring.BitmapOf(7, 100, 250)
		some.AddRange(1, 501)
		b.Run(fmt.Sprintf("versions=%d/read=500", versions), read(some))
		b.Run(fmt.Sprintf("versions=%d/read=10000", versions), read(nil))
		b.Run(fmt.Sprintf("versions=%d/read=3", versions), read(few))
		b.Run(fmt.Sprintf("versions=%d/select", versions), func(b *testing.B) {
			benchCPU(b, func() {
				v := s.View()
				_, err := v.UIDs(0, 1)
				must(b, err)
				_, err = v.Flagged(0, 1, FlagFlagged)
				must(b, err)
				must(b, v.Close())
			})
		})
		b.Run(fmt.Sprintf("versions=%d/changes", versions), func(b *testing.B) {
			benchCPU(b, func() {
				v := s.View()
				_, err := v.Changes(0, 1, index-1, 10_000)
				must(b, err)
				must(b, v.Close())
			})
		})
		b.Run(fmt.Sprintf("versions=%d/store", versions), func(b *testing.B) {
			benchCPU(b, again)
		})
	}
}

// BenchmarkChangesAfterRemoval asks what happened last in a mailbox whose newest 10,000 messages are gone, and when one more has come since.
func BenchmarkChangesAfterRemoval(b *testing.B) {
	s, index := benchMailbox(b)
	for range 20 {
		index += 2
		var uids []uint32
		entry(b, s, index-1, func(tx *Txn) {
			list := make([]NewMessage, 500)
			for i := range list {
				list[i] = NewMessage{Ref: testRef(index*500 + uint64(i)), Summary: []byte("short")}
			}
			var err error
			uids, _, err = tx.AddMessages(0, 1, list)
			must(b, err)
		})
		entry(b, s, index, func(tx *Txn) {
			_, err := tx.Expunge(0, 1, roaring.BitmapOf(uids...), false)
			must(b, err)
		})
	}
	ask := func(b *testing.B) {
		benchCPU(b, func() {
			v := s.View()
			_, err := v.Changes(0, 1, index-1, 10_000)
			must(b, err)
			must(b, v.Close())
		})
	}
	index++
	storeAll(b, s, index)
	b.Run("none-new", ask)
	index++
	entry(b, s, index, func(tx *Txn) {
		_, _, err := tx.AddMessages(0, 1, []NewMessage{{Ref: testRef(index * 500), Summary: []byte("short")}})
		must(b, err)
	})
	b.Run("one-new", ask)
}
