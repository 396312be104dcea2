package cold

import (
	"fmt"
	"slices"
	"testing"

	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

// nodes makes so many nodes in each region.
func nodes(perRegion ...int) (out []replica.Peer) {
	for r, n := range perRegion {
		for i := range n {
			out = append(out, replica.Peer{ID: fmt.Sprintf("r%d-%d", r, i), Region: fmt.Sprintf("r%d", r)})
		}
	}
	return out
}

// TestAnyRegionAndNodeMayBeLost: no placement gives a region or a node more than m fragments, and all nodes are used in the end.
func TestAnyRegionAndNodeMayBeLost(t *testing.T) {
	for _, c := range []struct {
		k, m   int
		shape  []int
		placed bool
	}{
		{4, 2, []int{1, 1, 1}, true},
		{4, 2, []int{2, 2, 2}, true},
		{4, 2, []int{5, 1, 1}, true},
		{4, 2, []int{3, 2, 2, 1}, true},
		{4, 2, []int{6, 6}, false},
		{4, 2, []int{9}, false},
		{4, 2, nil, false},
		{2, 1, []int{1, 1, 1}, true},
		{2, 1, []int{3, 3}, false},
		{10, 4, []int{2, 2, 2, 2}, true},
		{1, 1, []int{1, 1}, true},
	} {
		all := nodes(c.shape...)
		load := make(map[string]int)
		for id := range volume.ID(60) {
			chosen, err := place(id, c.k, c.m, "r0", all, load)
			if (err == nil) != c.placed {
				t.Fatalf("%d+%d on %v: %v", c.k, c.m, c.shape, err)
			}
			if !c.placed {
				break
			}
			inRegion, onNode := make(map[string]int), make(map[string]int)
			for _, node := range chosen {
				load[node]++
				onNode[node]++
				inRegion[node[:2]]++
				if onNode[node] > c.m || inRegion[node[:2]] > c.m {
					t.Fatalf("%d+%d on %v: %v", c.k, c.m, c.shape, chosen)
				}
			}
			if len(chosen) != c.k+c.m || chosen[0][:2] != "r0" {
				t.Fatalf("%d+%d on %v: %v", c.k, c.m, c.shape, chosen)
			}
		}
		for _, n := range all {
			if c.placed && load[n.ID] == 0 {
				t.Errorf("%d+%d on %v: nothing on %s", c.k, c.m, c.shape, n.ID)
			}
		}
	}
}

// TestReplacement: a fragment stays in its region if it can, and goes nowhere rather than where it would not be safe.
func TestReplacement(t *testing.T) {
	all := nodes(2, 2, 2)
	c := &replica.Cold{Data: 4, Parity: 2, Nodes: []string{"r0-0", "r1-0", "r2-0", "r0-1", "r1-1", "r2-1"}}
	without := func(ids ...string) []replica.Peer {
		return slices.DeleteFunc(slices.Clone(all), func(p replica.Peer) bool { return slices.Contains(ids, p.ID) })
	}
	if to, ok := replacement(1, c, 0, without("r0-0"), nil); !ok || to != "r0-1" {
		t.Errorf("beside the lost node: %q", to)
	}
	if to, ok := replacement(1, c, 0, without("r0-0", "r0-1"), nil); ok {
		t.Errorf("a third fragment in a region: %q", to)
	}
	more := append(without("r0-0", "r0-1"), replica.Peer{ID: "r3-0", Region: "r3"})
	if to, ok := replacement(1, c, 0, more, nil); !ok || to != "r3-0" {
		t.Errorf("a new region: %q", to)
	}
}
