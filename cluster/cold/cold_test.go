package cold

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

func at(seconds int64) time.Time { return time.Unix(1000+seconds, 0) }

// TestLifeOfAColdVolume: converted when it is old enough, read, its copies dropped, a node lost, a fragment rebuilt.
func TestLifeOfAColdVolume(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	e := c.sealed(7, 30)
	c.round(at(59))
	if c.entry(7).Cold != nil {
		t.Fatal("cold before its time")
	}
	c.round(at(61))
	e = c.entry(7)
	if e.Cold == nil {
		t.Fatal("not cold")
	}
	for _, n := range c.nodes {
		if held := len(n.m.cfg.Fragments.List()); held != 2 {
			t.Fatalf("%s holds %d fragments", n.id, held)
		}
		c.expect(n)
	}
	if got := c.nodes[0].set.List(); len(got) != 1 {
		t.Fatalf("the copy went at once: %v", got)
	}
	c.round(at(62))
	c.round(at(100))
	for _, n := range c.nodes {
		if got := n.set.List(); len(got) != 0 {
			t.Fatalf("copies left on %s: %v", n.id, got)
		}
		if got := n.files(t, "volumes"); len(got) != 0 {
			t.Fatalf("files left on %s: %v", n.id, got)
		}
		c.expect(n)
	}

	// A node is lost: the two others give all mail.
	must(t, c.nodes[2].net.Close())
	for _, n := range c.nodes[:2] {
		for n.net.Up("c") {
			time.Sleep(time.Millisecond)
		}
		c.expect(n)
		if n.m.stats.degraded.Load() == 0 {
			t.Errorf("no degraded read on %s", n.id)
		}
	}
}

// TestLostFragmentIsRebuilt, and damaged blocks, index and keys are put back.
func TestLostFragmentIsRebuilt(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 30)
	c.round(at(61))
	c.round(at(100))
	n := c.nodes[2]
	before := n.files(t, "cold")
	if len(before) != 4 {
		t.Fatalf("%v", before)
	}
	for _, name := range before {
		if name != before[1] {
			must(t, n.fs.Remove("cold/"+name))
		}
	}
	f, err := n.fs.OpenReadWrite("cold/"+before[1], "")
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), 4096+100)
	must(t, errors.Join(err, f.Close()))
	n.m.mu.Lock()
	clear(n.m.verified)
	n.m.mu.Unlock()
	for range 3 {
		c.round(at(101), 0, 1)
	}
	if after := n.files(t, "cold"); !slices.Equal(after, before) {
		t.Fatalf("%v\nwant %v", after, before)
	}
	if s := &n.m.stats; s.rebuilds.Load() != 1 || s.mendedBlocks.Load() != 1 {
		t.Fatalf("%d rebuilt, %d blocks mended", s.rebuilds.Load(), s.mendedBlocks.Load())
	}
	c.expect(n)
}

// TestCopyStaysUntilAllFragmentsAreWhole, and keys destroyed meanwhile are destroyed everywhere.
func TestCopyStaysUntilAllFragmentsAreWhole(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 12)
	c.round(at(61))
	must(t, c.nodes[0].set.UseKeys(7, func(f *keys.File) error { return f.Destroy([]uint64{3}) }))
	lost := c.nodes[2].m.cfg.Fragments.List()[0]
	must(t, c.nodes[2].frags.Remove(lost))
	c.round(at(100), 2)
	c.round(at(120), 2)
	if len(c.nodes[0].set.List()) != 1 {
		t.Fatal("a copy is gone although a fragment is missing")
	}
	c.round(at(140))
	c.round(at(160))
	if len(c.nodes[0].set.List()) != 0 {
		t.Fatal("the copy stays although all fragments are there")
	}
	for _, n := range c.nodes {
		if _, err := n.frags.Record(7, 3); !errors.Is(err, keys.ErrDestroyed) {
			t.Errorf("key 3 on %s: %v", n.id, err)
		}
		if _, err := n.m.Open(t.Context(), c.entry(7), c.refs[2], 0, 10); !errors.Is(err, keys.ErrDestroyed) {
			t.Errorf("read with a destroyed key on %s: %v", n.id, err)
		}
		if _, err := n.frags.Record(7, 4); err != nil {
			t.Errorf("key 4 on %s: %v", n.id, err)
		}
	}
}

// TestNothingIsConvertedThatMayBeDamaged or whose placement would not survive a region.
func TestNothingIsConvertedThatMayBeDamaged(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 5)
	f, err := c.nodes[0].fs.OpenReadWrite("volumes/"+volume.ID(7).String()+".vol", "")
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), 5000)
	must(t, errors.Join(err, f.Close()))
	c.round(at(61))
	if c.entry(7).Cold != nil {
		t.Fatal("converted from a damaged copy")
	}
	two := newCluster(t, "a", "b")
	two.sealed(8, 5)
	two.round(at(61))
	if two.entry(8).Cold != nil {
		t.Fatal("three fragments in a region")
	}
}

// TestFragmentsOfANodeThatLeftMove to another one of its region.
func TestFragmentsOfANodeThatLeftMove(t *testing.T) {
	c := newCluster(t, "a1", "b1", "c1", "c2")
	c.sealed(7, 12)
	c.round(at(61))
	c.round(at(100))
	const gone = "c2"
	if nodes := c.entry(7).Cold.Nodes; !slices.Contains(nodes, gone) {
		t.Fatalf("not all nodes of a region are used: %v", nodes)
	}
	c.peers = slices.DeleteFunc(slices.Clone(c.peers), func(p replica.Peer) bool { return p.ID == gone })
	c.round(at(110), 3)
	c.round(at(120), 3)
	if nodes := c.entry(7).Cold.Nodes; slices.Contains(nodes, gone) {
		t.Fatalf("%v", nodes)
	}
	for i, id := range c.entry(7).Cold.Nodes {
		k := slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == id })
		if !c.nodes[k].frags.Has(cold.Name{Volume: 7, Index: i}) {
			t.Errorf("fragment %d is not on %s", i, id)
		}
	}
	// The node's files are swept when it returns, after a while.
	n := c.nodes[3]
	c.round(at(130), 0, 1, 2)
	if len(n.frags.List()) == 0 {
		t.Error("swept at once")
	}
	c.round(at(130+3601), 0, 1, 2)
	if got := n.files(t, "cold"); len(got) != 0 {
		t.Errorf("left: %v", strings.Join(got, " "))
	}
}

// TestFragmentsLeaveADrainedNode, which is up all the while: no fragment is missing for a moment, and the node gets none again.
func TestFragmentsLeaveADrainedNode(t *testing.T) {
	c := newCluster(t, "a1", "b1", "c1", "c2")
	c.sealed(7, 12)
	c.round(at(61))
	c.round(at(100))
	const drained = "c2"
	for i := range c.peers {
		c.peers[i].Leaving = c.peers[i].ID == drained
	}
	nodeOf := func(id string) *node {
		return c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == id })]
	}
	whole := func() {
		t.Helper()
		for i, id := range c.entry(7).Cold.Nodes {
			if !nodeOf(id).frags.Has(cold.Name{Volume: 7, Index: i}) {
				t.Errorf("fragment %d is not on %s", i, id)
			}
		}
	}
	for _, n := range c.nodes {
		n.m.cfg.Paused = func() bool { return true }
	}
	before := c.entry(7)
	c.round(at(110))
	if now := c.entry(7); now.Epoch != before.Epoch || !slices.Contains(now.Cold.Nodes, drained) {
		t.Fatalf("moved while paused: %v", now.Cold.Nodes)
	}
	for _, n := range c.nodes {
		n.m.cfg.Paused = func() bool { return false }
	}
	for i := range 3 {
		c.round(at(120 + int64(i)))
		whole()
	}
	if nodes := c.entry(7).Cold.Nodes; slices.Contains(nodes, drained) {
		t.Fatalf("%v", nodes)
	}
	c.expect(nodeOf(drained)) // as any node without a fragment of its own
	c.sealed(8, 5)
	c.round(at(130))
	if e := c.entry(8); e.Cold == nil || slices.Contains(e.Cold.Nodes, drained) {
		t.Fatalf("a new volume: %+v", e)
	}
}

// TestThaw: what is live is counted by the index alone, keys of the rest are destroyed, and whole copies are as they were.
func TestThaw(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 20)
	before := make([]byte, c.entry(7).Length)
	v, err := c.nodes[0].set.Get(7)
	must(t, err)
	_, err = v.ReadRaw(0, before)
	must(t, err)
	c.round(at(61))
	c.round(at(62))
	c.round(at(100))
	n := c.nodes[2]
	census, err := n.m.Census(t.Context(), c.entry(7), roaring.BitmapOf(1, 2, 3))
	must(t, err)
	if census.Here.GetCardinality() != 20 || census.Stay.GetCardinality() != 3 || census.Bytes != c.entry(7).Length || census.StayBytes >= census.Bytes {
		t.Fatalf("%d here, %d stay, %d of %d bytes", census.Here.GetCardinality(), census.Stay.GetCardinality(), census.StayBytes, census.Bytes)
	}
	for _, n := range c.nodes {
		if erased, err := n.m.Erase(7, roaring.BitmapOf(1, 2, 3)); err != nil || erased < 17 {
			t.Fatalf("%d keys destroyed: %v", erased, err)
		}
	}
	e, err := n.m.Thaw(t.Context(), c.entry(7))
	must(t, err)
	if e.Cold != nil || len(e.Copies) != 2 || e.Copies[0] != "c" {
		t.Fatalf("%+v", e)
	}
	c.round(at(110))
	for _, id := range e.Copies {
		n := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == id })]
		v, err := n.set.Get(7)
		must(t, err)
		after := make([]byte, e.Length)
		_, err = v.ReadRaw(0, after)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Fatalf("another file on %s", id)
		}
		if _, err := v.Get(4); !errors.Is(err, keys.ErrDestroyed) {
			t.Fatalf("record 4 on %s: %v", id, err)
		}
		if _, err := v.Get(3); err != nil {
			t.Fatalf("record 3 on %s: %v", id, err)
		}
	}
	// The fragments go later, on every node.
	c.round(at(110 + 3700))
	for _, n := range c.nodes {
		if got := n.files(t, "cold"); len(got) != 0 {
			t.Errorf("left on %s: %v", n.id, got)
		}
	}
}

// TestFragmentStaysUntilItIsElsewhere: the directory names another node for it, which has it not yet; and while a recovery is not over those of volumes that
// the directory does not know stay.
func TestFragmentStaysUntilItIsElsewhere(t *testing.T) {
	c := settled(t)
	_, err := c.dir.MoveFragment(t.Context(), 7, 0, c.entry(7).Cold.Nodes[0], c.entry(7).Cold.Nodes[1])
	must(t, err)
	to := slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == c.entry(7).Cold.Nodes[0] })
	held := func() (n int) {
		for _, node := range c.nodes {
			n += len(node.frags.List())
		}
		return n
	}
	c.round(at(200), to)
	c.round(at(200+3700), to)
	if held() != 6 {
		t.Errorf("%d fragments are left, of which one is nowhere else", held())
	}
	c.round(at(200 + 3701)) // made where it is named
	c.round(at(200 + 3702))
	if held() != 6 || len(c.nodes[to].frags.List()) != 3 {
		t.Errorf("%d fragments, %d of them on %s", held(), len(c.nodes[to].frags.List()), c.nodes[to].id)
	}
	c.recovering = true
	must(t, c.dir.DropVolume(t.Context(), 7))
	c.round(at(5000))
	c.round(at(5000 + 3700))
	if held() != 6 {
		t.Errorf("%d fragments are left in the middle of a recovery", held())
	}
	c.recovering = false
	c.round(at(5000 + 3701))
	if held() != 0 {
		t.Errorf("%d fragments of no volume are left", held())
	}
}

// TestThawedFragmentsWaitForWholeCopies of the generation that the volume has; and none is removed that the directory names by now, or that was asked for.
func TestThawedFragmentsWaitForWholeCopies(t *testing.T) {
	c := settled(t)
	cold7 := c.entry(7)
	e, err := c.nodes[2].m.Thaw(t.Context(), cold7)
	must(t, err)
	held := func() (n int) {
		for _, node := range c.nodes {
			n += len(node.frags.List())
		}
		return n
	}
	copyOn := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == e.Copies[1] })]
	c.round(at(110))
	must(t, copyOn.set.Remove(7))
	c.round(at(110 + 3700))
	if held() != 6 {
		t.Errorf("%d fragments stay with one whole copy", held())
	}
	must(t, copyOn.m.thawHere(t.Context(), cold7))
	for _, generation := range []uint32{1, 0} { // compacted, and nobody has the new file; then as it is
		_, err := c.dir.change(7, func(e *replica.Entry) error {
			e.Generation = generation
			return nil
		})
		must(t, err)
		n := c.nodes[0]
		for _, held := range n.frags.List() {
			n.m.mu.Lock()
			since, ok := n.m.since[held]
			n.m.mu.Unlock()
			if err := n.m.sweepOne(held, since); !ok || (err == nil) != (generation == 0) {
				t.Errorf("generation %d: %v", generation, err)
			}
		}
	}
	if held() != 4 {
		t.Errorf("%d fragments stay with all copies whole", held())
	}

	// By an old list nobody names it; a maker is told that it is here.
	n := c.nodes[1]
	stale, err := c.dir.Volumes(t.Context())
	must(t, err)
	_, err = c.dir.FreezeVolume(t.Context(), c.entry(7), *cold7.Cold)
	must(t, err)
	clear(n.m.waits)
	n.m.round(stale, at(110+3800))
	if len(n.frags.List()) != 2 {
		t.Error("a fragment that is named was removed")
	}
	_, err = c.dir.ThawVolume(t.Context(), c.entry(7), e.Copies)
	must(t, err)
	for _, held := range n.frags.List() {
		k, err := c.nodes[0].m.maker(t.Context(), n.id, layout(cold7), held.Index)
		must(t, err)
		hangUp(k.s)
		if !k.done {
			t.Error("it is here")
		}
	}
	clear(n.m.waits)
	n.m.round(stale, at(110+3900))
	if len(n.frags.List()) != 2 {
		t.Error("a fragment that is about to be named was removed")
	}
	n.m.round(stale, at(110+3900+3700))
	if len(n.frags.List()) != 0 {
		t.Error("fragments stay that nobody names")
	}
}

// TestDamagedIndexIsMadeAnew from the fragments.
func TestDamagedIndexIsMadeAnew(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.sealed(7, 20)
	c.round(at(61))
	n := c.nodes[1]
	path := n.frags.IndexPath(7, 0)
	f, err := n.fs.OpenReadWrite(path, "")
	must(t, err)
	_, err = f.WriteAt([]byte{1, 2, 3}, 4096+40)
	must(t, errors.Join(err, f.Close()))
	must(t, n.set.Remove(7))
	c.expect(n)
	n.m.views.forget(7)
	c.expect(n)
	if got := n.files(t, "cold"); len(got) != 4 {
		t.Fatalf("%v", got)
	}
}

// TestAnotherLayout: fragments that an attempt by other numbers left are no fragments of the volume. They are made anew, and no copy goes for what they say;
// nor does such an attempt take the place of those that the directory names.
func TestAnotherLayout(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	e := c.sealed(7, 20)
	// Two of a 2+4 attempt whose freezing did not land, one where it would be asked for and one that is named without having been made anew.
	a := c.nodes[0]
	vol, err := a.set.Get(7)
	must(t, err)
	old := cold.Layout{Volume: 7, Seed: vol.Seed(), Length: e.Length, Data: 2, Parity: 4}
	make2and4 := func(n *node, index int) error {
		k, err := a.m.maker(t.Context(), n.id, old, index)
		if err != nil {
			return err
		}
		defer hangUp(k.s)
		targets := make([]cold.Target, old.Fragments())
		targets[index] = cold.Target{Sink: k, From: k.next}
		return errors.Join(cold.Encode(t.Context(), raw{vol}, old, targets, nil), k.finish())
	}
	plan, err := a.m.place(e)
	must(t, err)
	on := func(index int) *node {
		return c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == plan[index] })]
	}
	for index := range plan {
		must(t, make2and4(on(index), index))
	}
	c.round(at(61), 1, 2)
	cold4and2 := c.entry(7)
	if cold4and2.Cold == nil || !slices.Equal(cold4and2.Cold.Nodes, plan) {
		t.Fatalf("%+v", cold4and2)
	}
	for index := range plan {
		f, err := on(index).frags.Get(cold.Name{Volume: 7, Index: index})
		must(t, err)
		if f.Layout() != layout(cold4and2) {
			t.Errorf("fragment %d is of %+v", index, f.Layout())
		}
	}
	c.expect(c.nodes[1])

	// A node that has not heard of it makes 2+4 once more.
	if err := make2and4(on(3), 3); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("a fragment that is named was replaced: %v", err)
	}

	// One of another layout that has a named one's place nevertheless is lost: copies stay until it is made anew.
	d, err := on(5).frags.Make(t.Context(), old, 5)
	must(t, err)
	targets := make([]cold.Target, old.Fragments())
	targets[5] = cold.Target{Sink: d}
	must(t, cold.Encode(t.Context(), raw{vol}, old, targets, nil))
	must(t, errors.Join(d.Finish(t.Context()), d.Close()))
	l := layout(cold4and2)
	for _, req := range []*haveRequest{{Fragment: fragmentID{Volume: 7, Index: 5}, Layout: &l}, {Fragment: fragmentID{Volume: 7, Index: 4}}} {
		if reply, err := on(int(req.Fragment.Index)).m.serveHave(t.Context(), "a", req); err != nil || reply.Whole {
			t.Errorf("%+v: %+v, %v", req, reply, err)
		}
	}
	c.round(at(100))
	c.round(at(120))
	for _, n := range c.nodes {
		if len(n.set.List()) != 0 {
			t.Errorf("the copy stays on %s", n.id)
		}
		c.expect(n)
	}
	if n := on(5); n.m.stats.rebuilds.Load() != 1 {
		t.Errorf("%d rebuilt", n.m.stats.rebuilds.Load())
	}
}

// onlyFirst has only the first nodes take fragments.
func (c *cluster) onlyFirst(n int) {
	for i := range c.peers {
		c.peers[i].Weight = 0
		if i < n {
			c.peers[i].Weight = 10
		}
	}
}

// TestMovesKeepRegionsApart: a drained node with two fragments and another of its region with none, that of one more region: whoever moves them, one behind
// the other by an old list or at once with others, leaves no region with more than it may lose.
func TestMovesKeepRegionsApart(t *testing.T) {
	c := newCluster(t, "a1", "b1", "c1", "d1", "d2", "d3")
	c.onlyFirst(3)
	c.sealed(7, 12)
	c.round(at(61))
	c.round(at(100))
	for i := range c.peers { // all of two regions is to go where there is room for a third of the fragments
		c.peers[i].Weight = 10
		c.peers[i].Leaving = i == 1 || i == 2
	}
	regions := func() (d int) {
		inRegion := make(map[string]int)
		for _, node := range c.entry(7).Cold.Nodes {
			inRegion[node[:1]]++
		}
		for region, n := range inRegion {
			if n > 2 {
				t.Errorf("%d fragments in region %s: %v", n, region, c.entry(7).Cold.Nodes)
			}
		}
		return inRegion["d"]
	}
	for i := range 3 {
		c.round(at(110 + int64(i)))
		regions()
	}
	if regions() != 2 {
		t.Errorf("fragments that can move do not: %v", c.entry(7).Cold.Nodes)
	}
	c.expect(c.nodes[0])
}

// TestMoveBesideAnother: the entry changes while a fragment is made elsewhere. Where it goes is looked at again.
func TestMoveBesideAnother(t *testing.T) {
	c := newCluster(t, "a1", "b1", "c1", "d1", "d2", "d3")
	c.onlyFirst(3)
	c.sealed(7, 12)
	c.round(at(61))
	for i := range c.peers {
		c.peers[i].Weight = 10
	}
	e := c.entry(7)
	var inB, inC []int
	for i, node := range e.Cold.Nodes {
		switch node {
		case "b1":
			inB = append(inB, i)
		case "c1":
			inC = append(inC, i)
		}
	}
	c.peers[1].Leaving, c.peers[2].Leaving = true, true
	m := c.nodes[0].m
	must(t, m.move(7, inB[0], "b1"))
	// While the next one is made, another node moves one.
	m.cfg.Directory = &meanwhile{table: c.dir, after: 1, do: func() {
		_, err := c.dir.MoveFragment(t.Context(), 7, inC[0], "c1", "d1")
		must(t, err)
	}}
	if err := m.move(7, inB[1], "b1"); err == nil || c.entry(7).Cold.Nodes[inB[1]] != "b1" {
		t.Errorf("%v; a third fragment in a region: %v", err, c.entry(7).Cold.Nodes)
	}
	if err := m.move(7, inB[0], "b1"); err != nil { // by an old list: it has moved
		t.Error(err)
	}
}

// meanwhile does something after so many looks at an entry.
type meanwhile struct {
	*table
	after int
	do    func()
}

func (d *meanwhile) Volume(ctx context.Context, id volume.ID) (replica.Entry, bool, error) {
	e, known, err := d.table.Volume(ctx, id)
	if d.after--; d.after == 0 {
		d.do()
	}
	return e, known, err
}
