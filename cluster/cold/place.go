package cold

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

// place gives each of k+m fragments of a volume a node that its policy allows (step 2): regions in turn, beginning with home's, so that the data fragments
// are in the first ones; in a region its nodes in turn. load is how many fragments a node has already. It fails when a region or
// a node would hold more than m. Of a volume that is to survive a zone only, zones take the place of regions.
func place(id volume.ID, rule policy.Policy, k, m int, home policy.Place, nodes []replica.Peer, load map[string]int) ([]string, error) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n replica.Peer) bool { return !rule.Allows(n.Region) })
	regions, members := sorted(id, rule, rule.Fails(home), nodes, load)
	chosen := make([]string, 0, k+m)
	inRegion, onNode := make(map[string]int), make(map[string]int)
	for len(chosen) < k+m {
		before := len(chosen)
		for _, region := range regions {
			if len(chosen) == k+m || inRegion[region] == m {
				continue
			}
			node := members[region][inRegion[region]%len(members[region])]
			if onNode[node] == m {
				continue
			}
			inRegion[region]++
			onNode[node]++
			chosen = append(chosen, node)
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("%d+%d fragments need more than the %d %ss that have nodes for them (%s): none may hold more than %d", k, m, len(regions), rule.Survive, rule, m)
		}
	}
	return chosen, nil
}

// sorted lists regions, home first, and the nodes of each, the emptiest first. Among equals the order depends on the volume, so
// that all volumes together use all nodes.
func sorted(id volume.ID, rule policy.Policy, home string, nodes []replica.Peer, load map[string]int) (regions []string, members map[string][]string) {
	members = make(map[string][]string)
	for _, n := range nodes {
		region := rule.Fails(n.Place())
		if len(members[region]) == 0 {
			regions = append(regions, region)
		}
		members[region] = append(members[region], n.ID)
	}
	slices.SortFunc(regions, func(a, b string) int {
		return cmp.Or(first(a == home, b == home), cmp.Compare(mix(id, a), mix(id, b)))
	})
	for _, list := range members {
		slices.SortFunc(list, func(a, b string) int {
			return cmp.Or(cmp.Compare(load[a], load[b]), cmp.Compare(mix(id, a), mix(id, b)))
		})
	}
	return regions, members
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// mix orders names differently for every volume.
func mix(id volume.ID, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id.String() + name)) // a hash never fails
	return h.Sum64()
}

// replacement chooses where a fragment goes whose node is lost: of the nodes that take one the emptiest of the same region, or of another one, that
// leaves no region (or zone) and no node with more than m. nodes are all of the cluster: one that is down or takes nothing holds what it has.
func replacement(id volume.ID, rule policy.Policy, c *replica.Cold, index int, nodes []replica.Peer, takes func(replica.Peer) bool, load map[string]int) (string, bool) {
	region := make(map[string]string, len(nodes))
	for _, n := range nodes {
		region[n.ID] = rule.Fails(n.Place())
	}
	inRegion, onNode := make(map[string]int), make(map[string]int)
	for i, node := range c.Nodes {
		if i != index {
			onNode[node]++
			inRegion[region[node]]++
		}
	}
	fit := slices.DeleteFunc(slices.Clone(nodes), func(n replica.Peer) bool {
		return !takes(n) || !rule.Allows(n.Region) || n.ID == c.Nodes[index] || onNode[n.ID] >= int(c.Parity) || inRegion[region[n.ID]] >= int(c.Parity)
	})
	if len(fit) == 0 {
		return "", false
	}
	return slices.MinFunc(fit, func(a, b replica.Peer) int {
		return cmp.Or(first(region[a.ID] == region[c.Nodes[index]], region[b.ID] == region[c.Nodes[index]]),
			cmp.Compare(onNode[a.ID], onNode[b.ID]), cmp.Compare(load[a.ID], load[b.ID]), cmp.Compare(mix(id, a.ID), mix(id, b.ID)))
	}).ID, true
}
