package volume

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestFaults runs a set of volumes through bad luck: it appends, receives, seals, mends, reads and removes while calls fail, the disk fills
// up, bits flip and the power is cut with a part of what was not synced lost, in any order of blocks. What was acknowledged is there in
// the end, and whatever is read is what was written, or an error. A seed that found something stays in this list.
func TestFaults(t *testing.T) {
	for seed := range seeds(t, 300) {
		m := &misfortune{t: t, seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 77)), truth: map[ID]*fate{}}
		m.run()
		if t.Failed() {
			return
		}
	}
}

// misfortune is one run.
type misfortune struct {
	t     *testing.T
	seed  int
	rng   *rand.Rand
	mem   *vfs.MemFS
	h     *hostile
	set   *Set
	truth map[ID]*fate
	next  ID
	log   []string

	reader io.ReadCloser // open over other steps; nil if none is
	reads  []byte        // what it has to give
	of     *fate
}

// fate is what is known of a volume.
type fate struct {
	acked   map[uint64][]byte
	damaged bool // bits were flipped in its file

	whole []byte   // of a copy that is received: the other copy's file,
	ends  []int64  // where its records end,
	mails [][]byte // and what they hold
	got   int64    // received so far
}

func (m *misfortune) say(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *misfortune) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: %s\nafter %q", m.seed, fmt.Sprintf(format, args...), m.log)
}

func (m *misfortune) run() {
	m.mem = memFS(m.t)
	m.h = &hostile{rng: m.rng}
	m.open()
	for range 50 {
		m.h.set([]int{0, 0, 0, 3, 10, 40}[m.rng.IntN(6)], m.rng.IntN(12) == 0)
		m.step()
	}
	m.h.set(0, false)
	m.endReading()
	if m.rng.IntN(2) == 0 {
		m.cutPower()
	} else {
		must(m.t, m.set.Close())
		m.open()
	}
	for id := range m.truth {
		m.readAll(id, true)
	}
	must(m.t, m.set.Close())
}

// open opens the set anew, with everything in order, as an operator sees to.
func (m *misfortune) open() {
	m.t.Helper()
	m.h.set(0, false)
	s, err := OpenSet(hostileFS{m.mem, m.h}, testDir, SetOptions{MaxOpen: 2, Ahead: 5000 * m.rng.Int64N(2)})
	if err != nil {
		m.fail("open the set: %v", err)
	}
	m.set = s
}

func (m *misfortune) cutPower() {
	percent := []int{0, 10, 50, 90, 100}[m.rng.IntN(5)]
	m.say("power cut, %d%% of unsynced blocks stay", percent)
	after := m.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: m.rng})
	m.h.set(0, false)
	m.endReading()
	must(m.t, m.set.Close())
	m.mem = after
	m.open()
}

func (m *misfortune) step() {
	id, f := m.any()
	switch n := m.rng.IntN(20); {
	case f == nil || n < 2:
		m.create()
	case n < 7:
		m.grow(id, f)
	case n < 9:
		m.say("seal %s", id)
		if v, err := m.set.Get(id); err == nil {
			_ = v.Seal() // what it says is in Stats
		}
	case n < 10:
		m.say("reopen %s", id)
		_, _ = m.set.Reopen(id) // on failure somebody opens it later
	case n < 12:
		m.mend(id, f)
	case n < 13:
		m.flip(id, f)
	case n < 14:
		m.say("remove %s", id)
		if m.set.Remove(id) == nil {
			delete(m.truth, id)
		} else {
			f.damaged = true // half of it may be gone
		}
	case n < 15:
		m.cutPower()
	case n < 16:
		m.verify(id, f)
	case n < 17:
		m.endReading()
		m.beginReading(id, f)
	default:
		m.readAll(id, false)
	}
}

// any picks a volume.
func (m *misfortune) any() (ID, *fate) {
	if len(m.truth) == 0 {
		return 0, nil
	}
	for {
		id := 1 + ID(m.rng.Uint64N(uint64(m.next)))
		if f := m.truth[id]; f != nil {
			return id, f
		}
	}
}

func (m *misfortune) create() {
	m.next++
	f := &fate{acked: map[uint64][]byte{}}
	var err error
	if m.rng.IntN(2) == 0 {
		_, err = m.set.Create(header(m.next), nil, nil)
	} else {
		m.other(f)
		_, err = m.set.CreateCopy(f.whole[:fileHeaderSize], nil)
		f.got = fileHeaderSize
	}
	m.say("create %s: %v", m.next, err)
	if err == nil {
		m.truth[m.next] = f
	}
}

// other makes the copy that a volume is received from.
func (m *misfortune) other(f *fate) {
	fs := memFS(m.t)
	v, err := Create(fs, testDir+"/a", header(m.next), Options{})
	must(m.t, err)
	for range 1 + m.rng.IntN(6) {
		p := mail(m.rng, m.rng.IntN(9000))
		put(m.t, v, "m", p)
		f.mails, f.ends = append(f.mails, p), append(f.ends, v.Durable())
	}
	must(m.t, v.Close())
	f.whole = readFile(m.t, fs, testDir+"/a")
}

// grow appends to a volume, or receives more of it.
func (m *misfortune) grow(id ID, f *fate) {
	v, err := m.set.Get(id)
	if err != nil {
		return
	}
	if f.whole == nil {
		p := mail(m.rng, m.rng.IntN(9000))
		b := newBlob(m.t, m.mem, testDir, p)
		ref, _, err := v.Append(m.t.Context(), KindMessage, []byte("m"), b)
		m.say("append to %s: record %d, %v", id, ref.Record, err)
		must(m.t, b.Close())
		if err == nil {
			f.acked[ref.Record] = p
		}
		return
	}
	n := min(1+m.rng.Int64N(12_000), int64(len(f.whole))-f.got)
	if err := v.Receive(f.got, f.whole[f.got:f.got+n]); err == nil {
		f.got += n
	}
	m.commit(id, f, v)
}

func (m *misfortune) commit(id ID, f *fate, v *Volume) {
	durable, err := v.Commit()
	m.say("commit %s: %d, %v", id, durable, err)
	for i, end := range f.ends {
		if err == nil && end <= min(durable, v.Stats().Whole) { // damage may be left of what was never committed
			f.acked[uint64(i)+1] = f.mails[i]
		}
	}
}

// mend cuts a received copy and fills it again, as repair does.
func (m *misfortune) mend(id ID, f *fate) {
	if f.whole == nil {
		return
	}
	v, err := m.set.Get(id)
	if err != nil || v.Seal() != nil {
		return
	}
	keep := m.rng.IntN(len(f.ends))
	if f.ends[keep] <= v.Durable() {
		for record := range f.acked {
			if record > uint64(keep)+1 {
				delete(f.acked, record) // given up; acknowledged again when it is back
			}
		}
		err = v.Truncate(f.ends[keep])
	}
	for off := v.Durable(); err == nil && off < int64(len(f.whole)); {
		n := min(1+m.rng.Int64N(9000), int64(len(f.whole))-off)
		err = v.Extend(off, f.whole[off:off+n])
		off += n
	}
	m.say("mend %s behind record %d: %v", id, keep+1, err)
	if err == nil {
		m.commit(id, f, v)
	}
	if m.rng.IntN(2) == 0 {
		_ = v.Seal() // what it says is in Stats
	}
}

func (m *misfortune) flip(id ID, f *fate) {
	path := m.set.path(id)
	if m.rng.IntN(2) == 0 {
		path = indexPath(path)
	} else {
		f.damaged = true
	}
	m.say("flip a bit of %s", path)
	if _, err := m.mem.Stat(path); err == nil {
		must(m.t, flip(m.mem, path, m.rng))
	}
}

func (m *misfortune) verify(id ID, f *fate) {
	out, err := m.set.Verify(id, Check{})
	m.say("verify %s: %v", id, err)
	if err != nil || f.damaged || !m.calm() {
		return
	}
	for _, found := range out.Findings {
		if _, acked := f.acked[found.Record]; acked { // others may be what a power cut left of records that nobody was told of
			m.fail("verify %s: %+v", id, out)
		}
	}
}

func (m *misfortune) calm() bool {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	return m.h.percent == 0 && !m.h.full
}

// readAll reads what was acknowledged.
func (m *misfortune) readAll(id ID, last bool) {
	m.t.Helper()
	f := m.truth[id]
	for record, want := range f.acked {
		v, err := m.set.Get(id)
		var got []byte
		if err == nil {
			got, err = fetch(v, record, 0, MaxLength)
		}
		if err != nil && m.calm() && halfRead(v) {
			if v, err = m.set.Reopen(id); err == nil {
				got, err = fetch(v, record, 0, MaxLength)
			}
		}
		if err == nil && !bytes.Equal(got, want) {
			m.fail("record %d of %s has other bytes than were acknowledged", record, id)
		}
		if err != nil && !f.damaged && (last || m.calm()) {
			m.fail("record %d of %s was acknowledged: %v", record, id, err)
		}
	}
}

// beginReading opens a record, to read it when other things have happened.
func (m *misfortune) beginReading(id ID, f *fate) {
	for record, want := range f.acked {
		v, err := m.set.Get(id)
		if err != nil {
			return
		}
		if r, err := v.Open(record, 0, MaxLength); err == nil {
			m.say("begin to read record %d of %s", record, id)
			m.reader, m.reads, m.of = r, want, f
		}
		return
	}
}

func (m *misfortune) endReading() {
	if m.reader == nil {
		return
	}
	calm := m.calm()
	got, err := io.ReadAll(m.reader)
	if err == nil && !bytes.Equal(got, m.reads) || err != nil && calm && !m.of.damaged && m.of.whole == nil {
		m.fail("a reader that was open gives %d of %d bytes: %v", len(got), len(m.reads), err)
	}
	if err := m.reader.Close(); err != nil && calm {
		m.fail("close a reader: %v", err)
	}
	m.reader = nil
}

// halfRead says that the volume was opened while the disk did not answer, or that writing to it failed: opened anew it may have more.
func halfRead(v *Volume) bool {
	return v != nil && (v.Stats().Failed != nil || len(v.Damage()) > 0)
}
