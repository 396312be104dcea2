package scrub

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"hongyan/cluster/clock"
	"hongyan/cluster/replica"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/volume"
)

func sampleFinding() Finding {
	return Finding{Time: 1_700_000_000, Volume: 31, Record: 2, Start: 4096, End: 5000, What: "checksum of a chunk", Mended: true,
		From: "north-1", Records: 3, Differs: true}
}

func sampleMark() mark {
	return mark{Volume: 31, Generation: 1, Known: 1_600_000_000, Checked: 1_700_000_000, Digest: bytes.Repeat([]byte{7}, 32), Damaged: 4}
}

// TestGoldenFormats: what nodes say to each other, and what the state file holds, is as it was when the format was made.
func TestGoldenFormats(t *testing.T) {
	k, f := sampleMark(), sampleFinding()
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "mark", Value: &k},
		{Name: "finding", Value: &f},
		{Name: "saved", Value: &saved{Marks: []mark{k}, Findings: []Finding{f}}},
		{Name: "digestRequest", Value: &digestRequest{Volume: 31, Generation: 1}},
		{Name: "digestReply", Value: &digestReply{Digest: k.Digest, Checked: 5}},
		{Name: "rangesRequest", Value: &rangesRequest{Volume: 31, Generation: 1}},
		{Name: "startRequest", Value: &startRequest{Volume: 31}},
		{Name: "startReply", Value: &startReply{Copies: 2}},
		{Name: "damaged", Value: &Damaged{Volume: 31, Records: 4, Checked: 5}},
		{Name: "totals", Value: &Totals{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{Name: "report", Value: &Report{Node: "south-1", Error: "none", Every: 1, Rate: 2, Copies: 3, Bytes: 4, Current: 5, Oldest: 6,
			Running: 7, Done: 8, Length: 9, Waiting: 10, Totals: Totals{Copies: 1}, Damaged: []Damaged{{1, 2, 3}}, Findings: []Finding{f}}},
	})
}

// TestGoldenState: the state file of version 1 is read, and written the same.
func TestGoldenState(t *testing.T) {
	const name = "testdata/scrub-1.state"
	want := &saved{Marks: []mark{sampleMark()}, Findings: []Finding{sampleFinding()}}
	now, err := encodeState(want)
	if err != nil {
		t.Fatal(err)
	}
	if update := flag.Lookup("update"); update != nil && update.Value.String() == "true" {
		if err := os.WriteFile(name, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeState(old); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the golden file reads as %+v, %v", got, err)
	}
	if !bytes.Equal(now, old) {
		t.Error("the encoding has changed")
	}
	newer := bytes.Clone(old)
	newer[7]++
	if _, err := decodeState(newer); err == nil {
		t.Error("a newer version is read")
	}
}

func FuzzState(f *testing.F) {
	b, err := encodeState(&saved{Marks: []mark{sampleMark()}, Findings: []Finding{sampleFinding()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		if _, err := encodeState(s); err != nil {
			t.Errorf("read and not written: %v", err)
		}
	})
}

// TestStateSurvivesPowerCuts: after a power cut at any moment the old state is there or the new one.
func TestStateSurvivesPowerCuts(t *testing.T) {
	mem := vfs.NewCrashableMem()
	for i := range 5 {
		if err := writeState(mem, "/s", &saved{Marks: []mark{{Volume: volume.ID(i + 1)}}}); err != nil {
			t.Fatal(err)
		}
		got, err := readState(mem.CrashClone(vfs.CrashCloneCfg{}), "/s")
		if err != nil || len(got.Marks) != 1 || got.Marks[0].Volume != volume.ID(i+1) {
			t.Fatalf("after write %d: %+v, %v", i, got, err)
		}
	}
}

// shelf is a list of copies.
type shelf []replica.Entry

func (s shelf) Copies() []replica.Entry { return s }
func (s shelf) Others(context.Context, replica.Entry) ([]string, []io.ReaderAt) {
	return nil, nil
}
func (s shelf) MendKeys(context.Context, replica.Entry) (int64, int, error) { return 0, 0, nil }
func (s shelf) Recheck(volume.ID)                                           {}

func quiet(copies shelf, every time.Duration) *Scrubber {
	return &Scrubber{cfg: Config{Every: every, Copies: copies}, log: slog.New(slog.DiscardHandler), ctx: context.Background(),
		wake: make(chan struct{}, 1), limit: rate.NewLimiter(1<<20, burst), marks: make(map[volume.ID]*mark),
		retries: make(map[volume.ID]retry), now: make(map[volume.ID]struct{}), waiting: make(map[place]struct{}), doubted: make(map[volume.ID]int)}
}

// TestWhatIsDueFirst: what an operator asks for, then what was not looked at for longest; nothing before its time.
func TestWhatIsDueFirst(t *testing.T) {
	const every = 14 * 24 * time.Hour
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	s := quiet(nil, every)
	s.marks[1] = &mark{Volume: 1, Known: ago(time.Hour)}                             // new
	s.marks[2] = &mark{Volume: 2, Known: ago(9e15), Checked: ago(every + time.Hour)} // an hour late
	s.marks[3] = &mark{Volume: 3, Known: ago(26 * time.Hour)}                        // two hours late
	s.marks[4] = &mark{Volume: 4, Checked: ago(every - time.Hour)}
	s.marks[5] = &mark{Volume: 5, Generation: 1, Checked: ago(2 * every)} // of an earlier generation
	s.marks[6] = &mark{Volume: 6, Checked: ago(2 * every), Damaged: 1}
	s.retries[6] = retry{at: now.Add(time.Minute)}
	copies := shelf{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}, {ID: 5, Generation: 2}, {ID: 6}, {ID: 7}}
	var order []volume.ID
	for {
		e, ok := s.next(copies, now)
		if !ok {
			break
		}
		order = append(order, e.ID)
		delete(s.now, e.ID)
		s.marks[e.ID].Checked = now.Unix()
		if len(order) == 1 {
			s.now[4] = struct{}{}
		}
	}
	if fmt.Sprint(order) != fmt.Sprint([]volume.ID{3, 4, 2}) {
		t.Errorf("order %v", order)
	}
	if s.marks[7].Known != now.Unix() || s.marks[5].Generation != 2 || s.marks[5].Checked != 0 {
		t.Errorf("%+v, %+v", s.marks[7], s.marks[5])
	}
	if e, ok := s.next(copies, now.Add(2*time.Minute)); !ok || e.ID != 6 {
		t.Errorf("a damaged copy is not looked at again: %v, %v", e.ID, ok)
	}
}

// bench is a copy of a volume with three records on a real disk, and what the scrubber asked of its repairer.
type bench struct {
	shelf
	set       *volume.Set
	rechecked []volume.ID
}

func (b *bench) Copies() []replica.Entry { return b.shelf }
func (b *bench) Recheck(id volume.ID)    { b.rechecked = append(b.rechecked, id) }

func newBench(t *testing.T) (*Scrubber, *bench, replica.Entry) {
	t.Helper()
	set, err := volume.OpenSet(vfs.Default, t.TempDir(), volume.SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	v, err := set.Create(volume.Header{ID: 7}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		spool := volume.NewSpool(vfs.Default, t.TempDir(), 1<<20)
		if _, err := spool.Write(bytes.Repeat([]byte("mail"), 500)); err != nil {
			t.Fatal(err)
		}
		b, err := spool.Finish()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = v.Append(context.Background(), volume.KindMessage, nil, b)
		if err := errors.Join(err, b.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Seal(); err != nil {
		t.Fatal(err)
	}
	e := replica.Entry{ID: 7, State: replica.Sealed, Length: v.Durable()}
	b := &bench{shelf: shelf{e}, set: set}
	s := quiet(nil, time.Hour)
	s.cfg.Copies, s.cfg.Volumes, s.cfg.Clock = b, set, new(clock.Clock)
	return s, b, e
}

// TestWhatIsProved: a copy is proved by a check to its end, until somebody meets damage; by one that had begun before that it is not.
func TestWhatIsProved(t *testing.T) {
	s, b, e := newBench(t)
	if c := s.Checked(7, 0); c.Proved || c.Doubted {
		t.Errorf("before any check: %+v", c)
	}
	s.verify(e)
	if c := s.Checked(7, 0); !c.Proved || c.Doubted {
		t.Errorf("after a check: %+v", c)
	}
	if c := s.Checked(7, 1); c.Proved {
		t.Errorf("of another generation: %+v", c)
	}
	s.Damaged(7, 0)
	if c := s.Checked(7, 0); c.Proved || !c.Doubted {
		t.Errorf("after a read that met damage: %+v", c)
	}
	s.failed(e, io.ErrUnexpectedEOF)
	if c := s.Checked(7, 0); !c.Doubted {
		t.Errorf("after a check that failed: %+v", c)
	}
	doubts := s.doubted[7]
	s.Damaged(7, 2)
	out, err := b.set.Verify(7, volume.Check{})
	if err != nil {
		t.Fatal(err)
	}
	s.finished(e, out, nil, doubts)
	if c := s.Checked(7, 0); c.Proved || !c.Doubted {
		t.Errorf("a check proves what was met while it ran: %+v", c)
	}
	s.verify(e)
	if c := s.Checked(7, 0); !c.Proved || c.Doubted {
		t.Errorf("after the next check: %+v", c)
	}
	out.Damaged, out.Findings = 2, []volume.Finding{{Record: 1, Records: 1, Mended: true}, {Record: 2, Records: 2}}
	s.finished(e, out, []string{"b"}, 0)
	if c := s.Checked(7, 0); c.Proved || c.Damaged != 2 || fmt.Sprint(c.Records, c.Asked) != "[2 3] [b]" {
		t.Errorf("after a check that found damage: %+v", c)
	}
}

// TestAnotherGenerationIsPutOff: a copy that is not of its entry's generation is handed to the repairer, and not read again at once.
func TestAnotherGenerationIsPutOff(t *testing.T) {
	s, b, e := newBench(t)
	e.Generation = 1
	s.now[7] = struct{}{}
	s.verify(e)
	if len(b.rechecked) != 1 {
		t.Errorf("the repairer was told of %v", b.rechecked)
	}
	if next, ok := s.next([]replica.Entry{e}, time.Now()); ok {
		t.Errorf("volume %s is due again", next.ID)
	}
}

// TestLimits: what damage can make the node remember is bounded.
func TestLimits(t *testing.T) {
	s := quiet(nil, time.Hour)
	for i := range 3 * maxFindings {
		s.note(Finding{Volume: 1, Start: int64(i % (2 * maxFindings))})
	}
	if len(s.findings) != maxFindings || s.findings[maxFindings-1].Start != maxFindings-1 {
		t.Errorf("%d findings, the last at %d", len(s.findings), s.findings[maxFindings-1].Start)
	}
	for i := range uint64(maxUrgent + 10) {
		s.Damaged(1, i%(maxUrgent+5))
	}
	if len(s.urgent) != maxUrgent {
		t.Errorf("%d records wait", len(s.urgent))
	}
}
