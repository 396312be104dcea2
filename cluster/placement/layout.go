package placement

import (
	"fmt"
	"slices"
)

// Layout computes the groups of a new cluster: the directory, led from the first node's region and copied to every storage node,
// and one mailbox shard for each entry of homes, placed as Target does it.
// Nodes are in the operators' order; the order of regions is that of their first nodes. Target, which sorts nodes by id, leaves a
// new cluster as it is if they are in that order here.
func Layout(nodes []Node, homes []string) ([]Group, error) {
	t, err := newTable(nodes, nil)
	if err != nil {
		return nil, err
	}
	groups := []Group{{Shard: DirectoryShard, Home: t.regions[0]}}
	for i, home := range homes {
		if !slices.Contains(t.regions, home) {
			return nil, fmt.Errorf("place shard %d: its home region %q has no storage node", i+1, home)
		}
		groups = append(groups, Group{Shard: uint32(i + 1), Home: home})
	}
	return t.place(groups, Options{}), nil
}
