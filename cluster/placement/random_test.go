package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"hongyan/engine/effort"
)

// randomCluster has up to so many nodes, in one to seven regions, with and without zones and weights, some leaving or lost, and
// groups that are anywhere; a storage node that stays is among them.
func randomCluster(rng *rand.Rand, most int) (nodes []Node, groups []Group, o Options) {
	regions, zones, weights := 1+rng.IntN(7), 1+rng.IntN(3), rng.IntN(3)
	for i := range 1 + rng.IntN(most) {
		n := Node{ID: fmt.Sprintf("n%02d", i), Region: fmt.Sprint("r", rng.IntN(regions)), Storage: i == 0 || rng.IntN(10) > 0, Weight: 10}
		if zones > 1 {
			n.Zone = fmt.Sprint("z", rng.IntN(zones))
		}
		if weights > 0 {
			n.Weight = rng.IntN(20 * weights)
		}
		if i > 0 {
			n.Leaving, n.Lost = rng.IntN(12) == 0, rng.IntN(12) == 0
		}
		nodes = append(nodes, n)
	}
	o.Near = make(map[string][]string)
	for i := range regions {
		for _, j := range rng.Perm(regions) {
			o.Near[fmt.Sprint("r", i)] = append(o.Near[fmt.Sprint("r", i)], fmt.Sprint("r", j))
		}
	}
	for i := range rng.IntN(60) {
		g := Group{Shard: uint32(i), Home: fmt.Sprint("r", rng.IntN(regions))}
		for k, j := range rng.Perm(len(nodes))[:min(len(nodes), rng.IntN(7))] {
			if k < 5 {
				g.Voters = append(g.Voters, nodes[j].ID)
			} else {
				g.Learners = append(g.Learners, nodes[j].ID)
			}
		}
		groups = append(groups, g)
	}
	return nodes, groups, o
}

// change does to a cluster what operators and accidents do.
func change(rng *rand.Rand, nodes []Node) []Node {
	nodes = slices.Clone(nodes)
	n := &nodes[rng.IntN(len(nodes))]
	switch rng.IntN(6) {
	case 0:
		n.Leaving = !n.Leaving
	case 1:
		n.Lost = !n.Lost
	case 2:
		n.Weight = rng.IntN(30)
	case 3:
		for i := range nodes {
			if nodes[i].Region == n.Region {
				nodes[i].Lost = !n.Lost
			}
		}
	case 4:
		return append(nodes, Node{ID: fmt.Sprint("new", len(nodes)), Region: n.Region, Zone: n.Zone, Storage: true, Weight: 1 + rng.IntN(20)})
	case 5:
		n.Zone = fmt.Sprint("z", rng.IntN(3))
	}
	nodes[0].Storage, nodes[0].Lost = true, false
	return nodes
}

// rules checks what is true of any target.
func rules(t *testing.T, nodes []Node, groups []Group) {
	t.Helper()
	at, keepers := make(map[string]Node), make(map[string]int) // nodes by region that may be given replicas
	var stays []string
	for _, n := range nodes {
		at[n.ID] = n
		if n.stays() {
			stays = append(stays, n.ID)
			keepers[n.Region]++
		}
	}
	for _, g := range groups {
		seen, in := make(map[string]bool), make(map[string]int)
		for _, id := range g.Replicas() {
			learns := g.Shard == DirectoryShard && slices.Contains(g.Learners, id)
			if n := at[id]; seen[id] || !n.Storage || n.Lost || len(stays) >= leastKeepers && n.Leaving && !learns {
				t.Fatalf("%v: %+v, or twice", g, n)
			}
			seen[id] = true
		}
		for _, id := range g.Voters {
			in[at[id].Region]++
		}
		for r, n := range in {
			if n > len(g.Voters)/2 && len(in) > 2 {
				t.Fatalf("%v: region %s has a majority", g, r)
			}
		}
		present := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !n.Storage || n.Lost })
		if len(g.Voters) < min(leastKeepers, len(present)) {
			t.Fatalf("%v: one voter, of %v", g, present)
		}
		if g.Shard == DirectoryShard && len(g.Replicas()) != len(present) {
			t.Fatalf("the directory is on %v of %v", g.Replicas(), present)
		}
		if g.Shard != DirectoryShard && len(g.Learners) > 0 {
			t.Fatalf("%v has learners", g)
		}
		weighed := make(map[string]int)
		for _, n := range nodes {
			if n.stays() && (n.Weight > 0 || slices.Contains(g.Voters, n.ID)) {
				weighed[n.Region]++
			}
		}
		if voters, regions, most := shapeOf(weighed); len(stays) >= leastKeepers && keepersWeigh(nodes) {
			if len(g.Voters) != voters || len(in) < regions {
				t.Fatalf("%v: want %d voters in %d regions, %d in one at most, of %v", g, voters, regions, most, weighed)
			}
		}
	}
}

func keepersWeigh(nodes []Node) bool {
	weigh := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !n.stays() || n.Weight <= 0 })
	return len(weigh) >= leastKeepers
}

// byDay is a sixth of the runs of a night.
func byDay(n int) int { return effort.Of(n/20, n/6, n) }

// Whatever the cluster: the target keeps the rules, and is where it ends.
func TestAnyTarget(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range byDay(300) {
		nodes, groups, o := randomCluster(rng, 50)
		for range 4 {
			target, err := Target(nodes, groups, o)
			if err != nil {
				t.Fatal(err)
			}
			rules(t, nodes, target)
			again, err := Target(nodes, target, o)
			if err != nil || !reflect.DeepEqual(again, target) {
				t.Fatalf("%v\n%v\nthen\n%v (%v)\nof %v", groups, target, again, err, nodes)
			}
			groups, nodes = target, change(rng, nodes)
		}
	}
}

// A loop that asks for the target anew before each step, and goes a step of any group, arrives. It makes hardly more replicas than
// the first target asked for: what goes first can leave a node one too many.
func TestTargetOnTheWay(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	choices := []func(n int) int{rng.IntN, func(int) int { return 0 }, func(n int) int { return n - 1 }}
	made, planned := 0, 0
	for i := range 90 {
		nodes, groups, o := randomCluster(rng, 30)
		groups, err := Target(nodes, groups, o)
		if err != nil {
			t.Fatal(err)
		}
		nodes = change(rng, nodes)
		target, err := Target(nodes, groups, o)
		if err != nil {
			t.Fatal(err)
		}
		plan := copies(groups, target)
		added := converge(t, nodes, groups, o, choices[i%len(choices)])
		if added > plan+plan/4+2 {
			t.Errorf("%d replicas made, %d planned", added, plan)
		}
		made, planned = made+added, planned+plan
	}
	t.Logf("%d replicas made, %d planned", made, planned)
	if made > planned+planned/50 {
		t.Error("too many")
	}
}

// converge goes step by step until no group has one to go, choosing the group, and counts the replicas that it makes.
func converge(t *testing.T, nodes []Node, groups []Group, o Options, choose func(n int) int) (added int) {
	for n := 0; ; n++ {
		target, err := Target(nodes, groups, o)
		if err != nil {
			t.Fatal(err)
		}
		var steps []Step
		for i := range groups {
			if s, ok := Next(groups[i], target[i], nodes...); ok {
				steps = append(steps, s)
			}
		}
		if len(steps) == 0 {
			rules(t, nodes, target)
			return added
		}
		s := steps[choose(len(steps))]
		if n > 10*len(groups)+len(nodes) {
			t.Fatalf("still at %v after %d steps", s, n)
		}
		if s.Kind == AddLearner {
			added++
		}
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Shard == s.Shard })
		groups[i] = apply(t, groups[i], s)
	}
}

// copies counts the replicas of to that from has not: what is to be sent over the network.
func copies(from, to []Group) (n int) {
	for i := range to {
		n += len(minus(to[i].Replicas(), from[i].Replicas()))
	}
	return n
}
