package replica

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"hongyan/engine/volume"
)

// TestSuccessors: volumes whose key files are full of small messages are followed by others before they end, so that nobody is
// refused or waits, and the others have more keys.
func TestSuccessors(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	a := g.at("a")
	const callers, each = 16, 200 // of volumes with 1,024 keys
	refs := make([]map[uint64]volume.Ref, callers)
	var wg sync.WaitGroup
	for c := range uint64(callers) {
		refs[c] = make(map[uint64]volume.Ref)
		wg.Go(func() {
			for i := range uint64(each) {
				ref, err := a.put(context.Background(), c*each+i, 100)
				if err != nil {
					t.Error(err)
					return
				}
				refs[c][c*each+i] = ref
			}
		})
	}
	wg.Wait()
	volumes := make(map[volume.ID]int)
	for _, some := range refs {
		for seed, ref := range some {
			volumes[ref.Volume]++
			if err := a.verify(ref, seed); err != nil {
				t.Error(err)
			}
		}
	}
	s := a.m.Stats()
	if len(volumes) < 4 || s.Fences != 0 {
		t.Errorf("%d volumes took the records, %d were fenced", len(volumes), s.Fences)
	}
	for id, n := range volumes {
		if n > mostAppends(1<<10) {
			t.Errorf("volume %s has %d records", id, n)
		}
	}
	t.Log(volumes, s.AppendRetries)
	e, _ := g.dir.entry(1)
	slot := slotOf("", []Peer{{ID: "b"}}, e.Class)
	// One that has a successor gets the mail until it is full: else it would stay open, with its streams and files, and its garbage.
	eventually(t, "full volumes are sealed", 10*time.Second, func() error {
		if s := a.m.Stats(); s.OpenOwn > 2 {
			return fmt.Errorf("%d volumes are open", s.OpenOwn)
		}
		return nil
	})
	if have := a.m.recordsFor(slot); have != 8<<10 {
		t.Errorf("the next volume is to have keys for %d records", have)
	}
}
