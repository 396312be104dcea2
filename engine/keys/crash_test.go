package keys

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/effort"
)

// life is what one key file went through, as its user knows it.
type life struct {
	created bool
	gone    map[uint64]bool // answered
	asked   map[uint64]bool // perhaps destroyed
	masters []string        // one of them opens it
}

// cut is a file system as a power cut would leave it, and what had been answered by then.
type cut struct {
	at string
	fs *vfs.MemFS
	life
}

// powerCuts takes, before every operation that writes, a copy of what a power cut would leave.
type powerCuts struct {
	mem  *vfs.MemFS
	rng  *rand.Rand
	life life
	cuts []cut
}

func (p *powerCuts) String() string { return "power cuts" }

func (p *powerCuts) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		p.cut(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
	}
	return nil
}

func (p *powerCuts) cut(at string) {
	percent := []int{0, 30, 70, 100}[p.rng.IntN(4)]
	known := p.life
	known.gone, known.asked = maps.Clone(known.gone), maps.Clone(known.asked)
	fs := p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: p.rng})
	p.cuts = append(p.cuts, cut{fmt.Sprintf("%s, %d%% of unsynced data", at, percent), fs, known})
}

// check opens what is left: every key that was not asked to be destroyed is there, every one that was answered is gone.
func (c cut) check(t *testing.T, s *Secret) {
	t.Helper()
	var f *File
	var err error
	for _, name := range c.masters {
		if f, err = Open(c.fs, testPath, testMaster(t, name)); err == nil {
			break
		}
	}
	if errors.Is(err, os.ErrNotExist) && !c.created {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", c.at, err)
	}
	for n := uint64(1); n <= uint64(f.Slots()); n++ {
		k, err := f.Record(n)
		destroyed := errors.Is(err, ErrDestroyed)
		switch {
		case err != nil && !destroyed:
			t.Fatalf("%s: record %d: %v", c.at, n, err)
		case destroyed != c.gone[n] && !(destroyed && c.asked[n]):
			t.Fatalf("%s: record %d destroyed is %v, answered %v", c.at, n, destroyed, c.gone[n])
		case !destroyed && k != wanted(s, n):
			t.Fatalf("%s: record %d has another key", c.at, n)
		}
	}
	must(t, f.Close())
}

// live makes a file, destroys keys and rotates; it goes on after an error as a caller would.
func (l *life) live(t *testing.T, fs vfs.FS, s *Secret, rng *rand.Rand) error {
	l.gone, l.asked, l.masters = map[uint64]bool{}, map[uint64]bool{}, []string{"k0"}
	f, err := Create(fs, testPath, testMaster(t, "k0"), testVolume, s)
	if err != nil {
		return err
	}
	l.created = true
	var failed error
	for i := range 6 {
		if rng.IntN(3) == 0 {
			name := fmt.Sprint("k", i+1)
			l.masters = append(l.masters, name)
			if err := f.Rewrap(t.Context(), testMaster(t, name)); err != nil {
				failed = errors.Join(failed, err)
			} else {
				l.masters = []string{name}
			}
			continue
		}
		var records []uint64
		for range 1 + rng.IntN(4) {
			records = append(records, 1+rng.Uint64N(uint64(len(s.Slots)/slotSize)))
		}
		for _, n := range records {
			l.asked[n] = true
		}
		if err := f.Destroy(records); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, n := range records {
			l.gone[n] = true
		}
	}
	return errors.Join(failed, f.Close())
}

func TestPowerCuts(t *testing.T) {
	for seed := range runs(60) {
		mem := memFS(t)
		p := &powerCuts{mem: mem, rng: rand.New(rand.NewPCG(seed, 1))}
		s := testSecret(1 + int(seed%100))
		must(t, p.life.live(t, errorfs.Wrap(mem, p), s, rand.New(rand.NewPCG(seed, 2))))
		p.cut("after all")
		for _, c := range p.cuts {
			c.check(t, s)
		}
	}
}

// runs is how many seeds a random test takes: more in the nightly run.
func runs(n int) uint64 { return uint64(effort.Times(n, 50)) }

func TestEachCallFails(t *testing.T) {
	for call := 0; ; call++ {
		mem, s := memFS(t), testSecret(64)
		n := 0
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if n++; n-1 == call {
				return fmt.Errorf("call %d, operation %d: %w", call, op.Kind, errorfs.ErrInjected)
			}
			return nil
		}))
		var l life
		err := l.live(t, fs, s, rand.New(rand.NewPCG(3, 3)))
		if n <= call {
			must(t, err)
			if call < 20 {
				t.Fatalf("only %d calls", call)
			}
			return
		}
		at := fmt.Sprintf("call %d failed", call)
		cut{at, mem.CrashClone(vfs.CrashCloneCfg{}), l}.check(t, s)
		cut{at, mem, l}.check(t, s)
	}
}
