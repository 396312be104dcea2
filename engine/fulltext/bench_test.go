package fulltext

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/bench/mail"
	"hongyan/engine/message"
)

var benchMessages = flag.Int("fulltext.messages", 5000, "messages of the mailbox that BenchmarkMailbox indexes")

// said is a message's texts, as searches see them.
func said(raw []byte) (texts [][]byte, err error) {
	sc := message.NewScanner()
	if _, err := sc.Write(raw); err != nil {
		return nil, err
	}
	t := message.Texts{
		Open: func(from, to uint64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw[min(from, uint64(len(raw))):min(to, uint64(len(raw)))])), nil
		},
		Field: func(text string) (bool, error) { texts = append(texts, []byte(text)); return false, nil },
		Body: func(r io.Reader) (bool, error) {
			b, err := io.ReadAll(r)
			texts = append(texts, b)
			return false, err
		},
	}
	_, err = t.Walk(sc.Finish().Structure, true)
	return texts, err
}

// BenchmarkMailbox indexes a mailbox of the bench's mail as a node does that has much to index, and searches in it: messages and bytes of text a second, bytes of index
// for one of text, and times of searches of each kind.
func BenchmarkMailbox(b *testing.B) {
	db, err := Open(vfs.Default, b.TempDir(), discard)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	g := mail.New(1)
	var text, bytesIn int64
	var indexing, merging time.Duration
	batch := NewBatch(box, validity, 0)
	last := uint32(*benchMessages)
	for uid := uint32(1); uid <= last; uid++ {
		raw := g.Next().Bytes
		texts, err := said(raw)
		if err != nil {
			b.Fatal(err)
		}
		bytesIn += int64(len(raw))
		began := time.Now()
		batch.Begin(uid)
		for _, t := range texts {
			text += int64(len(t))
			batch.Text(t)
		}
		if batch.Len() == 512 || batch.Size() > 16<<20 || uid == last {
			if err := db.Commit(batch, uid); err != nil {
				b.Fatal(err)
			}
			batch = NewBatch(box, validity, uid)
		}
		indexing += time.Since(began)
		if batch.Len() == 0 {
			began = time.Now()
			db.tend(b, upTo(uid))
			merging += time.Since(began)
		}
	}
	if err := db.use(func(p *pebble.DB) error { return p.Flush() }); err != nil {
		b.Fatal(err)
	}
	if err := db.use(func(p *pebble.DB) error { return p.Compact(b.Context(), []byte{0}, []byte{0xff}, false) }); err != nil {
		b.Fatal(err)
	}
	s, err := db.State(box)
	if err != nil {
		b.Fatal(err)
	}
	var size uint64
	if err := db.use(func(p *pebble.DB) error { size = uint64(p.Metrics().Total().TablesSize); return nil }); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d messages of %d bytes, %d of them text; index %d bytes in %d segments; indexing %v, merging %v", last, bytesIn, text, size, s.Segments, indexing.Round(time.Millisecond), merging.Round(time.Millisecond))
	b.ReportMetric(float64(last)/(indexing+merging).Seconds(), "msgs/s")
	b.ReportMetric(float64(text)/1e6/(indexing+merging).Seconds(), "MB/s")
	b.ReportMetric(float64(size)/float64(text), "index-B/text-B")
	b.ReportMetric(float64(size)/float64(last), "index-B/msg")
	rng := rand.New(rand.NewPCG(1, 1))
	for _, needle := range []string{"invoice", "meeting tomorrow", "voic", "hongyan", "xqzzy", "ab", "会议", "发票", "通知您", "会", "dkim-signature", fmt.Sprint(rng.Uint64())} {
		var best time.Duration
		var found uint64
		for i := range 5 {
			began := time.Now()
			found = db.find(b, needle).UIDs.GetCardinality()
			if took := time.Since(began); i == 0 || took < best {
				best = took
			}
		}
		b.Logf("%-20q %8d candidates %12v", needle, found, best.Round(time.Microsecond))
	}
	for b.Loop() {
		db.find(b, "xqzzy")
	}
}

// BenchmarkDeliveries indexes messages that come one by one to many mailboxes: what one costs to index, to merge, and in bytes written.
func BenchmarkDeliveries(b *testing.B) {
	db, err := Open(vfs.Default, b.TempDir(), discard)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	const mailboxes = 200
	g := mail.New(1)
	var some [][][]byte
	for range 500 {
		texts, err := said(g.Next().Bytes)
		if err != nil {
			b.Fatal(err)
		}
		some = append(some, texts)
	}
	n := 0
	for b.Loop() {
		m, uid := Mailbox{1, 1, uint32(n % mailboxes)}, uint32(n/mailboxes)+1
		batch := NewBatch(m, validity, uid-1)
		batch.Begin(uid)
		for _, t := range some[n*7919%len(some)] {
			batch.Text(t)
		}
		if err := db.Commit(batch, uid); err != nil {
			b.Fatal(err)
		}
		if s, err := db.State(m); err != nil {
			b.Fatal(err)
		} else if s.Segments >= fanIn {
			if _, err := db.Tend(b.Context(), m, upTo(uid), uid+1); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	var written uint64
	if err := db.use(func(p *pebble.DB) error {
		if err := p.Flush(); err != nil {
			return err
		}
		t := p.Metrics().Total()
		written = t.TableBytesFlushed + t.TableBytesCompacted
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(written)/float64(n), "written-B/msg")
}
