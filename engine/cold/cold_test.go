package cold

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise is a volume's bytes: nothing in the code looks at what they are.
func noise(seed uint64, n int64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n+8)
	for i := int64(0); i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

func layout(data, parity uint8, length int64) Layout {
	return Layout{Volume: 0x2a, Generation: 3, Seed: 0x5eed, Length: length, Data: data, Parity: parity}
}

// memory is a fragment's blocks in memory, as Sink and as Source.
type memory struct {
	l     Layout
	index int
	b     []byte
	asked atomic.Int64 // blocks
	lost  bool
}

func (m *memory) Append(_ context.Context, stored []byte) error {
	m.b = append(m.b, stored...)
	return nil
}

func (m *memory) ReadBlocks(_ context.Context, first, n int64) ([]byte, error) {
	m.asked.Add(n)
	if m.lost {
		return nil, ErrNotFound
	}
	return bytes.Clone(m.b[first*BlockSize:][:m.l.stored(first, n)]), nil
}

// encoded gives all fragments of a volume in memory.
func encoded(t testing.TB, l Layout, file []byte) []*memory {
	t.Helper()
	out := make([]*memory, l.Fragments())
	targets := make([]Target, len(out))
	for i := range out {
		out[i] = &memory{l: l, index: i}
		targets[i] = Target{Sink: out[i]}
	}
	must(t, Encode(context.Background(), bytes.NewReader(file), l, targets, nil))
	return out
}

func reader(t testing.TB, l Layout, frags []*memory) *Reader {
	t.Helper()
	sources := make([]Source, len(frags))
	for i, f := range frags {
		sources[i] = f
	}
	r, err := NewReader(l, sources, nil)
	must(t, err)
	return r
}

// TestEveryRangeWithFragmentsMissing reads random ranges of volumes of awkward lengths with as many fragments lost or damaged as
// the code bears.
func TestEveryRangeWithFragmentsMissing(t *testing.T) {
	ctx := context.Background()
	for _, shape := range [][2]uint8{{4, 2}, {1, 1}, {2, 1}, {3, 3}, {10, 4}} {
		k, m := shape[0], shape[1]
		for _, length := range []int64{1, int64(k), 5000, int64(k)*BlockRoom - 1, int64(k) * BlockRoom, int64(k)*BlockRoom + 1, int64(k)*BlockRoom*(batch+1) + 4321} {
			l := layout(k, m, length)
			file := noise(uint64(length), length)
			frags := encoded(t, l, file)
			rng := rand.New(rand.NewPCG(uint64(length), uint64(k)))
			for round := range 12 {
				for n, i := range rng.Perm(len(frags)) {
					frags[i].lost = n < int(m) && n < round
				}
				r := reader(t, l, frags)
				off := rng.Int64N(length)
				p := make([]byte, 1+rng.Int64N(length-off))
				if n, err := r.ReadAt(ctx, p, off); err != nil || n != len(p) || !bytes.Equal(p, file[off:off+int64(n)]) {
					t.Fatalf("%d+%d, %d bytes: read %d at %d: %d, %v", k, m, length, len(p), off, n, err)
				}
			}
			r := reader(t, l, frags)
			p := make([]byte, 10)
			if n, err := r.ReadAt(ctx, p, length-1); n != 1 || err != io.EOF || p[0] != file[length-1] {
				t.Fatalf("at the end: %d, %v", n, err)
			}
			if n, err := r.ReadAt(ctx, p, length); n != 0 || err != io.EOF {
				t.Fatalf("behind the end: %d, %v", n, err)
			}
		}
	}
}

// TestReadTouchesOnlyItsStripes: what a message of 10 KiB costs, healthy and degraded.
func TestReadTouchesOnlyItsStripes(t *testing.T) {
	l := layout(4, 2, 8<<20)
	file := noise(1, l.Length)
	frags := encoded(t, l, file)
	p := make([]byte, 10<<10)
	for _, lost := range []bool{false, true} {
		for off := int64(0); off < l.Column()-int64(len(p)); off += 300_000 {
			for _, f := range frags {
				f.asked.Store(0)
				f.lost = lost && (f.index == 0 || f.index == 5)
			}
			n, err := reader(t, l, frags).ReadAt(context.Background(), p, off)
			if err != nil || !bytes.Equal(p[:n], file[off:off+int64(n)]) {
				t.Fatalf("%d, %v", n, err)
			}
			for _, f := range frags {
				most := int64(0)
				if f.index == 0 || lost {
					most = 2
				}
				if f.asked.Load() > most {
					t.Errorf("lost %v, at %d: %d blocks of fragment %d", lost, off, f.asked.Load(), f.index)
				}
			}
		}
	}
}

// TestTooManyMissing: an error that says which, and no bytes.
func TestTooManyMissing(t *testing.T) {
	l := layout(4, 2, 100_000)
	frags := encoded(t, l, noise(1, l.Length))
	for _, i := range []int{0, 1, 4} {
		frags[i].lost = true
	}
	n, err := reader(t, l, frags).ReadAt(context.Background(), make([]byte, 10), 0)
	if n != 0 || !errors.Is(err, ErrTooFew) || !errors.Is(err, ErrNotFound) {
		t.Fatalf("%d, %v", n, err)
	}
}

// TestDamageIsNeverServed flips bits in one fragment after the other; the bytes come out right all the same.
func TestDamageIsNeverServed(t *testing.T) {
	l := layout(4, 2, 300_000)
	file := noise(1, l.Length)
	frags := encoded(t, l, file)
	rng := rand.New(rand.NewPCG(7, 7))
	p := make([]byte, l.Length)
	for range 200 {
		a, b := rng.IntN(6), rng.IntN(6)
		at, bt := rng.IntN(len(frags[a].b)), rng.IntN(len(frags[b].b))
		frags[a].b[at] ^= 1
		frags[b].b[bt] ^= 0x80
		n, err := reader(t, l, frags).ReadAt(context.Background(), p, 0)
		if err != nil || !bytes.Equal(p[:n], file) {
			t.Fatalf("%d, %v", n, err)
		}
		frags[a].b[at] ^= 1
		frags[b].b[bt] ^= 0x80
	}
}

// TestEncodeInBoundedMemory: what it allocates does not grow with the volume.
func TestEncodeInBoundedMemory(t *testing.T) {
	measure := func(length int64) uint64 {
		l := layout(4, 2, length)
		targets := make([]Target, 6)
		for i := range targets {
			targets[i].Sink = discard{}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		must(t, Encode(context.Background(), zeros{}, l, targets, nil))
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := measure(16<<20), measure(128<<20)
	if large > small+(2<<20) {
		t.Fatalf("%d bytes for 16 MiB, %d for 128 MiB", small, large)
	}
}

type discard struct{}

func (discard) Append(context.Context, []byte) error { return nil }

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// store makes a store in memory with all fragments of a volume.
func filled(t *testing.T, fs vfs.FS, l Layout, file []byte) *Store {
	t.Helper()
	s, err := OpenStore(fs, "cold", nil)
	must(t, err)
	must(t, fill(s, l, file))
	return s
}

// fill is a conversion on one node: begin or resume every fragment, encode what is missing, finish.
func fill(s *Store, l Layout, file []byte) (err error) {
	ctx := context.Background()
	targets := make([]Target, l.Fragments())
	var drafts []*Draft
	defer func() {
		for _, d := range drafts {
			err = errors.Join(err, d.Close())
		}
	}()
	for i := range targets {
		if s.Has(Name{l.Volume, l.Generation, i}) {
			continue
		}
		d, err := s.Make(ctx, l, i)
		if err != nil {
			return err
		}
		drafts = append(drafts, d)
		targets[i] = Target{Sink: d, From: d.Next()}
	}
	if err := Encode(ctx, bytes.NewReader(file), l, targets, nil); err != nil {
		return err
	}
	for _, d := range drafts {
		if err := d.Finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// here is a fragment of a store as a Source.
type here struct {
	s *Store
	n Name
}

func (h here) ReadBlocks(ctx context.Context, first, n int64) ([]byte, error) {
	return h.s.ReadBlocks(ctx, h.n, first, n)
}

func storeReader(t testing.TB, s *Store, l Layout) *Reader {
	t.Helper()
	sources := make([]Source, l.Fragments())
	for i := range sources {
		sources[i] = here{s, Name{l.Volume, l.Generation, i}}
	}
	r, err := NewReader(l, sources, nil)
	must(t, err)
	return r
}

func expect(t testing.TB, s *Store, l Layout, file []byte) {
	t.Helper()
	p := make([]byte, len(file))
	if n, err := storeReader(t, s, l).ReadAt(context.Background(), p, 0); err != nil || !bytes.Equal(p, file) {
		t.Fatalf("read %d bytes: %v", n, err)
	}
}

// TestLostFragmentIsRebuilt, in several attempts: the file is the same as before.
func TestLostFragmentIsRebuilt(t *testing.T) {
	ctx := context.Background()
	l := layout(3, 2, 3*BlockRoom*(2*batch)+777)
	file := noise(1, l.Length)
	for _, index := range []int{0, 4} {
		fs := vfs.NewMem()
		s := filled(t, fs, l, file)
		n := Name{l.Volume, l.Generation, index}
		before := readFile(t, fs, s.path(n))
		must(t, fs.Remove(s.path(n)))
		if lost, err := s.Lost(l, index); !lost || err != nil {
			t.Fatalf("%v, %v", lost, err)
		}
		expect(t, s, l, file)
		attempts := 0
		for !s.Has(n) {
			attempts++
			d, err := s.Make(ctx, l, index)
			must(t, err)
			err = storeReader(t, s, l).Rebuild(ctx, index, Target{Sink: &limited{to: d, left: 1}, From: d.Next()}, nil)
			if err == nil {
				must(t, d.Finish(ctx))
			} else if !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			must(t, d.Close())
		}
		if attempts != 3 || !bytes.Equal(readFile(t, fs, s.path(n)), before) {
			t.Fatalf("fragment %d is another one after %d attempts", index, attempts)
		}
		must(t, s.Close())
	}
}

var errEnough = errors.New("enough")

// limited is a sink that takes so many batches.
type limited struct {
	to   Sink
	left int
}

func (s *limited) Append(ctx context.Context, stored []byte) error {
	if s.left == 0 {
		return errEnough
	}
	s.left--
	return s.to.Append(ctx, stored)
}

func readFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	must(t, errors.Join(err, f.Close()))
	return b
}

func flip(t testing.TB, fs vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], at)
	must(t, err)
	must(t, f.Close())
}

// TestDamagedBlocksAreFoundAndMended in place.
func TestDamagedBlocksAreFoundAndMended(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	l := layout(4, 2, 4*BlockRoom*(batch+3))
	file := noise(1, l.Length)
	s := filled(t, fs, l, file)
	defer s.Close()
	for _, index := range []int{0, 5} {
		n := Name{l.Volume, l.Generation, index}
		before := readFile(t, fs, s.path(n))
		flip(t, fs, s.path(n), position(1)+2)
		flip(t, fs, s.path(n), position(batch+1)+BlockSize-1)
		f, err := s.Get(n)
		must(t, err)
		damaged, err := f.Verify(ctx, nil)
		if err != nil || fmt.Sprint(damaged) != fmt.Sprint([]int64{1, batch + 1}) {
			t.Fatalf("%v, %v", damaged, err)
		}
		expect(t, s, l, file)
		must(t, f.Mend(ctx, storeReader(t, s, l), damaged))
		if !bytes.Equal(readFile(t, fs, s.path(n)), before) {
			t.Fatalf("fragment %d was not mended", index)
		}
	}
	// A header that is damaged makes the fragment as good as lost.
	n := Name{l.Volume, l.Generation, 2}
	must(t, s.Close())
	flip(t, fs, s.path(n), 30)
	s, err := OpenStore(fs, "cold", nil)
	must(t, err)
	defer s.Close()
	if lost, err := s.Lost(l, n.Index); !lost || err != nil {
		t.Fatalf("%v, %v", lost, err)
	}
	expect(t, s, l, file)
}

// TestStore: names, drafts, handles.
func TestStore(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	l := layout(2, 1, 50_000)
	file := noise(1, l.Length)
	s := filled(t, fs, l, file)
	n := Name{l.Volume, l.Generation, 1}
	next := l
	next.Generation++
	d, err := s.Make(ctx, next, 1)
	must(t, err)
	if _, err := s.Make(ctx, next, 1); !errors.Is(err, ErrBusy) {
		t.Fatalf("two at once: %v", err)
	}
	if err := s.Remove(Name{next.Volume, next.Generation, 1}); !errors.Is(err, ErrBusy) {
		t.Fatalf("removed under its maker: %v", err)
	}
	must(t, d.Close())
	if drafts, err := s.Drafts(); err != nil || len(drafts) != 1 || drafts[0].Generation != next.Generation {
		t.Fatalf("%v, %v", drafts, err)
	}
	if len(s.List()) != 3 || !s.Has(n) {
		t.Fatalf("%v", s.List())
	}
	must(t, s.Close())
	s, err = OpenStore(fs, "cold", nil)
	must(t, err)
	expect(t, s, l, file)
	f, err := s.Get(n)
	must(t, err)
	must(t, s.Remove(n))
	if _, err := f.ReadBlocks(ctx, 0, 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("read of a removed fragment: %v", err)
	}
	if _, err := s.ReadBlocks(ctx, n, 0, 1); !errors.Is(err, ErrNotFound) {
		t.Fatalf("read of a removed fragment: %v", err)
	}
	expect(t, s, l, file)
	if _, err := s.ReadBlocks(ctx, Name{l.Volume, l.Generation, 0}, l.Blocks(), 1); !errors.Is(err, ErrLayout) {
		t.Fatalf("read behind the end: %v", err)
	}
	must(t, s.Close())
	if _, err := s.Get(n); !errors.Is(err, ErrClosed) {
		t.Fatalf("closed store: %v", err)
	}
	if _, err := OpenStore(vfs.NewMem(), "no/such/place", nil); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
