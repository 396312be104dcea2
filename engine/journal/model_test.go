package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/effort"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// runs scales a random test: few in make test, many at night.
func runs(n int) int { return effort.Times(n, 20) }

// model is what the logs should hold.
type model map[uint32]*modelLog

type modelLog struct {
	first   uint64
	entries []Entry
}

func (m *modelLog) last() uint64 {
	if len(m.entries) == 0 {
		return 0
	}
	return m.first + uint64(len(m.entries)) - 1
}

func (m *modelLog) append(es []Entry) {
	at := es[0].Index
	switch {
	case len(m.entries) == 0 || at > m.last()+1 || at < m.first:
		m.first, m.entries = at, nil
	default:
		m.entries = m.entries[:at-m.first]
	}
	m.entries = append(m.entries[:len(m.entries):len(m.entries)], es...)
}

func (m *modelLog) cut(from uint64) {
	if len(m.entries) > 0 && from <= m.last() {
		m.entries = m.entries[:max(from, m.first)-m.first]
	}
}

func (m *modelLog) drop(before uint64) {
	if len(m.entries) > 0 && before > m.first {
		n := min(before-m.first, uint64(len(m.entries)))
		m.entries, m.first = m.entries[n:], m.first+n
	}
}

func (m *modelLog) clone() *modelLog {
	return &modelLog{first: m.first, entries: append([]Entry(nil), m.entries...)}
}

// check holds a log against the model.
func (m *modelLog) check(l *Log) error {
	if l.Last() != m.last() {
		return fmt.Errorf("last is %d, expected %d", l.Last(), m.last())
	}
	if len(m.entries) > 0 && l.First() != m.first || len(m.entries) == 0 && l.First() != 0 {
		return fmt.Errorf("first is %d, expected %d", l.First(), m.first)
	}
	for _, want := range m.entries {
		got, err := l.Get(want.Index)
		if err != nil {
			return err
		}
		if got.Index != want.Index || got.Term != want.Term || got.Kind != want.Kind || got.Appended != want.Appended ||
			!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Ext, want.Ext) {
			return fmt.Errorf("entry %d differs", want.Index)
		}
	}
	if _, err := l.Get(m.last() + 1); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("entry behind the last: %v", err)
	}
	return nil
}

func randomEntries(rnd *rand.Rand, at uint64) []Entry {
	es := make([]Entry, 1+rnd.IntN(5))
	for i := range es {
		es[i] = Entry{Index: at + uint64(i), Term: rnd.Uint64N(9), Kind: uint8(rnd.IntN(4)), Appended: rnd.Int64(), Data: make([]byte, rnd.IntN(700))}
		for k := range es[i].Data {
			es[i].Data[k] = byte(rnd.Uint32())
		}
		if rnd.IntN(4) == 0 {
			es[i].Ext = []byte("extension")
		}
	}
	return es
}

// step makes one random change in both.
func step(rnd *rand.Rand, l *Log, m *modelLog) error {
	switch k := rnd.IntN(20); {
	case k < 14 || len(m.entries) == 0:
		at := m.last() + 1
		switch rnd.IntN(12) {
		case 0:
			at = m.first + rnd.Uint64N(uint64(len(m.entries))+1) // replaces some
		case 1:
			at += 1 + rnd.Uint64N(50) // behind a snapshot
		}
		es := randomEntries(rnd, max(at, 1))
		if err := l.Append(es); err != nil {
			return err
		}
		m.append(es)
	case k < 16:
		from := m.first + rnd.Uint64N(uint64(len(m.entries)))
		if err := l.mark(opCut, from); err != nil { // as earlier versions did
			return err
		}
		m.cut(from)
	default:
		before := m.first + rnd.Uint64N(uint64(len(m.entries))+1)
		if err := l.Drop(before); err != nil {
			return err
		}
		m.drop(before)
	}
	return nil
}

const groups = 5

func newModel() model {
	m := make(model)
	for g := range uint32(groups) {
		m[g] = &modelLog{}
	}
	return m
}

func (m model) clone() model {
	c := make(model)
	for g, l := range m {
		c[g] = l.clone()
	}
	return c
}

func (m model) check(j *Journal) error {
	for g, l := range m {
		if err := l.check(j.Log(g)); err != nil {
			return fmt.Errorf("log %d: %w", g, err)
		}
	}
	return nil
}

// TestModel makes random changes with small segments and opens the journal again and again.
func TestModel(t *testing.T) {
	for seed := range uint64(runs(12)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			fs := vfs.NewMem()
			m := newModel()
			moved := uint64(0)
			for range 3 {
				j, err := Open(fs, "journal", Options{SegmentSize: 16 << 10})
				must(t, err)
				must(t, m.check(j))
				for range 200 {
					g := uint32(min(rnd.IntN(groups*2), groups-1)) // one log is busier
					if rnd.IntN(20) == 0 {
						g = 0 // and one nearly idle
					} else {
						g = max(g, 1)
					}
					must(t, step(rnd, j.Log(g), m[g]))
				}
				must(t, m.check(j))
				s := j.Stats()
				moved += s.Moved
				live := 0
				for _, l := range m {
					for _, e := range l.entries {
						live += recordHead + len(e.Data) + len(e.Ext)
					}
				}
				if bound := int64(8*live + 12*16<<10); s.Size > bound {
					t.Errorf("%d bytes of segments for %d bytes of entries", s.Size, live)
				}
				must(t, j.Close())
			}
			t.Logf("%d entries moved", moved)
		})
	}
}

// TestPowerCut cuts the power at random: what was answered is there, and of what was under way all or nothing.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(runs(40)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			fs := vfs.NewCrashableMem()
			m := newModel()
			for range 4 {
				j, err := Open(fs, "journal", Options{SegmentSize: 8 << 10})
				must(t, err)
				must(t, m.check(j))
				for range 40 + rnd.IntN(40) {
					g := uint32(rnd.IntN(groups))
					must(t, step(rnd, j.Log(g), m[g]))
				}
				// One change of each log is under way while the power goes.
				before := m.clone()
				var wg sync.WaitGroup
				for g := range uint32(groups) {
					own := rand.New(rand.NewPCG(seed, uint64(g)))
					wg.Go(func() { must(t, step(own, j.Log(g), m[g])) })
				}
				crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
				wg.Wait()
				must(t, j.Close())
				fs = crashed
				j, err = Open(fs, "journal", Options{SegmentSize: 8 << 10})
				must(t, err)
				for g := range uint32(groups) {
					if before[g].check(j.Log(g)) == nil {
						m[g] = before[g]
					} else if err := m[g].check(j.Log(g)); err != nil {
						t.Fatalf("log %d is neither what it was nor what it should have become: %v", g, err)
					}
				}
				must(t, j.Close())
			}
		})
	}
}
