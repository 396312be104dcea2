package index

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"hongyan/engine/atrest"
)

const benchAccounts = 1000

// benchShard is a shard with accounts, on disk, at log index 1.
func benchShard(b *testing.B, fs vfs.FS) *Shard {
	b.Helper()
	db, err := Open(fs, b.TempDir(), Options{})
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	s := db.Shard(1)
	entry(b, s, 1, func(tx *Txn) {
		for a := range uint64(benchAccounts) {
			must(b, tx.EnsureAccount(a, 1))
		}
	})
	return s
}

// benchSummary is of a usual size and does not shrink to nothing.
func benchSummary(r *rand.Rand) []byte {
	b := make([]byte, 700)
	for i := range b {
		b[i] = byte('a' + r.IntN(16))
	}
	return b
}

// BenchmarkDeliver is what a shard's state machine does per message: look the delivery id up, add the message to a random
// account's INBOX, remember the result; and the same with encrypted files. Bar: 15 µs of CPU per message.
func BenchmarkDeliver(b *testing.B) {
	for _, group := range []int{1, 16} {
		b.Run(fmt.Sprintf("entries=%d", group), func(b *testing.B) { benchDeliver(b, vfs.Default, group) })
		b.Run(fmt.Sprintf("encrypted/entries=%d", group), func(b *testing.B) { benchDeliver(b, atrest.ScratchKey().FS(vfs.Default), group) })
	}
}

func benchDeliver(b *testing.B, fs vfs.FS, group int) {
	s := benchShard(b, fs)
	r := rand.New(rand.NewPCG(1, 1))
	summary := benchSummary(r)
	index := uint64(1)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for n := 0; n < b.N; {
		tx := s.Begin()
		for range group {
			index++
			n++
			tx.SetIndex(index)
			deliver(b, tx, r.Uint64N(benchAccounts), index, summary)
		}
		must(b, tx.Commit(index))
	}
	must(b, s.db.Flush())
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/msg")
}

// cpuTime is the process's processor time, which other processes' load changes less than the clock: flushes and compactions are in it.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func deliver(b *testing.B, tx *Txn, account, index uint64, summary []byte) {
	var id [16]byte // as a proposer makes them: its own number, then a counter
	binary.BigEndian.PutUint64(id[:], index%4*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], index)
	if _, known, err := tx.Recall(id); err != nil || known {
		b.Fatal(known, err)
	}
	must(b, tx.EnsureAccount(account, 1))
	in, err := tx.MailboxByName(account, "INBOX")
	must(b, err)
	if _, _, err := tx.AddMessages(account, in.ID, []NewMessage{{Date: 1700000000, Size: 10000, Ref: testRef(index), Summary: summary}}); err != nil {
		b.Fatal(err)
	}
	must(b, tx.Remember(id, []byte("result of a delivery")))
}

// million fills account 0's INBOX: a tenth unseen, some expunged.
func million(b *testing.B, s *Shard) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	index := uint64(1)
	for range 1000 {
		index++
		entry(b, s, index, func(tx *Txn) {
			list := make([]NewMessage, 1001)
			for i := range list {
				list[i] = NewMessage{Date: 1700000000, Size: 10000, Ref: testRef(index*1001 + uint64(i)), Summary: []byte("short")}
				if r.IntN(10) > 0 {
					list[i].Flags.System = FlagSeen
				}
			}
			uids, _, err := tx.AddMessages(0, 1, list)
			must(b, err)
			_, err = tx.Expunge(0, 1, roaring.BitmapOf(uids[r.IntN(len(uids))]), false)
			must(b, err)
		})
	}
}

// BenchmarkMillion reads a mailbox of a million messages. Bar for select: 5 ms.
func BenchmarkMillion(b *testing.B) {
	s := benchShard(b, vfs.Default)
	million(b, s)
	must(b, s.db.Flush())
	b.Run("select", func(b *testing.B) {
		for range b.N {
			v := s.View()
			mb, err := v.MailboxByName(0, "INBOX")
			must(b, err)
			uids, err := v.UIDs(0, mb.ID)
			must(b, err)
			if uids.GetCardinality() != 1_000_000 || mb.Messages != 1_000_000 {
				b.Fatal(uids.GetCardinality(), mb)
			}
			must(b, v.Close())
		}
	})
	b.Run("seen", func(b *testing.B) {
		for range b.N {
			v := s.View()
			seen, err := v.Flagged(0, 1, FlagSeen)
			must(b, err)
			if seen.IsEmpty() {
				b.Fatal("none")
			}
			must(b, v.Close())
		}
	})
	b.Run("flags-scan", func(b *testing.B) {
		for range b.N {
			v := s.View()
			n := 0
			must(b, v.Messages(0, 1, nil, WantFlags, func(*Message) error { n++; return nil }))
			must(b, v.Close())
			if n != 1_000_000 {
				b.Fatal(n)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/message")
	})
	b.Run("fetch-50", func(b *testing.B) {
		for i := range b.N {
			uids := roaring.New()
			start := uint64(1000 + i*977%900_000)
			uids.AddRange(start, start+50)
			v := s.View()
			must(b, v.Messages(0, 1, uids, WantFlags|WantImmutable|WantSummary, func(*Message) error { return nil }))
			must(b, v.Close())
		}
	})
	index := uint64(2000)
	b.Run("store-one", func(b *testing.B) {
		for i := range b.N {
			index++
			entry(b, s, index, func(tx *Txn) {
				_, _, err := tx.SetFlags(0, 1, roaring.BitmapOf(uint32(1+i*7919%1_000_000)), FlagOp(1+i%2), Flags{System: FlagFlagged}, 0)
				must(b, err)
			})
		}
	})
}

// BenchmarkComeAndGo is an account with five messages that comes to a shard and leaves it again, as accounts that move do; each 1,500 have a new store.
func BenchmarkComeAndGo(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	summary := benchSummary(r)
	var s *Shard
	for n := uint64(0); b.Loop(); n++ {
		if n%1500 == 0 {
			b.StopTimer()
			s = benchShard(b, vfs.Default)
			b.StartTimer()
		}
		account, at := benchAccounts+n, 3*(n%1500)+2
		entry(b, s, at, func(tx *Txn) {
			must(b, tx.EnsureAccount(account, 1))
			for i := range uint64(5) {
				deliver(b, tx, account, 10*n+i, summary)
			}
			must(b, tx.Freeze(account, n+1, 2))
		})
		entry(b, s, at+1, func(tx *Txn) { must(b, tx.Release(account, n+1, 2, n)) })
		entry(b, s, at+2, func(tx *Txn) {
			_, err := tx.Drop(account, n+1, 2, 0)
			must(b, err)
		})
	}
}
