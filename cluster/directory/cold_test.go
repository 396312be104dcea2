package directory

import (
	"slices"
	"testing"

	"hongyan/cluster/replica"
)

// A volume turns cold only in the state that its fragments were made from, and only once.
func TestFreezeAndThaw(t *testing.T) {
	d := newTables(t)
	d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	cold := replica.Cold{Data: 2, Parity: 1, Nodes: []string{"a", "b", "c"}, Seed: 7}
	freeze := func(generation, attempt uint32, c replica.Cold) *Result {
		return d.do(Command{FreezeVolume: &FreezeVolume{ID: 1, Generation: generation, Attempt: attempt, Cold: c}})
	}
	if r := freeze(0, 0, cold); r.Refused == "" {
		t.Error("froze an open volume")
	}
	d.do(Command{SealVolume: &SealVolume{ID: 1, Length: 9000}})
	d.do(Command{Compact: &Compact{ID: 1}})
	if r := freeze(0, 0, cold); r.Refused == "" {
		t.Error("froze a volume whose collection had begun since")
	}
	if r := freeze(1, 1, cold); r.Refused == "" {
		t.Error("froze another generation")
	}
	if r := freeze(0, 1, replica.Cold{Data: 2, Parity: 1, Nodes: []string{"a", "b"}}); r.Refused == "" {
		t.Error("froze with a fragment nowhere")
	}
	if r := freeze(0, 1, cold); r.Refused != "" || r.Volume.Cold.Seed != 7 || len(r.Volume.Copies) != 0 || r.Volume.Attempt != 2 {
		t.Fatalf("freeze: %+v", r)
	}
	if r := freeze(0, 2, cold); r.Refused == "" {
		t.Error("froze twice")
	}
	if r := d.do(Command{Compacted: &Compacted{ID: 1, Generation: 1, Length: 5000}}); r.Refused == "" {
		t.Error("entered a compaction of copies that are gone")
	}
	for _, c := range []struct {
		index    uint8
		from, to string
		ok       bool
	}{{1, "a", "d", false}, {3, "c", "d", false}, {1, "b", "", false}, {1, "b", "d", true}, {1, "b", "d", false}} {
		if r := d.do(Command{MoveFragment: &MoveFragment{ID: 1, Index: c.index, From: c.from, To: c.to}}); (r.Refused == "") != c.ok {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	thaw := func(generation uint32, copies ...string) *Result {
		return d.do(Command{ThawVolume: &ThawVolume{ID: 1, Generation: generation, Copies: copies}})
	}
	if thaw(0, "a").Refused == "" || thaw(1, "a", "c").Refused == "" {
		t.Error("thawed into one copy, or another generation")
	}
	if r := thaw(0, "c", "a"); r.Refused != "" || r.Volume.Cold != nil || r.Volume.Primary != "c" || !slices.Equal(r.Volume.Copies, []string{"c", "a"}) {
		t.Fatalf("thaw: %+v", r)
	}
	if thaw(0, "c", "a").Refused == "" {
		t.Error("thawed twice")
	}
}
