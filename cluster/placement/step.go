package placement

import (
	"fmt"
	"slices"
)

// StepKind is a kind of change of one group's membership.
type StepKind int

const (
	AddLearner StepKind = iota + 1 // the node receives the log; whoever carries the steps out waits until it has caught up
	Promote                        // a learner becomes a voter
	Demote                         // a voter becomes a learner
	Remove                         // a voter or learner goes
)

func (k StepKind) String() string {
	switch k {
	case AddLearner:
		return "add learner"
	case Promote:
		return "promote"
	case Demote:
		return "demote"
	case Remove:
		return "remove"
	}
	return fmt.Sprintf("step %d", int(k))
}

// Step is one change of membership, as Raft makes it: one node at a time.
type Step struct {
	Shard uint32   `cbor:"1,keyasint"`
	Kind  StepKind `cbor:"2,keyasint"`
	Node  string   `cbor:"3,keyasint"`
}

// Apply gives the membership after the step.
func (s Step) Apply(g Group) Group {
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(n string) bool { return n == s.Node })
	}
	g.Voters, g.Learners = without(g.Voters), without(g.Learners)
	switch s.Kind {
	case Promote:
		g.Voters = append(g.Voters, s.Node)
	case AddLearner, Demote:
		g.Learners = append(g.Learners, s.Node)
	}
	return g
}

func (s Step) String() string { return fmt.Sprintf("shard %d: %s %s", s.Shard, s.Kind, s.Node) }

// Next is the first step on the way from now to want, or false if they have the same members; their order does not
// count. After AddLearner it must be asked again only when the learner has caught up, and whoever promotes one that was there
// before looks whether it has. nodes says who is lost and which regions there are; without it the way is the same length.
//
// The rules, in this order:
//
//  1. More voters than wanted: one goes that is not wanted, or is demoted if it is to learn.
//  2. Fewer than wanted: learners join until all that are short are there, then they are promoted.
//  3. As many, but others: one joins as a learner, is promoted, and rule 1 removes one.
//  4. The voters are right: learners join, then those go that are not wanted.
//
// Why a majority answers all the way. Let k of v voters answer, k > v/2. A promoted learner has caught up and answers: k+1 of
// v+1 is a majority, also of the membership that has it, in which Raft commits the change. To remove one that does not answer
// leaves k of v-1, one more than needed or two. To remove one that does leaves k-1 of v-1, which may be none: after a promotion it is what there was
// before it; elsewhere (rule 1, when groups become smaller) the lost ones go first. So with C lost of A, B, C it
// is D in, 3 of 4, then C out, 3 of 3; with two lost of five, 4 of 6, 4 of 5, 5 of 6, 5 of 5. To remove the lost one first
// is as safe, but has fewer disks with each entry meanwhile; so a lost one waits for its replacement as any other does.
//
// Why a region may fail while anything is waited for, if both ends have odd numbers of voters, all of which answer. Only AddLearner waits,
// and it leaves the voters as they are; Promote and Remove follow each other at once. Who joins does so where there are fewest
// voters and who goes is of the region that has most: if no region had a majority before and none is to have one, none
// has whenever there is a wait. Between a promotion and the removal after it the number is even, and one region may have half: 2+2+1
// becomes 3+2+1, of which three are left if the first region fails in that moment. They lose nothing and cannot commit until
// a voter of it returns. No order of single changes avoids that inside three regions: from 2+2+1 every removal and every promotion but
// a second one in the third region leads to a region with half. Joins are chosen so that it does not come to that where it need not.
func Next(now, want Group, nodes ...Node) (Step, bool) {
	w := &walk{now: now, want: want, region: make(map[string]string), lost: make(map[string]bool)}
	for _, n := range nodes {
		w.region[n.ID], w.lost[n.ID] = n.Region, n.Lost
	}
	kind, node := w.next()
	return Step{Shard: now.Shard, Kind: kind, Node: node}, kind != 0
}

// walk is a group on its way.
type walk struct {
	now, want Group
	region    map[string]string
	lost      map[string]bool
}

func (w *walk) next() (StepKind, string) {
	join, part := minus(w.want.Voters, w.now.Voters), minus(w.now.Voters, w.want.Voters)
	short := len(w.want.Voters) - len(w.now.Voters)
	come := minus(join, minus(join, w.now.Learners)) // they learn already
	switch {
	case short < 0:
		return w.dismiss(part, join)
	case short > len(come):
		return AddLearner, w.pick(minus(join, come), slices.Concat(w.now.Voters, come), +1)
	case short > 0:
		return Promote, w.pick(come, w.now.Voters, +1)
	case len(join) > 0:
		node := w.pick(join, w.now.Voters, +1)
		if slices.Contains(come, node) {
			return Promote, node
		}
		return AddLearner, node
	}
	if join := minus(w.want.Learners, w.now.Learners); len(join) > 0 {
		return AddLearner, join[0]
	}
	if part := minus(w.now.Learners, w.want.Replicas()); len(part) > 0 {
		return Remove, part[0]
	}
	return 0, ""
}

// dismiss takes the vote from one of part: a lost one if there is one, else one of the region that has most; of equals one
// where one of join is to be promoted.
func (w *walk) dismiss(part, join []string) (StepKind, string) {
	if lost := slices.DeleteFunc(slices.Clone(part), func(n string) bool { return !w.lost[n] }); len(lost) > 0 {
		part = lost
	}
	awaited := func(n string) bool {
		return slices.ContainsFunc(join, func(j string) bool { return w.region[j] == w.region[n] })
	}
	first := slices.DeleteFunc(slices.Clone(part), func(n string) bool { return !awaited(n) })
	node := w.pick(slices.Concat(first, part), w.now.Voters, -1)
	if slices.Contains(w.want.Learners, node) {
		return Demote, node
	}
	return Remove, node
}

// pick is the first one of nodes whose region has fewest of the voters, if it is to join them, or most if it is to leave.
func (w *walk) pick(nodes, voters []string, by int) string {
	count := make(map[string]int)
	for _, v := range voters {
		count[w.region[v]] -= by
	}
	best := nodes[0]
	for _, n := range nodes {
		if count[w.region[n]] > count[w.region[best]] {
			best = n
		}
	}
	return best
}

// minus is what is in a and not in b, in the order of a.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(n string) bool { return slices.Contains(b, n) })
}
