package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// shape makes nodes in some regions, storage nodes and others, in an order of its own.
func shape(rng *rand.Rand) (list []Node, homes []string) {
	regions := 1 + rng.IntN(6)
	for r := range regions {
		for n := range rng.IntN(5) {
			list = append(list, Node{ID: fmt.Sprintf("r%d-%d", r, n), Region: fmt.Sprint("r", r), Storage: rng.IntN(4) > 0})
		}
	}
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var with []string
	for _, n := range list {
		if n.Storage && !slices.Contains(with, n.Region) {
			with = append(with, n.Region)
		}
	}
	for i := range rng.IntN(20) {
		if len(with) > 0 {
			homes = append(homes, with[i%len(with)])
		}
	}
	return list, homes
}

// shapeOf is what the spread rule says of regions with so many nodes: how many voters, in how many regions at least, and how many in
// one at most.
func shapeOf(nodes map[string]int) (voters, regions, most int) {
	pairs, all := 0, 0
	for _, n := range nodes {
		pairs += min(n, 2)
		all += n
	}
	switch {
	case pairs >= 5:
		return 5, 3, 2
	case len(nodes) >= 3:
		return 3, 3, 1
	case len(nodes) == 2:
		return min(3, all), 2, 2
	}
	return min(3, all), 1, 3
}

// Whatever the shape: five voters where two a region make that many, else three or as many as there are, on different storage nodes, in
// as many regions as possible, the first one at home; the directory is everywhere; the same table gives the same
// groups; and Target has nothing to add.
func TestAnyShape(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range byDay(2000) {
		list, homes := shape(rng)
		region, storage := make(map[string]string), 0
		for _, n := range list {
			if n.Storage {
				region[n.ID] = n.Region
				storage++
			}
		}
		groups, err := Layout(list, homes)
		if storage == 0 {
			if err == nil {
				t.Fatal("placed on nothing")
			}
			continue
		}
		if err != nil || len(groups) != len(homes)+1 {
			t.Fatalf("%v: %v", list, err)
		}
		in := make(map[string]int)
		for _, r := range region {
			in[r]++
		}
		voters, regions, most := shapeOf(in)
		for _, g := range groups {
			used, seen := make(map[string]int), make(map[string]bool)
			for _, v := range g.Voters {
				if region[v] == "" || seen[v] {
					t.Fatalf("%v: voter %s twice, or it keeps nothing", g, v)
				}
				seen[v] = true
				if used[region[v]]++; used[region[v]] > most {
					t.Fatalf("%v of %v: more than %d in a region", g, list, most)
				}
			}
			if len(g.Voters) != voters || len(used) < regions || region[g.Voters[0]] != g.Home {
				t.Fatalf("%v of %v", g, list)
			}
		}
		if len(groups[0].Replicas()) != storage {
			t.Fatalf("the directory is on %v of %v", groups[0].Replicas(), list)
		}
		again, err := Layout(slices.Clone(list), slices.Clone(homes))
		if err != nil || !reflect.DeepEqual(groups, again) {
			t.Fatalf("%v, then %v", groups, again)
		}
		slices.SortFunc(list, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
		if groups, err = Layout(list, homes); err != nil {
			t.Fatal(err)
		}
		if target, err := Target(list, groups, Options{}); err != nil || !reflect.DeepEqual(target, groups) {
			t.Fatalf("of %v, founded as\n%v\nTarget wants %v (%v)", list, groups, target, err)
		}
	}
}

// The nodes of a region share its shards evenly, as leaders and as followers, however many regions take turns.
func TestShardsSpreadOverARegion(t *testing.T) {
	for _, c := range []struct{ regions, each int }{{1, 3}, {2, 2}, {3, 3}, {3, 2}, {2, 4}, {4, 2}} {
		var list []Node
		var homes []string
		for r := range c.regions {
			for n := range c.each {
				list = append(list, Node{ID: fmt.Sprintf("r%d-%d", r, n), Region: fmt.Sprint("r", r), Storage: true})
			}
		}
		shards := 4 * c.regions * c.each
		for i := range shards {
			homes = append(homes, fmt.Sprint("r", i%c.regions))
		}
		groups, err := Layout(list, homes)
		if err != nil {
			t.Fatal(err)
		}
		leads := make(map[string]int)
		for _, g := range groups[1:] {
			leads[g.Voters[0]]++
		}
		for _, n := range list {
			if leads[n.ID] != 4 {
				t.Errorf("%d regions of %d: %v", c.regions, c.each, leads)
				break
			}
		}
	}
}
