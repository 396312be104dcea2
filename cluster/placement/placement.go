// Package placement decides where replicas of shards live, and by which steps they get there. It owns no state and does
// nothing: pure functions of the node table and of the groups as they are, so there is nothing that a crash could leave behind.
//
// Three questions have one function each. Layout: where are the groups of a new cluster? Every node answers it alone and alike.
// Target: where should they be now, that nodes have come, gone or changed weight? Next: which one change of membership is
// safe, on the way from here to there?
//
// Invariants:
//
//  1. Equal input gives equal output, whatever the order of nodes and groups in Target. There is no randomness, no clock and no
//     floating point (whose last bit differs between processors).
//  2. Two replicas of a group are never on one node, and none is wanted on a node that is lost.
//     Two nodes at least have voters of every group, if so many are not lost.
//  3. Where nodes allow, no region has a majority of a group's voters: any one may fail.
//  4. Target of what Target gave is the same again; also half-way, when some of its groups have moved and others not.
//  5. A step of Next keeps a majority of voters that answer, if there was one, and never leaves fewer voters than
//     both ends of the way have.
package placement

import "slices"

// DirectoryShard is the number of the group that holds domains, accounts and volume tables.
// Mailbox shards are numbered from 1.
const DirectoryShard uint32 = 0

// Node is a member as placement sees it.
type Node struct {
	ID      string
	Region  string
	Zone    string // what fails together inside the region; nodes without one share the zone ""
	Storage bool

	// Weight is the node's share of its region's replicas, compared with the others there. One that weighs 0 is given none, but
	// keeps what does not have to move anyway. While fewer than two nodes that stay weigh anything, those that do not weigh 1.
	Weight int

	Leaving bool // to be emptied: it keeps nothing but a learner of the directory, unless fewer than two nodes stay
	Lost    bool // its replicas cannot be asked any more, so it is leaving too; it keeps nothing at all
}

// stays says whether the node may keep replicas in the long run.
func (n Node) stays() bool { return n.Storage && !n.Leaving && !n.Lost }

// Group is the membership of one Raft group.
type Group struct {
	Shard    uint32   `cbor:"1,keyasint"`
	Home     string   `cbor:"2,keyasint"`           // region that should lead it
	Voters   []string `cbor:"3,keyasint"`           // node ids, those of the home region first, and of those first the one that should lead
	Learners []string `cbor:"4,keyasint,omitempty"` // receive the log without a vote
}

// Holds says whether the node has a replica of the group.
func (g Group) Holds(node string) bool {
	return slices.Contains(g.Voters, node) || slices.Contains(g.Learners, node)
}

// Replicas are all nodes that have the group's state, the voters first.
func (g Group) Replicas() []string { return slices.Concat(g.Voters, g.Learners) }

// Options are the policies of a cluster.
type Options struct {
	// Near lists for a home region the others, the nearest first. Regions that it leaves out follow in the order of their first
	// nodes; the home region itself is always first.
	Near map[string][]string
}

// order is all regions as seen from home.
func (o Options) order(home string, regions []string) []string {
	out := []string{home}
	for _, r := range slices.Concat(o.Near[home], regions) {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}
