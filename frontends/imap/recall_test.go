package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/frontends/imap/columns"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/order"
)

// library is a mail of one mailbox in memory.
type library struct {
	stub
	t       *testing.T
	list    []*client.Message // in the order of UIDs
	raw     map[uint32][]byte
	lost    map[uint32]bool
	gone    map[uint32]uint64 // modseq of the expunge
	modseq  uint64
	reads   int
	replies int // of messages
}

func newLibrary(t *testing.T) *library {
	return &library{t: t, raw: map[uint32][]byte{}, lost: map[uint32]bool{}, gone: map[uint32]uint64{}, modseq: 1}
}

// add enters a message. Some summaries are damaged, and the bytes of some messages are lost.
func (l *library) add(rng *rand.Rand, raw []byte) {
	sc := message.NewScanner()
	if _, err := sc.Write(raw); err != nil {
		l.t.Fatal(err)
	}
	enc, err := sc.Finish().Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	l.modseq++
	uid := uint32(len(l.raw)+1) * 3
	if rng.IntN(20) == 0 {
		enc = enc[:rng.IntN(len(enc))]
	}
	l.lost[uid] = rng.IntN(20) == 0
	l.raw[uid] = raw
	m := &client.Message{UID: uid, ModSeq: l.modseq, Date: 1_700_000_000 + rng.Int64N(100_000_000), Zone: int16(rng.IntN(1440) - 720), Size: uint64(len(raw)), Summary: enc, SaveDate: rng.Int64N(1_800_000_000)}
	m.Ref.Length, m.Ref.Record = uint64(len(raw)), uint64(uid)
	m.Flags.System = uint8(rng.IntN(32))
	if rng.IntN(3) == 0 {
		m.Flags.Keywords = []string{"$Work"}
	}
	l.list = append(l.list, m)
}

func (l *library) expunge(i int) {
	l.modseq++
	l.gone[l.list[i].UID] = l.modseq
	l.list = slices.Delete(l.list, i, i+1)
}

func (l *library) next() uint32 { return uint32(len(l.raw)+1) * 3 }

func (l *library) uids() *roaring.Bitmap {
	all := roaring.New()
	for _, m := range l.list {
		all.Add(m.UID)
	}
	return all
}

func (l *library) Messages(_ context.Context, _ client.Account, _ uint32, uids *roaring.Bitmap, want client.Want, fn func(*client.Message) error) error {
	for _, m := range l.list {
		if !uids.Contains(m.UID) {
			continue
		}
		l.replies++
		given := client.Message{UID: m.UID}
		if want&(index.WantFlags|index.WantImmutable) != 0 {
			given.ModSeq, given.Flags, given.Date, given.Zone, given.Size = m.ModSeq, m.Flags, m.Date, m.Zone, m.Size
		}
		if want&(index.WantImmutable|index.WantSummary) != 0 {
			given.Ref, given.SaveDate, given.Summary = m.Ref, m.SaveDate, m.Summary
		}
		if err := fn(&given); err != nil {
			return err
		}
	}
	return nil
}

func (l *library) Flagged(_ context.Context, _ client.Account, _ uint32, flag uint8) (*roaring.Bitmap, error) {
	set := roaring.New()
	for _, m := range l.list {
		if m.Flags.System&flag != 0 {
			set.Add(m.UID)
		}
	}
	return set, nil
}

func (l *library) Changes(_ context.Context, _ client.Account, _ uint32, since uint64, _ ...uint64) (client.Changes, error) {
	ch := client.Changes{HighestModSeq: l.modseq, UIDNext: l.next(), Vanished: roaring.New()}
	for _, m := range l.list {
		if m.ModSeq > since {
			ch.Changed = append(ch.Changed, client.FlagChange{UID: m.UID, ModSeq: m.ModSeq, Flags: m.Flags})
		}
	}
	slices.SortFunc(ch.Changed, func(a, b client.FlagChange) int { return int(a.ModSeq) - int(b.ModSeq) })
	if len(ch.Changed) > 5 { // in parts
		ch.Changed = ch.Changed[:5]
		ch.HighestModSeq, ch.More = ch.Changed[4].ModSeq, true
	}
	for uid, at := range l.gone {
		if at > since && at <= ch.HighestModSeq {
			ch.Vanished.Add(uid)
		}
	}
	return ch, nil
}

func (l *library) Open(_ context.Context, _ client.Account, _, uid uint32, _ client.Ref, off, n uint64) (io.ReadCloser, error) {
	l.reads++
	if l.lost[uid] {
		return nil, fmt.Errorf("%w: nowhere", client.ErrLost)
	}
	raw := l.raw[uid][min(off, uint64(len(l.raw[uid]))):]
	return io.NopCloser(bytes.NewReader(raw[:min(n, uint64(len(raw)))])), nil
}

func (l *library) Doubt(client.Account, uint32, uint32, client.Ref) {}

func (l *library) Candidates(context.Context, client.Account, uint32, uint32, string) (uint32, *roaring.Bitmap) {
	return 0, roaring.New()
}

// reader is a session in a library, on a server of its own.
func (l *library) reader(t *testing.T, m *Memory) *session {
	t.Helper()
	base, _, _ := pipe(t)
	srv := newServer(Config{Hostname: "test", Memory: m}, l)
	s := newSession(srv, newConn(base, srv))
	s.pace.next = time.Now().Add(time.Hour)
	t.Cleanup(s.close)
	return s
}

// selected opens the library.
func (l *library) selected() *selected {
	return newSelected(client.Account{ID: 7}, client.Selected{Mailbox: client.Mailbox{ID: 1, UIDValidity: 5, HighestModSeq: l.modseq}, UIDs: l.uids(), Rights: client.RightsAll}, false)
}

// corpus are messages that people and programs really wrote, many of them malformed; else some of our own.
func corpus(t *testing.T) (list [][]byte) {
	t.Helper()
	archive, dir := "../../../shared/corpus.tar.xz", t.TempDir()
	if _, err := os.Stat(archive); err != nil {
		archive = "/work/shared/corpus.tar.xz"
	}
	if out, err := exec.Command("tar", "-xJf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Skipf("needs the corpus of test messages, tar and xz: unpack %s: %v: %s", archive, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d messages in %s, %v", len(files), archive, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) < 64<<10 {
			list = append(list, raw)
		}
	}
	return list
}

// asker makes random search keys.
type asker struct {
	*rand.Rand
	uids  uint32
	words []string
}

func (a *asker) pick(of ...string) string { return of[a.IntN(len(of))] }

func (a *asker) date() time.Time {
	return time.Date(1995+a.IntN(35), 3, 1+a.IntN(28), 0, 0, 0, 0, time.UTC)
}

func (a *asker) key(depth int) *command.Key {
	k := &command.Key{Kind: command.KeyKind(a.IntN(int(command.KeySavedSince) + 1)), Date: a.date(), Size: a.Int64N(5000)}
	if a.IntN(3) == 0 {
		k.Kind = command.KeyHeader
	}
	switch k.Kind {
	case command.KeyAnd, command.KeyOr, command.KeyNot:
		if depth == 0 {
			k.Kind = command.KeyAll
			break
		}
		n := map[command.KeyKind]int{command.KeyAnd: 1 + a.IntN(3), command.KeyOr: 2, command.KeyNot: 1}[k.Kind]
		for range n {
			k.Keys = append(k.Keys, a.key(depth-1))
		}
	case command.KeySet:
		k.Set = goimap.UIDSet{{Start: goimap.UID(a.Uint32N(a.uids)), Stop: goimap.UID(a.Uint32N(a.uids))}}
	case command.KeyFlag:
		k.Flag = goimap.Flag(a.pick(`\Seen`, `\Flagged`, "$Work", "$None"))
	case command.KeyHeader:
		k.Field = a.pick("Subject", "SUBJECT", "From", "to", "Cc", "Bcc", "Message-ID", "Received", "X-Mailer", "Content-Type", "X-None", "Reply-To", "List-Id")
		k.Text = a.pick("", "re", "@", "a", ".com", "list", a.words[a.IntN(len(a.words))])
	case command.KeyBody, command.KeyText:
		k.Text = a.words[a.IntN(len(a.words))]
		if a.IntN(4) > 0 { // reading all messages takes long
			k.Kind = command.KeyAll
		}
	case command.KeyOlder, command.KeyYounger:
		k.Size = a.Int64N(100_000_000)
	case command.KeyModSeq:
		k.Size = a.Int64N(1000)
	case command.KeyEmailID:
		k.Text = "none"
	}
	return k
}

// numbersOf are a thread's.
func numbersOf(f *order.Forest, err error) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for tok := range f.Tokens() {
		fmt.Fprint(&b, tok, " ")
	}
	return b.String()
}

// TestRecall: searches, sorts and threads of what people really wrote, damaged and lost messages among it, have the same answers whether anything is remembered or not: while
// messages come and go, and the session knows of it or does not, also when there is room for a part only.
func TestRecall(t *testing.T) {
	rng := rand.New(rand.NewPCG(29, 11))
	raws := corpus(t)
	rng.Shuffle(len(raws), func(i, j int) { raws[i], raws[j] = raws[j], raws[i] })
	l := newLibrary(t)
	more := func(n int) {
		for ; n > 0 && len(raws) > 0; n-- {
			l.add(rng, raws[0])
			raws = raws[1:]
		}
	}
	more(300)
	readers := []*session{l.reader(t, newMemory(1)), l.reader(t, newMemory(100<<20)), l.reader(t, newMemory(40<<10))}
	sel := l.selected()
	ask := &asker{Rand: rng, words: []string{"test", "message", "the", "ü", "鸿", "Hello"}}
	matched := 0
	rounds := effort.Of(15, 120, 1000)
	for range rounds {
		ask.uids = l.next()
		key := ask.key(3)
		var criteria []command.Criterion
		for range 1 + rng.IntN(3) {
			criteria = append(criteria, command.Criterion{Kind: command.SortKind(rng.IntN(int(command.SortTo) + 1)), Reverse: rng.IntN(2) == 0})
		}
		var want [4]string
		for i, s := range readers {
			found, err := s.find(s.recall(sel), key)
			sorted, errSort := s.sorted(sel, &command.Sort{Search: command.Search{Key: key}, Criteria: criteria})
			var got [4]string
			got[0], got[1] = fmt.Sprint(found, err), fmt.Sprint(sorted, errSort)
			for j, algorithm := range []command.Algorithm{command.References, command.OrderedSubject} {
				held := holding{total: &s.srv.sorting}
				got[2+j] = numbersOf(s.threads(sel, &command.Thread{Key: key, Algorithm: algorithm}, &held))
				held.release()
			}
			if i == 0 {
				want = got
				if err != nil || errSort != nil {
					t.Fatal(err, errSort)
				}
				matched += int(found.GetCardinality())
			} else if got != want {
				for j := range got {
					if got[j] != want[j] {
						t.Fatalf("reader %d: %+v by %v:\n%s, want\n%s", i, key, criteria, got[j], want[j])
					}
				}
			}
		}
		switch rng.IntN(4) {
		case 0:
			l.expunge(rng.IntN(len(l.list)))
		case 1:
			l.expunge(len(l.list) - 1)
			more(rng.IntN(10))
		case 2:
			sel = l.selected()
		}
	}
	var stats [3]columns.Stats
	for i, s := range readers {
		stats[i] = s.srv.memory.columns.Stats()
	}
	none, all, some := stats[0], stats[1], stats[2]
	if rounds < 100 {
		return
	}
	if matched < 1000 || none.Hits > 0 || all.Hits < 10*all.Misses || some.Hits == 0 || some.Hits >= all.Hits || some.Bytes > 40<<10 {
		t.Errorf("%d matches; %+v; %+v; %+v", matched, none, all, some)
	}
}

// What was remembered needs neither messages nor their bytes, whichever server of the node found it out.
func TestRecallAsksNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	l := newLibrary(t)
	for i := range 300 {
		l.add(rng, fmt.Appendf(nil, "From: a%d@x.test\r\nReceived: by r%d\r\nSubject: s%d\r\n\r\n", i, i, i%7))
	}
	memory, sel := NewMemory(), l.selected()
	s := l.reader(t, memory)
	keys := []*command.Key{{Kind: command.KeyHeader, Field: "SUBJECT", Text: "s3"}, {Kind: command.KeyHeader, Field: "Received", Text: "r5"}, {Kind: command.KeyLarger, Size: 10}, {Kind: command.KeySince}}
	for round := range 2 {
		for _, k := range keys {
			if _, err := s.find(s.recall(sel), k); err != nil {
				t.Fatal(err)
			}
			if _, err := s.sorted(sel, &command.Sort{Search: command.Search{Key: k}, Criteria: []command.Criterion{{Kind: command.SortSize}, {Kind: command.SortSubject}}}); err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 && (l.reads > 50 || l.replies > 100) { // of those whose bytes are lost, and nothing else
			t.Errorf("%d messages were asked for, %d read", l.replies, l.reads)
		}
		l.reads, l.replies = 0, 0
		s = l.reader(t, memory)
	}
	// What a message had is gone once its mailbox is searched without it.
	before := memory.columns.Stats().Bytes
	for len(l.list) > 1 {
		l.expunge(rng.IntN(len(l.list)))
	}
	for _, k := range keys {
		if _, err := s.find(s.recall(sel), k); err != nil {
			t.Fatal(err)
		}
	}
	if after := memory.columns.Stats().Bytes; after > before/2 {
		t.Errorf("%d bytes are remembered of 1 message, %d of 300", after, before)
	}
}
