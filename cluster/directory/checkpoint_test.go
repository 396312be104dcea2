package directory

import (
	"testing"

	"hongyan/engine/volume"
)

// TestCheckpoints keeps the last two of each shard, in order, and counts them as noise.
func TestCheckpoints(t *testing.T) {
	d := newTables(t)
	for range 2 {
		d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	}
	in := volume.ID(1)
	add := func(shard uint32, applied uint64, parts int) string {
		refs := make([]volume.Ref, parts)
		for i := range refs {
			refs[i].Volume = in
		}
		return d.do(Command{AddCheckpoint: &AddCheckpoint{Shard: shard, Checkpoint: Checkpoint{Applied: applied, Parts: refs}}}).Refused
	}
	for _, applied := range []uint64{5, 9, 12} {
		if why := add(3, applied, 1); why != "" {
			t.Fatal(why)
		}
	}
	if add(3, 12, 1) == "" || add(3, 7, 1) == "" || add(4, 1, 0) == "" || add(4, 1, MaxParts+1) == "" {
		t.Error("an older checkpoint, or one without parts or with too many, was taken")
	}
	if why := add(4, 2, 1); why != "" {
		t.Fatal(why)
	}
	in = 3
	if add(4, 3, 1) == "" {
		t.Error("took a checkpoint in a volume that is not there")
	}
	in = 2
	d.do(Command{SealVolume: &SealVolume{ID: 2, Length: 9000}})
	d.do(Command{Compact: &Compact{ID: 2}})
	if add(4, 3, 1) == "" {
		t.Error("took a checkpoint in a volume that is being collected")
	}
	v := d.store.View()
	defer func() { _ = v.Close() }()
	c, err := load[Checkpoints](v, numberKey(checkpointTable, 3))
	if err != nil || len(c.List) != 2 || c.List[0].Applied != 9 || c.List[1].Applied != 12 {
		t.Errorf("shard 3 has %+v, %v", c, err)
	}
	n, err := load[counters](v, []byte(counterKey))
	if err != nil || n.Noise != 4 {
		t.Errorf("noise %d, %v; want 4", n.Noise, err)
	}
}
