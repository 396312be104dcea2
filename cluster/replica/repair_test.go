package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/volume"
)

// sealedOne stores messages of 5000 bytes at a, with b, and waits until both copies of their volume are whole.
func sealedOne(t *testing.T, g *group, n int) (Entry, map[uint64]volume.Ref) {
	t.Helper()
	g.openWith("a", "b")
	acked := make(map[uint64]volume.Ref)
	var id volume.ID
	for seed := uint64(0); len(acked) < n; seed++ {
		ref := g.at("a").mustPut(seed, 5000)
		e, _ := g.dir.entry(ref.Volume)
		if id == 0 && e.Primary == "a" && e.Holds("b") {
			id = e.ID
		}
		if ref.Volume == id {
			acked[seed] = ref
		}
	}
	g.at("a").m.primaryOf(id).retire()
	g.sealed(acked)
	e, _ := g.dir.entry(id)
	for _, id := range e.Copies {
		g.wholeOn(id, e)
	}
	return e, acked
}

func (g *group) wholeOn(id string, e Entry) {
	g.t.Helper()
	eventually(g.t, "the copy on "+id+" is complete", 20*time.Second, func() error {
		now, _ := g.dir.entry(e.ID)
		if !g.at(id).m.askWhole(id, now, wholeRequest{}).Complete {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// TestStaleListMendsNothing: the repairer's list is minutes old, and the volume has another generation since. What was made by the old
// entry does not make the copy one of the new generation.
func TestStaleListMendsNothing(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	old, _ := sealedOne(t, g, 3)
	m := g.at("b").m
	next := old
	next.Generation, next.Attempt, next.Epoch = old.Generation+1, old.Generation+1, old.Epoch+1
	m.noteEntry(next)
	state := mending{retry: make(map[volume.ID]retry), incomplete: make(map[volume.ID]incomplete)}
	m.mendOne(&state, old)
	if len(m.Copies()) > 0 {
		t.Error("a copy of generation 0 counts as whole in generation 1")
	}
	if m.noteWhole(old, unproved) {
		t.Error("a copy that was mended while its entry changed counts as whole")
	}
}

// rot spoils a record of a node's copy, of which all records have one size. They are counted from 0.
func (g *group) rot(id string, e Entry, records, record int) {
	g.t.Helper()
	size := (e.Length - 4096) / int64(records)
	f, err := os.OpenFile(filepath.Join(g.at(id).dir, e.ID.String()+".vol"), os.O_RDWR, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xee}, 16), 4096+size*int64(record)+size/2)
	if err := errors.Join(err, f.Close()); err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) addCopy(e Entry, id string) Entry {
	g.t.Helper()
	e, err := g.dir.AddCopy(context.Background(), e, id)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, n := range g.order {
		if m := g.at(n).manager(); m != nil {
			m.noteEntry(e)
		}
	}
	return e
}

// TestFilledFromTwoDamagedCopies: a has lost a record and b another one. A third copy takes each from the other.
func TestFilledFromTwoDamagedCopies(t *testing.T) {
	g := newGroup(t, three()...)
	e, acked := sealedOne(t, g, 10)
	good, err := g.at("a").raw(e.ID, e.Length)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"a", "b"} {
		g.rot(id, e, len(acked), 2+5*i)
		g.rot(id, e, len(acked), 4+5*i)
	}
	e = g.addCopy(e, "c")
	g.wholeOn("c", e)
	if got, err := g.at("c").raw(e.ID, e.Length); err != nil || !bytes.Equal(got, good) {
		t.Errorf("the third copy has other bytes than there were: %v", err)
	}
	if s := g.at("c").m.Stats(); s.RepairFailures > 0 {
		t.Errorf("%d attempts failed", s.RepairFailures)
	}
}

// TestNoDamageIsTakenWhileOneIsDown: the only copy whose node answers has lost a record, the other is whole, and its node comes back.
func TestNoDamageIsTakenWhileOneIsDown(t *testing.T) {
	t.Parallel() // it mostly waits
	g := newGroup(t, three()...)
	e, acked := sealedOne(t, g, 10)
	good, err := g.at("a").raw(e.ID, e.Length)
	if err != nil {
		t.Fatal(err)
	}
	g.rot("a", e, len(acked), 3)
	g.at("b").kill()
	e = g.addCopy(e, "c")
	eventually(t, "c has tried more than often enough", time.Minute, func() error {
		if n := g.at("c").m.Stats().RepairFailures; n <= asIsAfter {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	vol, err := g.at("c").set.Get(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := vol.Durable(); got >= e.Length {
		t.Fatalf("c has taken damage while b, which has none, was down")
	}
	g.at("b").start(nil)
	g.wholeOn("c", e)
	if got, err := g.at("c").raw(e.ID, e.Length); err != nil || !bytes.Equal(got, good) {
		t.Errorf("the third copy has other bytes than there were: %v", err)
	}
}

// TestSilenceIsNoDamage: what a copy is known not to have is zeros, what a node that broke off may have is not.
func TestSilenceIsNoDamage(t *testing.T) {
	g := newGroup(t, three()...)
	e, _ := sealedOne(t, g, 3)
	p := bytes.Repeat([]byte{1}, 100)
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	rest := &damagedCopy{m: g.at("c").m, ctx: ctx, entry: e, nodes: []string{"a", "b"}}
	if _, err := rest.ReadAt(p, e.Length); err != nil || !bytes.Equal(p, make([]byte, len(p))) {
		t.Errorf("bytes that both nodes say they have not: %x, %v", p, err)
	}
	g.at("b").kill()
	if _, err := rest.ReadAt(p, e.Length); err == nil {
		t.Error("bytes that a node may have which is down became zeros")
	}
	if _, err := rest.ReadAt(p, e.Length-100); err != nil {
		t.Errorf("bytes that the other node has: %v", err)
	}
}

// TestCopyIsCheckedAfterAFailedFsync: b's disk takes no fsync when the copy is opened. It says so when it is fenced, and when the copy is opened again, from
// memory perhaps, it is checked.
func TestCopyIsCheckedAfterAFailedFsync(t *testing.T) {
	var armed atomic.Bool
	var damaged atomic.Uint64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && (op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync) && strings.HasSuffix(op.Path, ".vol") {
			return errorfs.ErrInjected
		}
		return nil
	}))
	tune := func(c *Config) { c.Damaged = func(id volume.ID, _ uint64) { damaged.Store(uint64(id)) } }
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north", fs: disk, tune: tune})
	b := g.at("b")
	b.kill()
	b.dir = filepath.Join(g.home, "b2")
	b.start(nil)
	e, _ := sealedOne(t, g, 3)
	b.kill()
	if err := os.Remove(filepath.Join(b.dir, e.ID.String()+".idx")); err != nil { // as after a crash
		t.Fatal(err)
	}
	armed.Store(true)
	b.start(nil)
	reply, err := b.m.fenceHere(e.ID, e.Epoch)
	if err != nil || !reply.Unreadable {
		t.Errorf("fenced while the disk takes no fsync: %+v, %v", reply, err)
	}
	armed.Store(false)
	g.wholeOn("b", e)
	if damaged.Load() != uint64(e.ID) {
		t.Error("the copy is not checked")
	}
}
