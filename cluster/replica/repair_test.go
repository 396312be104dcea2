package replica

import (
	"fmt"
	"testing"
	"time"

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
	eventually(g.t, "the copy on "+id+" is whole", 20*time.Second, func() error {
		now, _ := g.dir.entry(e.ID)
		if !g.at(id).m.WholeOn(id, now) {
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
	if m.noteWhole(old) {
		t.Error("a copy that was mended while its entry changed counts as whole")
	}
}
