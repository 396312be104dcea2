package volume

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/effort"
)

// powerCuts watches a file system and takes, before every operation that writes, syncs, renames or removes, a copy of
// what a power cut would leave: what was synced, and a random part of what was not.
type powerCuts struct {
	mem *vfs.MemFS

	mu    sync.Mutex
	rng   *rand.Rand
	acked map[uint64][]byte // what callers were told is durable, by record
	cuts  []powerCut
}

type powerCut struct {
	at    string
	fs    *vfs.MemFS
	acked map[uint64][]byte
}

func (p *powerCuts) String() string { return "power cuts" }

func (p *powerCuts) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		p.cut(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
	}
	return nil
}

func (p *powerCuts) cut(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	percent := []int{0, 20, 50, 80, 100}[p.rng.IntN(5)]
	acked := maps.Clone(p.acked) // before the copy is made: all of it has to be in there
	clone := p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: p.rng})
	p.cuts = append(p.cuts, powerCut{fmt.Sprintf("%s, %d%% of unsynced data", at, percent), clone, acked})
}

func (p *powerCuts) ack(record uint64, message []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked[record] = message
}

func newPowerCuts(mem *vfs.MemFS, seed uint64) *powerCuts {
	return &powerCuts{mem: mem, rng: rand.New(rand.NewPCG(seed, 99)), acked: map[uint64][]byte{}}
}

// check opens what a cut left, checks every promise, and returns the intact volume's bytes.
func (c powerCut) check(t *testing.T, fs vfs.FS) {
	t.Helper()
	v, err := Open(fs, testDir+"/a", Options{})
	if errors.Is(err, os.ErrNotExist) && len(c.acked) == 0 {
		return // the cut came before Create returned
	}
	if err != nil {
		t.Fatalf("%s: %v", c.at, err)
	}
	for record, want := range c.acked {
		got, err := fetch(v, record, 0, MaxLength)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: record %d was acknowledged: %v", c.at, record, err)
		}
	}
	first := v.Stats()
	for record := uint64(1); record <= first.Records; record++ {
		info, err := v.Get(record)
		got, readErr := fetch(v, record, 0, MaxLength)
		var corrupt *CorruptError
		if err = errors.Join(err, readErr); errors.As(err, &corrupt) {
			continue // it was never acknowledged, and says so
		}
		if err != nil || uint64(len(got)) != info.Length || sha256.Sum256(got) != info.Hash {
			t.Fatalf("%s: record %d has other bytes than were appended: %v", c.at, record, err)
		}
	}
	must(t, v.Close())
	// What Open found stays found.
	v, err = Open(fs, testDir+"/a", Options{})
	must(t, err)
	if s := v.Stats(); s.Bytes != first.Bytes || s.Records != first.Records || s.Failed != nil {
		t.Fatalf("%s: opened as %+v, again as %+v", c.at, first, s)
	}
	must(t, v.Close())
}

// checkAll checks each cut, and cuts the power again while the volume is being opened: at a fifth of the places, each time others.
func (p *powerCuts) checkAll(t *testing.T) {
	t.Helper()
	for i, c := range p.cuts {
		again := newPowerCuts(c.fs, uint64(i))
		again.acked = c.acked
		c.check(t, errorfs.Wrap(c.fs, again))
		for j, second := range again.cuts {
			if (i+j)%5 != 0 {
				continue
			}
			second.at = c.at + ", then " + second.at
			second.check(t, second.fs)
		}
	}
}

// seeds is how many random runs of a kind to make: n, or many more where there is a night for it.
func seeds(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() {
		return n / 10
	}
	return effort.Times(n, 20)
}

// TestPowerCutWhileAppending: a record whose Append returned is there after a power cut at any write or fsync.
func TestPowerCutWhileAppending(t *testing.T) {
	for seed := range seeds(t, 15) {
		mem := memFS(t)
		cuts := newPowerCuts(mem, uint64(seed))
		v, err := Create(errorfs.Wrap(mem, cuts), testDir+"/a", testHeader, Options{Ahead: int64(seed%2) * 10_000})
		must(t, err)
		var wg sync.WaitGroup
		writers, each := 1+seed%4, 1+seed%3
		for w := range writers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(seed), uint64(w)))
				for range each {
					p := mail(rng, rng.IntN(20_000))
					b := newBlob(t, mem, testDir, p)
					ref, _, err := v.Append(t.Context(), KindMessage, []byte("m"), b)
					if err = errors.Join(err, b.Close()); err != nil {
						t.Error(err)
						return
					}
					cuts.ack(ref.Record, p)
				}
			})
		}
		wg.Wait()
		cuts.cut("after all appends")
		must(t, v.Close())
		if len(cuts.acked) != writers*each {
			t.Fatalf("%d records, want %d", len(cuts.acked), writers*each)
		}
		cuts.checkAll(t)
	}
}

// TestPowerCutWhileReceiving is the same for a replica, whose promise is what Commit returned.
func TestPowerCutWhileReceiving(t *testing.T) {
	messages := mails(11, 0, 100, 9000, 20_000, 5, 12_000)
	file, ends := example(t, messages...)
	for seed := range seeds(t, 15) {
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		mem := memFS(t)
		cuts := newPowerCuts(mem, uint64(seed))
		v, err := CreateCopy(errorfs.Wrap(mem, cuts), testDir+"/a", file[:fileHeaderSize], Options{Ahead: int64(seed%2) * 10_000})
		must(t, err)
		for off := fileHeaderSize; off < len(file); {
			n := min(1+rng.IntN(10_000), len(file)-off)
			must(t, v.Receive(int64(off), file[off:off+n]))
			off += n
			if rng.IntN(3) > 0 {
				continue
			}
			durable, err := v.Commit()
			must(t, err)
			for i, end := range ends {
				if end <= durable {
					cuts.ack(uint64(i)+1, messages[i])
				}
			}
		}
		must(t, v.Close())
		cuts.checkAll(t)
	}
}

// TestPowerCutWhileMending: Truncate and Extend never touch what was durable before their place.
func TestPowerCutWhileMending(t *testing.T) {
	messages := mails(12, 3000, 100, 9000, 20_000, 5)
	file, ends := example(t, messages...)
	for seed := range seeds(t, 30) {
		rng := rand.New(rand.NewPCG(uint64(seed), 6))
		mem := memFS(t)
		writeFile(t, mem, testDir+"/a", file)
		cuts := newPowerCuts(mem, uint64(seed))
		v, err := Open(errorfs.Wrap(mem, cuts), testDir+"/a", Options{})
		must(t, err)
		keep := rng.IntN(len(ends))
		for i := range keep + 1 {
			cuts.ack(uint64(i)+1, messages[i])
		}
		must(t, v.Truncate(ends[keep]))
		for off := ends[keep]; off < int64(len(file)); {
			n := min(1+rng.Int64N(8000), int64(len(file))-off)
			must(t, v.Extend(off, file[off:off+n]))
			off += n
		}
		durable, err := v.Commit()
		must(t, err)
		if durable != int64(len(file)) {
			t.Fatalf("mended to %d of %d", durable, len(file))
		}
		for i, p := range messages {
			cuts.ack(uint64(i)+1, p)
		}
		cuts.cut("after mending")
		must(t, v.Close())
		cuts.checkAll(t)
	}
}

// TestEachCallFails injects one error into each call to the file system in turn: nothing that is not durable is
// acknowledged, and what was acknowledged is there after the power is cut as well.
func TestEachCallFails(t *testing.T) {
	for call := 0; ; call += effort.Of(4, 1, 1) {
		mem := memFS(t)
		var n, injected int
		var mu sync.Mutex
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			if n-1 != call {
				return nil
			}
			injected++
			return fmt.Errorf("call %d, operation %d: %w", call, op.Kind, errorfs.ErrInjected)
		}))
		acked, err := liveALittle(t, fs)
		if injected == 0 {
			must(t, err)
			if call < 30 || len(acked) != 4 {
				t.Fatalf("only %d calls, %d records", call, len(acked))
			}
			return
		}
		clone := mem.CrashClone(vfs.CrashCloneCfg{})
		powerCut{fmt.Sprintf("failed call %d", call), clone, acked}.check(t, clone)
		powerCut{fmt.Sprintf("failed call %d", call), mem, acked}.check(t, mem)
	}
}

// liveALittle creates, appends, spills, reads, reopens; it goes on after errors as a caller would, and returns
// what was acknowledged and the first error.
func liveALittle(t *testing.T, fs vfs.FS) (acked map[uint64][]byte, err error) {
	acked = map[uint64][]byte{}
	v, err := Create(fs, testDir+"/a", testHeader, Options{Reserve: 1, Ahead: 5000})
	if err != nil {
		return acked, err
	}
	rng := rand.New(rand.NewPCG(1, 8))
	var failed error
	for _, size := range []int{100, 20_000, 5, 300_000} {
		p := mail(rng, size)
		s := NewSpool(fs, testDir, 10_000)
		_, writeErr := s.Write(p)
		b, err := s.Finish()
		if err = errors.Join(writeErr, err); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		ref, _, err := v.Append(t.Context(), KindMessage, []byte("m"), b)
		if err == nil {
			acked[ref.Record] = p
			var got []byte
			if got, err = fetch(v, ref.Record, 0, MaxLength); err == nil && !bytes.Equal(got, p) {
				t.Fatal("read other bytes")
			}
		}
		failed = errors.Join(failed, err, b.Close())
	}
	failed = errors.Join(failed, v.Seal(), v.Close())
	v, err = Open(fs, testDir+"/a", Options{})
	if err != nil {
		return acked, errors.Join(failed, err)
	}
	s := v.Stats()
	_, readErr := v.ReadRaw(0, make([]byte, 100))
	if readErr == io.EOF {
		readErr = nil
	}
	return acked, errors.Join(failed, s.Failed, readErr, v.Close())
}
