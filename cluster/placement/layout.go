// Package placement decides where replicas live. It holds pure functions of the cluster's member
// table: equal input gives equal output on every node, so that nodes that start together agree on the
// first layout without talking.
package placement

import (
	"fmt"
	"slices"
)

// DirectoryShard is the number of the group that holds domains, accounts and volume tables.
// Mailbox shards are numbered from 1.
const DirectoryShard uint32 = 0

// wantVoters is how many voters a group gets where there are enough storage nodes: with one in
// each of three regions, any one region may be lost.
const wantVoters = 3

// Node is a member as placement sees it.
type Node struct {
	ID      string
	Region  string
	Storage bool
}

// Group is the membership of one Raft group.
type Group struct {
	Shard    uint32
	Home     string   // region that should lead it
	Voters   []string // node ids, those of the home region first
	Learners []string // receive the log without a vote
}

// Holds says whether the node has a replica of the group.
func (g Group) Holds(node string) bool {
	return slices.Contains(g.Voters, node) || slices.Contains(g.Learners, node)
}

// Replicas are all nodes that have the group's state, the voters first.
func (g Group) Replicas() []string { return slices.Concat(g.Voters, g.Learners) }

// Layout computes the groups of a new cluster: the directory, led from the first node's region and
// copied to every storage node, and one mailbox shard for each entry of homes.
// Nodes are in the operators' order; the order of regions is that of their first nodes.
func Layout(nodes []Node, homes []string) ([]Group, error) {
	regions, members := byRegion(nodes)
	if len(regions) == 0 {
		return nil, fmt.Errorf("place shards: no node has the storage role")
	}
	directory := Group{Shard: DirectoryShard, Home: regions[0]}
	directory.Voters = voters(regions, members, directory.Home, 0)
	for _, n := range nodes {
		if n.Storage && !slices.Contains(directory.Voters, n.ID) {
			directory.Learners = append(directory.Learners, n.ID)
		}
	}
	groups := []Group{directory}
	turns := make(map[string]int) // by home: regions take turns too, and one count for all would meet the same nodes again and again
	for i, home := range homes {
		if len(members[home]) == 0 {
			return nil, fmt.Errorf("place shard %d: its home region %q has no storage node", i+1, home)
		}
		groups = append(groups, Group{
			Shard:  uint32(i + 1),
			Home:   home,
			Voters: voters(regions, members, home, turns[home]),
		})
		turns[home]++
	}
	return groups, nil
}

// byRegion lists the regions that have storage nodes, and those nodes.
func byRegion(nodes []Node) (regions []string, members map[string][]string) {
	members = make(map[string][]string)
	for _, n := range nodes {
		if !n.Storage {
			continue
		}
		if len(members[n.Region]) == 0 {
			regions = append(regions, n.Region)
		}
		members[n.Region] = append(members[n.Region], n.ID)
	}
	return regions, members
}

// voters takes one node of each region in turn, home first, until there are wantVoters or no more
// nodes. turn rotates through a region's nodes, so that shards spread over them.
func voters(regions []string, members map[string][]string, home string, turn int) []string {
	order := append([]string{home}, slices.DeleteFunc(slices.Clone(regions), func(r string) bool { return r == home })...)
	var chosen []string
	for round := 0; len(chosen) < wantVoters; round++ {
		took := false
		for _, r := range order {
			m := members[r]
			if round < len(m) && len(chosen) < wantVoters {
				chosen = append(chosen, m[(turn+round)%len(m)])
				took = true
			}
		}
		if !took {
			break
		}
	}
	return chosen
}
