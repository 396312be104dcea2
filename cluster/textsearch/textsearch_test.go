package textsearch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"hongyan/engine/fulltext"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

func box(n uint32) fulltext.Mailbox { return fulltext.Mailbox{Shard: 1, Account: 2, ID: n} }

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		take := func(l lane) string {
			m, wait, ok := q.take(l, time.Now())
			if !ok {
				return fmt.Sprint("wait ", wait)
			}
			return fmt.Sprint(m.ID)
		}
		expect := func(l lane, want string) {
			t.Helper()
			if got := take(l); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
		q.add(fresh, box(1), time.Now())
		q.add(fresh, box(2), time.Now())
		q.add(fresh, box(1), time.Now())
		q.add(old, box(1), time.Now())
		expect(fresh, "wait 500ms")
		time.Sleep(gatherFor)
		expect(fresh, "1")
		expect(old, "wait 1s") // it is busy
		if n, since := q.waiting(); n != 3 || time.Since(since) != gatherFor {
			t.Errorf("%d wait since %v", n, since)
		}
		q.done(box(1), true, fresh)
		expect(fresh, "2")
		q.done(box(2), false, fresh)
		expect(fresh, "1")
		for try := 1; try <= maxTries; try++ {
			if got := q.fail(box(1), 7, time.Now()); got != try || q.hopeless(box(1), 7) != (try == maxTries) {
				t.Fatalf("try %d: %d, hopeless %v", try, got, q.hopeless(box(1), 7))
			}
		}
		q.done(box(1), true, old)
		expect(old, "wait 1s")
		time.Sleep(lastRetry)
		expect(old, "1")
		q.succeed(box(1))
		q.done(box(1), false, old)
		if q.hopeless(box(1), 7) {
			t.Error("what went well is still hopeless")
		}
		for i := range uint32(maxWaiting) {
			q.add(old, box(i), time.Now())
		}
		if q.add(old, box(maxWaiting), time.Now()) || q.room() || !q.add(old, box(3), time.Now()) || !q.add(fresh, box(maxWaiting), time.Now()) {
			t.Error("the queue's bound")
		}
	})
}

// shelf holds messages by record; those that are not there cannot be read.
type shelf map[uint64]string

func (s shelf) Read(_ context.Context, ref volume.Ref, off, n uint64) (io.ReadCloser, error) {
	raw, ok := s[ref.Record]
	if !ok {
		return nil, errors.New("no copy answers")
	}
	end := min(uint64(len(raw)), off+n)
	return io.NopCloser(strings.NewReader(raw[min(off, end):end])), nil
}

// TestFill reads what can be read. A message that cannot be holds up those behind it, until it is given up and is a candidate of every search.
func TestFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mail := shelf{1: "Subject: one\r\n\r\nfirst text\r\n", 3: "Subject: three\r\nContent-Type: text/plain\r\n\r\n" + strings.Repeat("filler ", 20_000) + "needle\r\n",
			4: "Subject: four\r\n\r\n" + strings.Repeat("much text ", fulltext.MaxText/10+1)}
		log := slog.New(slog.DiscardHandler)
		db, err := fulltext.Open(vfs.NewMem(), "fulltext", log)
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{cfg: Config{Volumes: mail, DB: db, Log: log}, limit: rate.NewLimiter(DefaultRate, DefaultRate), queue: newQueue(), metrics: newMetrics()}
		list := &todo{validity: 1, end: 9}
		for uid := uint32(1); uid <= 4; uid++ {
			sc := message.NewScanner()
			if _, err := io.WriteString(sc, mail[uint64(uid)]); err != nil {
				t.Fatal(err)
			}
			summary, err := sc.Finish().Encode()
			if err != nil || uid == 1 {
				summary = []byte("not one") // it is made from the bytes then
			}
			list.messages = append(list.messages, item{uid, volume.Ref{Record: uint64(uid), Length: uint64(len(mail[uint64(uid)]))}, summary})
		}
		m := box(1)
		for try := 1; try <= maxTries; try++ {
			b := fulltext.NewBatch(m, 1, 0)
			if end, err := s.fill(t.Context(), fresh, m, &todo{validity: 1, end: 9, messages: list.messages[:3]}, b); err == nil || end != 1 || b.Len() != 1 {
				t.Fatalf("try %d: %d messages up to %d, %v", try, b.Len(), end, err)
			}
		}
		b := fulltext.NewBatch(m, 1, 0)
		end, err := s.fill(t.Context(), fresh, m, list, b)
		if err != nil || end != 9 || b.Len() != 4 {
			t.Fatalf("%d messages up to %d, %v", b.Len(), end, err)
		}
		if err := db.Commit(b, end); err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string]string{"FIRST": "[1 2 4]", "needle": "[2 3 4]", "subject": "[1 2 3 4]", "absent": "[2 4]"} {
			if a, err := db.Search(t.Context(), m, 1, text); err != nil || fmt.Sprint(a.UIDs.ToArray()) != want || a.Through != 9 {
				t.Errorf("%q: %v up to %d, %v; want %s", text, a.UIDs, a.Through, err, want)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCut(t *testing.T) {
	for _, text := range []string{"", "short", "bad \xff byte", strings.Repeat("文", maxNeedle), "x" + strings.Repeat("文", maxNeedle)} {
		got := cut(text)
		if len(got) > maxNeedle || !utf8.ValidString(got) || !bytes.HasPrefix([]byte(strings.ToValidUTF8(text, "\uFFFD")), []byte(got)) || len(text) < maxNeedle && len(got) < len(text) {
			t.Errorf("%.20q becomes %.20q of %d bytes", text, got, len(got))
		}
	}
}
