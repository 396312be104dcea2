package index

import (
	"bytes"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// While two shards are written, Views stay consistent in themselves, saved shards are those of one applied index, and
// Flushed never passes Applied.
func TestReadersBesideWriters(t *testing.T) {
	const entries = 200
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	copies := openTest(t, vfs.NewMem())
	defer closeTest(t, copies)
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for id := range uint32(2) {
		s := db.Shard(id)
		entry(t, s, 1, func(tx *Txn) { must(t, tx.EnsureAccount(1, 1)) })
		writers.Go(func() {
			for index := uint64(2); index <= entries; index++ {
				entry(t, s, index, func(tx *Txn) {
					_, _, err := tx.AddMessages(1, 1, []NewMessage{{Ref: testRef(index), Size: 1, Summary: make([]byte, 500)}})
					must(t, err)
				})
				if index%50 == 0 {
					must(t, s.FlushTo(index))
				}
			}
		})
		readers.Go(func() { readUntil(t, s, done) })
		readers.Go(func() { copyUntil(t, s, copies.Shard(id), done) })
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func readUntil(t *testing.T, s *Shard, done chan struct{}) {
	for {
		v := s.View()
		applied, err := v.Applied()
		must(t, err)
		mb, err := v.MailboxByName(1, "INBOX")
		must(t, err)
		uids, err := v.UIDs(1, mb.ID)
		must(t, err)
		rows := uint64(0)
		must(t, v.Messages(1, mb.ID, nil, WantImmutable, func(*Message) error { rows++; return nil }))
		if want := applied - 1; uint64(mb.Messages) != want || uids.GetCardinality() != want || rows != want {
			t.Errorf("at %d: %d messages, %d UIDs, %d rows", applied, mb.Messages, uids.GetCardinality(), rows)
		}
		must(t, v.Close())
		flushed := s.Flushed()
		if now, err := s.Applied(); err != nil || flushed > now {
			t.Errorf("flushed %d, applied %d, %v", flushed, now, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func copyUntil(t *testing.T, from, to *Shard, done chan struct{}) {
	for {
		var b bytes.Buffer
		applied, err := from.Save(&b)
		must(t, err)
		must(t, to.Load(&b))
		v := to.View()
		mb, err := v.MailboxByName(1, "INBOX")
		must(t, err)
		if uint64(mb.Messages) != applied-1 || to.Flushed() != applied {
			t.Errorf("a copy at %d has %d messages, %d flushed", applied, mb.Messages, to.Flushed())
		}
		must(t, v.Close())
		select {
		case <-done:
			return
		default:
		}
	}
}
