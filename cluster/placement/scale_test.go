package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"hongyan/engine/effort"
)

const (
	largeNodes   = 2000
	largeRegions = 12
	largeShards  = 1024
)

// largeCluster is nodes on a ring of regions, of three zones each, one node in five twice as large as the rest, and shards
// at home everywhere.
func largeCluster() (nodes []Node, homes []string, o Options) {
	rng := rand.New(rand.NewPCG(11, 12))
	o.Near = make(map[string][]string)
	for i := range largeRegions {
		home := region(i)
		for far := 1; far < largeRegions; far++ {
			side := (far + 1) / 2 // right and left in turn
			if far%2 == 0 {
				side = -side
			}
			o.Near[home] = append(o.Near[home], region((i+side+largeRegions)%largeRegions))
		}
	}
	for i := range largeNodes {
		n := Node{ID: fmt.Sprintf("n%04d", i), Region: region(i % largeRegions), Zone: fmt.Sprint("z", i/largeRegions%3), Storage: true, Weight: 10}
		if rng.IntN(5) == 0 {
			n.Weight = 20
		}
		nodes = append(nodes, n)
	}
	for i := range largeShards {
		homes = append(homes, region(i%largeRegions))
	}
	return nodes, homes, o
}

func region(i int) string { return fmt.Sprintf("r%02d", i) }

func largeGroups(homes []string) []Group {
	groups := []Group{{Shard: DirectoryShard, Home: region(0)}}
	for i, home := range homes {
		groups = append(groups, Group{Shard: uint32(i + 1), Home: home})
	}
	return groups
}

// where counts mailbox replicas on each node and in each region.
func where(nodes []Node, groups []Group) (on, in map[string]int) {
	at := make(map[string]string)
	for _, n := range nodes {
		at[n.ID] = n.Region
	}
	on, in = make(map[string]int), make(map[string]int)
	for _, g := range groups {
		if g.Shard != DirectoryShard {
			for _, v := range g.Voters {
				on[v]++
				in[at[v]]++
			}
		}
	}
	return on, in
}

// uneven is how many replicas the worst node is off its share.
func uneven(nodes []Node, groups []Group) (worst float64) {
	on, in := where(nodes, groups)
	weight := make(map[string]int)
	for _, n := range nodes {
		if n.stays() {
			weight[n.Region] += n.Weight
		}
	}
	for _, n := range nodes {
		if n.stays() {
			share := float64(in[n.Region]*n.Weight) / float64(weight[n.Region])
			worst = max(worst, math.Abs(float64(on[n.ID])-share))
		}
	}
	return worst
}

// must counts mailbox replicas on nodes that do not stay.
func must(nodes []Node, groups []Group) (count int) {
	on, _ := where(nodes, groups)
	for _, n := range nodes {
		if !n.stays() {
			count += on[n.ID]
		}
	}
	return count
}

// mailboxes leaves the directory away, whose learners are sent to every node that joins.
func mailboxes(groups []Group) []Group { return groups[1:] }

// A large cluster lives through joins, drains, changes of weight, losses and returns. After each event the replicas are
// even, no more have moved than the event asks for, and the target is its own target.
func TestLargeCluster(t *testing.T) {
	if effort.Of(0, 1, 1) == 0 {
		t.Skip("computing alone: without the race detector only, see the Makefile's MODELS")
	}
	nodes, homes, o := largeCluster()
	groups, err := Target(nodes, largeGroups(homes), o)
	if err != nil {
		t.Fatal(err)
	}
	founded := groups
	joined := func(count int, at func(i int) string) func() int {
		return func() int {
			for i := range count {
				nodes = append(nodes, Node{ID: fmt.Sprint("new", len(nodes)), Region: at(i), Zone: fmt.Sprint("z", i%3), Storage: true, Weight: 10})
			}
			return 3 * count // a share is 2.2 replicas
		}
	}
	each := func(which func(i int, n Node) bool, do func(n *Node)) func() int {
		return func() int {
			for i := range nodes {
				if which(i, nodes[i]) {
					do(&nodes[i])
				}
			}
			return 0
		}
	}
	inRegion := func(r int) func(int, Node) bool { return func(_ int, n Node) bool { return n.Region == region(r) } }
	lost := func(is bool) func(n *Node) { return func(n *Node) { n.Lost = is } }
	lostReplicas := 0
	for _, event := range []struct {
		name string
		do   func() int // how many replicas may move besides those whose node leaves
	}{
		{"nothing happens", func() int { return 0 }},
		{"a node joins", joined(1, func(int) string { return region(3) })},
		{"120 nodes join", joined(120, func(i int) string { return region(i % largeRegions) })},
		{"60 nodes join one region", joined(60, func(int) string { return region(7) })},
		{"a node drains", each(func(i int, _ Node) bool { return i == 77 }, func(n *Node) { n.Leaving = true })},
		{"80 nodes drain", each(func(i int, _ Node) bool { return i%25 == 0 }, func(n *Node) { n.Leaving = true })},
		{"40 nodes are lost", each(func(i int, _ Node) bool { return i%50 == 1 }, lost(true))},
		{"they are back", func() int { each(func(i int, _ Node) bool { return i%50 == 1 }, lost(false))(); return 3 * 40 }},
		{"a region is lost", func() int {
			each(inRegion(5), lost(true))()
			lostReplicas = must(nodes, groups)
			return 0
		}},
		{"it is back", func() int { each(inRegion(5), lost(false))(); return lostReplicas }},
		{"20 nodes weigh twice as much", func() int {
			each(func(i int, n Node) bool { return i%100 == 2 }, func(n *Node) { n.Weight *= 2 })()
			return 20 * 6
		}},
	} {
		allowed := event.do()
		allowed += must(nodes, groups)
		was := groups
		if groups, err = Target(nodes, was, o); err != nil {
			t.Fatal(err)
		}
		rules(t, nodes, groups)
		moved, off := copies(mailboxes(was), mailboxes(groups)), uneven(nodes, groups)
		t.Logf("%-30s %4d of %d replicas move, %4d allowed; the worst node is %.2f off its share", event.name, moved, 5*largeShards, allowed, off)
		if moved > allowed {
			t.Errorf("%s: too many move", event.name)
		}
		if off > 2 {
			t.Errorf("%s: uneven", event.name)
		}
		if again, err := Target(nodes, groups, o); err != nil || !reflect.DeepEqual(again, groups) {
			t.Fatalf("%s: the target has another target (%v)", event.name, err)
		}
	}
	_, before := where(nodes, founded)
	if _, after := where(nodes, groups); !reflect.DeepEqual(before, after) {
		t.Errorf("the regions had %v and have %v", before, after)
	}
}

func BenchmarkTarget(b *testing.B) {
	nodes, homes, o := largeCluster()
	founded, err := Target(nodes, largeGroups(homes), o)
	if err != nil {
		b.Fatal(err)
	}
	lost := slices.Clone(nodes)
	for i := range lost {
		lost[i].Lost = lost[i].Region == region(5)
	}
	for _, c := range []struct {
		name   string
		nodes  []Node
		groups []Group
	}{{"found", nodes, largeGroups(homes)}, {"nothing", nodes, founded}, {"region-lost", lost, founded}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Target(c.nodes, c.groups, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One zone of a region has a single node, which therefore has a replica of everything and can give none away: that takes no longer.
func BenchmarkTargetLoneZone(b *testing.B) {
	var nodes []Node
	for i := range largeNodes {
		nodes = append(nodes, Node{ID: fmt.Sprintf("n%04d", i), Region: region(0), Zone: fmt.Sprint("z", min(i, 1)), Storage: true, Weight: 10})
	}
	_, homes, o := largeCluster()
	for b.Loop() {
		if _, err := Target(nodes, largeGroups(homes), o); err != nil {
			b.Fatal(err)
		}
	}
}
