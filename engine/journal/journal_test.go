package journal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func entry(index uint64, data string) Entry {
	return Entry{Index: index, Term: 3, Kind: 1, Appended: 1e18, Data: []byte(data)}
}

func open(t testing.TB, fs vfs.FS) *Journal {
	t.Helper()
	j, err := Open(fs, "journal", Options{SegmentSize: 64 << 10})
	must(t, err)
	return j
}

// Many logs that append at once share frames.
func TestGroupCommit(t *testing.T) {
	j, err := Open(vfs.Default, filepath.Join(t.TempDir(), "journal"), Options{})
	must(t, err)
	const writers, each = 32, 50
	var wg sync.WaitGroup
	for g := range uint32(writers) {
		wg.Go(func() {
			for i := range uint64(each) {
				must(t, j.Log(g).Append([]Entry{entry(i+1, fmt.Sprint(g, i))}))
			}
		})
	}
	wg.Wait()
	s := j.Stats()
	if s.Entries != writers*each || s.Frames >= s.Entries {
		t.Errorf("%d entries in %d frames", s.Entries, s.Frames)
	}
	for g := range uint32(writers) {
		for i := range uint64(each) {
			e, err := j.Log(g).Get(i + 1)
			must(t, err)
			if string(e.Data) != fmt.Sprint(g, i) {
				t.Fatalf("entry %d of log %d is %q", i+1, g, e.Data)
			}
		}
	}
	must(t, j.Close())
	if err := j.Log(1).Append([]Entry{entry(each+1, "")}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

// Each start begins a segment. Those that hardly hold anything do not add up, whether or not their entries are needed.
func TestRestarts(t *testing.T) {
	fs := vfs.NewMem()
	const starts, each = 20, 3 // the first frame lets go of what a stop left, the next ones move
	last := uint64(0)
	for range starts {
		j := open(t, fs)
		if last == 0 {
			must(t, j.Log(2).Append([]Entry{entry(1, "stays")}))
		}
		for range each {
			last++
			must(t, j.Log(1).Append([]Entry{entry(last, fmt.Sprint(last))}))
		}
		if s := j.Stats(); s.Segments > keepSegments+2 {
			t.Fatalf("%d segments after %d entries", s.Segments, last)
		}
		must(t, j.Close())
	}
	j := open(t, fs)
	for i := uint64(1); i <= last; i++ {
		e, err := j.Log(1).Get(i)
		must(t, err)
		if string(e.Data) != fmt.Sprint(i) {
			t.Errorf("entry %d is %q", i, e.Data)
		}
	}
	if _, err := j.Log(2).Get(1); err != nil {
		t.Error(err)
	}
	must(t, j.Close())
}

// A start writes a small file, and what does not fit in it goes on behind it, in a segment of the usual size.
func TestFirstSegmentIsSmall(t *testing.T) {
	fs := vfs.NewMem()
	reopen := func() *Journal {
		j, err := Open(fs, "journal", Options{})
		must(t, err)
		return j
	}
	j := reopen()
	if s := j.Stats(); s.Size != firstSize {
		t.Errorf("a start wrote %d bytes", s.Size)
	}
	large := bytes.Repeat([]byte("goose"), firstSize/5+1)
	must(t, j.Log(1).Append([]Entry{entry(1, "a")}))
	must(t, j.Log(1).Append([]Entry{{Index: 2, Data: large}}))
	if s := j.Stats(); s.Size != firstSize+DefaultSegmentSize || s.Segments != 2 {
		t.Errorf("%+v", s)
	}
	must(t, j.Close())
	j = reopen()
	if e, err := j.Log(1).Get(2); err != nil || !bytes.Equal(e.Data, large) || j.Log(1).Last() != 2 {
		t.Errorf("%d bytes, last entry %d: %v", len(e.Data), j.Log(1).Last(), err)
	}
	must(t, j.Close())
}

// A process dies between a write and its fsync; the next one reads the entry back, and says so to the others; then the power is cut. What was
// read back is durable. A chaos drill found a node that could not start any more, since it was not.
func TestReadBackIsDurable(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var dies atomic.Bool
	j := open(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if dies.Load() && op.Kind == errorfs.OpFileSyncData {
			return errors.New("the process is gone")
		}
		return nil
	})))
	must(t, j.Log(1).Append([]Entry{entry(1, "a")}))
	dies.Store(true)
	if err := j.Log(1).Append([]Entry{entry(2, "b")}); err == nil {
		t.Fatal("acknowledged without an fsync")
	}
	_ = j.Close() // it has failed
	j = open(t, disk)
	last := j.Log(1).Last()
	if last != 2 {
		t.Fatalf("the log ends at %d: nothing was read back, so nothing is tested", last)
	}
	after := disk.CrashClone(vfs.CrashCloneCfg{})
	must(t, j.Close())
	j = open(t, after)
	if now := j.Log(1).Last(); now != last {
		t.Errorf("the log ended at %d, and ends at %d after the power cut", last, now)
	}
	must(t, j.Close())
}

// An entry larger than a segment gets a segment of its own; one over the limit is refused.
func TestLargeEntry(t *testing.T) {
	fs := vfs.NewMem()
	j := open(t, fs)
	l := j.Log(1)
	large := bytes.Repeat([]byte("goose"), 100<<10)
	must(t, l.Append([]Entry{entry(1, "a"), {Index: 2, Data: large}, entry(3, "b")}))
	must(t, l.Append([]Entry{entry(4, "c")}))
	must(t, j.Close())
	j = open(t, fs)
	e, err := j.Log(1).Get(2)
	must(t, err)
	if !bytes.Equal(e.Data, large) || j.Log(1).Last() != 4 {
		t.Errorf("%d bytes, last entry %d", len(e.Data), j.Log(1).Last())
	}
	if err := j.Log(1).Append([]Entry{{Index: 5, Data: make([]byte, MaxFrame)}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry of the largest frame's size: %v", err)
	}
	must(t, j.Log(1).Append([]Entry{entry(5, "d")}))
	must(t, j.Close())
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, err := Open(vfs.Default, dir, Options{})
	must(t, err)
	if _, err := Open(vfs.Default, dir, Options{}); err == nil {
		t.Error("opened twice")
	}
	must(t, j.Close())
}

// Damage of what was durable is told from a torn tail, wherever it lies.
func TestDamage(t *testing.T) {
	tests := []struct {
		name    string
		segment string
		at      int64
		corrupt bool
	}{
		{"header", segmentName(1), 20, true},
		{"first frame's head", segmentName(1), headerSize + 2, true},
		{"first frame's payload", segmentName(1), headerSize + 40, true},
		{"last frame of an older segment", segmentName(1), -1, true},
		{"last frame of all", segmentName(2), -1, false}, // who knows whether it ever was durable
		{"behind the last frame", segmentName(2), 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := vfs.NewMem()
			var end int64
			for k := range uint64(2) {
				j := open(t, fs)
				for i := range uint64(3) {
					must(t, j.Log(1).Append([]Entry{entry(3*k+i+1, "0123456789")}))
				}
				end = j.current().end
				must(t, j.Close())
			}
			at := tt.at
			switch {
			case tt.at == -1:
				at = end - 12
			case !tt.corrupt && tt.at == 1:
				at = end + 4
			}
			f, err := fs.OpenReadWrite(fs.PathJoin("journal", tt.segment), vfs.WriteCategoryUnspecified)
			must(t, err)
			b := make([]byte, 1)
			_, err = f.ReadAt(b, at)
			must(t, err)
			b[0] ^= 0x40
			_, err = f.WriteAt(b, at)
			must(t, errors.Join(err, f.Close()))
			j, err := Open(fs, "journal", Options{SegmentSize: 64 << 10})
			var corrupt *CorruptError
			if tt.corrupt != errors.As(err, &corrupt) {
				t.Fatalf("open says %v", err)
			}
			if err == nil {
				must(t, j.Close())
			}
		})
	}
}

func TestMissingSegment(t *testing.T) {
	fs := vfs.NewMem()
	for k := range uint64(3) {
		j := open(t, fs)
		must(t, j.Log(1).Append([]Entry{entry(k+1, "x")}))
		must(t, j.Close())
	}
	must(t, fs.Remove(fs.PathJoin("journal", segmentName(2))))
	var corrupt *CorruptError
	if _, err := Open(fs, "journal", Options{}); !errors.As(err, &corrupt) {
		t.Errorf("open without a segment in the middle: %v", err)
	}
}

// TestFailures lets one call of the file system fail at random. Whatever was answered is there after a restart; after a
// failed write or fsync nothing is taken any more.
func TestFailures(t *testing.T) {
	for seed := range uint64(runs(60)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			mem := vfs.NewMem()
			var left atomic.Int64
			left.Store(int64(20 + rnd.IntN(300)))
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && left.Add(-1) == 0 {
					return &os.PathError{Op: "write", Path: op.Path, Err: syscall.EIO}
				}
				return nil
			}))
			m := newModel()
			j, err := Open(fs, "journal", Options{SegmentSize: 16 << 10})
			if err != nil {
				return
			}
			for range 300 {
				g := uint32(rnd.IntN(groups))
				before := m[g].clone()
				if err := step(rnd, j.Log(g), m[g]); err != nil {
					m[g] = before
					if left.Load() > 0 {
						t.Fatalf("without a failure: %v", err)
					}
				}
				if j.Err() != nil {
					if err := j.Log(g).Append(randomEntries(rnd, before.last()+1)); !errors.Is(err, ErrFailed) {
						t.Fatalf("append to a failed journal: %v", err)
					}
					break
				}
			}
			_ = j.Close()
			left.Store(0)
			if j, err = Open(mem, "journal", Options{SegmentSize: 16 << 10}); err != nil {
				t.Fatal(err)
			}
			// A change that was refused after its frame was written may be found: it was never said to be absent.
			differ := 0
			for g := range uint32(groups) {
				if m[g].check(j.Log(g)) != nil {
					differ++
				}
			}
			if differ > 1 {
				t.Errorf("%d logs differ from what was answered", differ)
			}
			must(t, j.Close())
		})
	}
}

// A disk that is full when a segment is needed refuses that call only.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpOpen && bytes.Contains([]byte(op.Path), []byte(sparePrefix)) {
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
	j := open(t, fs)
	full.Store(true)
	l := j.Log(1)
	next := uint64(1)
	var refused error
	for i := 0; refused == nil && i < 100; i++ {
		if refused = l.Append([]Entry{{Index: next, Data: make([]byte, 8<<10)}}); refused == nil {
			next++
		}
	}
	if !errors.Is(refused, syscall.ENOSPC) || j.Err() != nil {
		t.Fatalf("append on a full disk: %v; the journal: %v", refused, j.Err())
	}
	full.Store(false)
	for refused != nil { // the preparer may still have an older answer to give
		refused = l.Append([]Entry{{Index: next, Data: make([]byte, 8<<10)}})
	}
	if l.Last() != next {
		t.Errorf("last entry is %d, expected %d", l.Last(), next)
	}
	must(t, j.Close())
}

// The golden file is a segment that every later version must read.
func TestGolden(t *testing.T) {
	const name = "testdata/segment-1.log"
	block, seed := header{number: 1, salt: 42}.encode()
	file := block
	for i, recs := range [][]record{
		{{op: opAppend, group: 7, Entry: entry(1, "one")}, {op: opAppend, group: 7, Entry: Entry{Index: 2, Term: 4, Data: []byte("two"), Ext: []byte("ext")}}},
		{{op: opMoved, group: 8, Entry: entry(5, "moved")}, {op: opCut, group: 7, Entry: Entry{Index: 2}}, {op: opDrop, group: 8, Entry: Entry{Index: 3}}},
		{{op: opAppend, flags: flagGap, group: 8, Entry: entry(9, "gap")}},
	} {
		frame := make([]byte, frameHead)
		for k := range recs {
			frame = recs[k].appendTo(frame)
		}
		putFrameHead(frame, seed, int64(len(file)))
		file = append(file, frame...)
		file = append(file, make([]byte, aligned(int64(len(file)))-int64(len(file)))...)
		_ = i
	}
	if *update {
		must(t, os.WriteFile(name, file, 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(file, want) {
		t.Error("a segment is written otherwise than the golden file says")
	}
	fs := vfs.NewMem()
	must(t, fs.MkdirAll("journal", 0o700))
	f, err := fs.Create(fs.PathJoin("journal", segmentName(1)), vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(bytes.Clone(want))
	must(t, errors.Join(err, f.Close()))
	j := open(t, fs)
	if a, b := j.Log(7), j.Log(8); a.First() != 1 || a.Last() != 1 || b.First() != 9 || b.Last() != 9 {
		t.Errorf("logs are %d to %d and %d to %d", a.First(), a.Last(), b.First(), b.Last())
	}
	must(t, j.Close())
}

func FuzzRecord(f *testing.F) {
	rec := record{op: opAppend, group: 1, Entry: entry(1, "x")}
	f.Add(rec.appendTo(nil), false)
	f.Add(rec.appendTo(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if n, ok := int64(0), len(b) >= recordHead; mend && ok { // get past the checksum
			if n, ok = recordSize(b); ok && n <= int64(len(b)) {
				sum := recordChecksum(b[:n])
				b[40], b[41], b[42], b[43] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
			}
		}
		r, n, err := decodeRecord(b)
		if err != nil {
			return
		}
		if again := r.appendTo(nil); !bytes.Equal(again, b[:n]) {
			t.Fatalf("% x becomes % x", b[:n], again)
		}
	})
}

// FuzzSegment opens arbitrary bytes as a segment.
func FuzzSegment(f *testing.F) {
	golden, err := os.ReadFile("testdata/segment-1.log")
	must(f, err)
	f.Add(golden)
	f.Add(golden[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		must(t, fs.MkdirAll("journal", 0o700))
		file, err := fs.Create(fs.PathJoin("journal", segmentName(1)), vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = file.Write(bytes.Clone(b))
		must(t, errors.Join(err, file.Close()))
		j, err := Open(fs, "journal", Options{SegmentSize: 16 << 10})
		if err != nil {
			return
		}
		must(t, j.Log(1).Append([]Entry{entry(j.Log(1).Last()+1, "more")}))
		must(t, j.Close())
	})
}
