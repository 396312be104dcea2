package cold

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
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
			chosen, err := place(id, policy.Default(), c.k, c.m, policy.Place{Region: "r0"}, all, load)
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

func anyPeer(replica.Peer) bool { return true }

// TestReplacement: a fragment stays in its region if it can, and goes nowhere rather than where it would not be safe.
func TestReplacement(t *testing.T) {
	all := nodes(2, 2, 2)
	c := &replica.Cold{Data: 4, Parity: 2, Nodes: []string{"r0-0", "r1-0", "r2-0", "r0-1", "r1-1", "r2-1"}}
	without := func(ids ...string) []replica.Peer {
		return slices.DeleteFunc(slices.Clone(all), func(p replica.Peer) bool { return slices.Contains(ids, p.ID) })
	}
	if to, ok := replacement(1, policy.Default(), c, 0, without("r0-0"), anyPeer, nil); !ok || to != "r0-1" {
		t.Errorf("beside the lost node: %q", to)
	}
	if to, ok := replacement(1, policy.Default(), c, 0, without("r0-0", "r0-1"), anyPeer, nil); ok {
		t.Errorf("a third fragment in a region: %q", to)
	}
	more := append(without("r0-0", "r0-1"), replica.Peer{ID: "r3-0", Region: "r3"})
	if to, ok := replacement(1, policy.Default(), c, 0, more, anyPeer, nil); !ok || to != "r3-0" {
		t.Errorf("a new region: %q", to)
	}
	// A node that is down or drained holds what it has: its region is full with it.
	c = &replica.Cold{Data: 4, Parity: 2, Nodes: []string{"r0-0", "r1-0", "r2-0", "r0-1", "r1-1", "r2-1"}}
	five := nodes(2, 2, 3)
	but := func(ids ...string) func(replica.Peer) bool {
		return func(p replica.Peer) bool { return !slices.Contains(ids, p.ID) }
	}
	if to, ok := replacement(1, policy.Default(), c, 0, five, but("r0-0", "r0-1", "r2-0", "r2-1"), nil); ok {
		t.Errorf("a third fragment in a region where nodes are down: %q", to)
	}
	if to, ok := replacement(1, policy.Default(), c, 2, append(five, replica.Peer{ID: "r3-0", Region: "r3"}), but("r2-0"), nil); !ok || to != "r2-2" {
		t.Errorf("in the region of the node that leaves: %q", to)
	}
}

// TestFragmentsUnderPolicy: fragments lie where the volume's policy allows, also when one moves; those of a volume that is to survive a zone are spread over zones.
func TestFragmentsUnderPolicy(t *testing.T) {
	all := nodes(2, 2, 2)
	mainland := policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"r0", "r1"}}
	home := policy.Place{Region: "r0"}
	if chosen, err := place(1, mainland, 4, 2, home, all, nil); err == nil {
		t.Errorf("4+2 fragments in two regions, either of which may be lost: %v", chosen)
	}
	for id := range volume.ID(20) {
		chosen, err := place(id, mainland, 2, 2, home, all, nil)
		if err != nil || slices.ContainsFunc(chosen, func(node string) bool { return node[:2] == "r2" }) {
			t.Fatalf("%v, %v", chosen, err)
		}
	}
	zonal := policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"r0"}}
	zones := []replica.Peer{{ID: "x", Region: "r0", Zone: "x"}, {ID: "y", Region: "r0", Zone: "y"}, {ID: "z", Region: "r0", Zone: "z"}, {ID: "r1-0", Region: "r1"}}
	if chosen, err := place(1, zonal, 4, 2, home, zones, nil); err != nil || slices.Contains(chosen, "r1-0") {
		t.Errorf("4+2 in three zones of a region: %v, %v", chosen, err)
	}
	if chosen, err := place(1, zonal, 4, 2, home, zones[:2], nil); err == nil {
		t.Errorf("4+2 in two zones: %v", chosen)
	}
	c := &replica.Cold{Data: 2, Parity: 2, Nodes: []string{"r0-0", "r1-0", "r0-1", "r1-1"}}
	left := slices.DeleteFunc(slices.Clone(all), func(p replica.Peer) bool { return p.ID == "r0-1" })
	if to, ok := replacement(1, mainland, c, 2, left, anyPeer, nil); !ok || to != "r0-0" {
		t.Errorf("a fragment of r0-1 goes to %q", to)
	}
	left = slices.DeleteFunc(left, func(p replica.Peer) bool { return p.Region == "r0" })
	if to, ok := replacement(1, mainland, c, 2, left, anyPeer, nil); ok {
		t.Errorf("a third fragment in a region, or one elsewhere: %q", to)
	}
}

// TestMisplaced has a node that the table of nodes takes for one of another region than it is in: it gets no fragment, no keys and no index, and makes no copy of a
// volume that may not lie where it is. Once both say the same the volume turns cold.
func TestMisplaced(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	e := c.sealed(7, 30)
	misplaced := c.nodes[2]
	c.peers[2].Region = "x"
	c.round(at(61))
	if c.entry(7).Cold != nil || len(misplaced.m.cfg.Fragments.List()) > 0 || misplaced.m.cfg.Fragments.HasAttached(7, 0) {
		t.Errorf("%+v; fragments %v came to the node", c.entry(7), misplaced.m.cfg.Fragments.List())
	}
	c.peers[2].Region = "c"
	c.round(at(61))
	if e = c.entry(7); e.Cold == nil || len(misplaced.m.cfg.Fragments.List()) == 0 {
		t.Fatalf("not cold: %+v", e)
	}
	e.Policy = &policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"a", "b"}}
	if _, err := misplaced.m.serveThaw(t.Context(), "a", &thawRequest{Entry: e}); !errors.Is(err, wire.ErrDenied) || len(misplaced.set.List()) > 0 {
		t.Errorf("a whole copy where none may be: %v, files %v", err, misplaced.set.List())
	}
}
