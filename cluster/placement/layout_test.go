package placement

import (
	"slices"
	"testing"
)

func nodes(ids ...string) []Node {
	var out []Node
	for _, id := range ids {
		out = append(out, Node{ID: id, Region: id[:len(id)-1], Storage: true})
	}
	return out
}

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		name     string
		nodes    []Node
		homes    []string
		voters   [][]string // per group, the directory first
		learners []string   // of the directory
	}{
		{"three regions", nodes("s1", "n1", "o1"), []string{"s", "n", "o"},
			[][]string{{"s1", "n1", "o1"}, {"s1", "n1", "o1"}, {"n1", "s1", "o1"}, {"o1", "s1", "n1"}}, nil},
		{"two nodes a region", nodes("s1", "s2", "n1", "n2", "o1"), []string{"s", "s"},
			[][]string{{"s1", "s2", "n1", "n2", "o1"}, {"s1", "s2", "n1", "n2", "o1"}, {"s2", "s1", "n1", "n2", "o1"}}, nil},
		{"two nodes in one region", nodes("s1", "s2", "n1", "o1"), []string{"s", "s", "n"},
			[][]string{{"s1", "n1", "o1"}, {"s1", "n1", "o1"}, {"s2", "n1", "o1"}, {"n1", "s1", "o1"}}, []string{"s2"}},
		{"three nodes in one region", nodes("s1", "s2", "s3", "n1", "o1"), []string{"n"},
			[][]string{{"s1", "n1", "o1"}, {"n1", "s1", "o1"}}, []string{"s2", "s3"}},
		{"a node in each of five regions", nodes("a1", "b1", "c1", "d1", "e1"), []string{"c"},
			[][]string{{"a1", "b1", "c1", "d1", "e1"}, {"c1", "a1", "b1", "d1", "e1"}}, nil},
		{"one region", nodes("s1", "s2", "s3", "s4"), []string{"s"},
			[][]string{{"s1", "s2", "s3"}, {"s1", "s2", "s3"}}, []string{"s4"}},
		{"two regions", nodes("s1", "s2", "n1"), []string{"n"},
			[][]string{{"s1", "s2", "n1"}, {"n1", "s1", "s2"}}, nil},
		{"two nodes", nodes("s1", "n1"), []string{"s", "n"}, [][]string{{"s1", "n1"}, {"s1", "n1"}, {"n1", "s1"}}, nil},
		{"a lone node", nodes("s1"), []string{"s"}, [][]string{{"s1"}, {"s1"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			groups, err := Layout(c.nodes, c.homes)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range groups {
				if !slices.Equal(g.Voters, c.voters[i]) {
					t.Errorf("shard %d: voters %v, want %v", g.Shard, g.Voters, c.voters[i])
				}
			}
			if !slices.Equal(groups[0].Learners, c.learners) {
				t.Errorf("learners %v, want %v", groups[0].Learners, c.learners)
			}
		})
	}
}

func TestFrontendsHoldNothing(t *testing.T) {
	all := append(nodes("s1", "n1", "o1"), Node{ID: "f1", Region: "s"})
	groups, err := Layout(all, []string{"s"})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.Holds("f1") {
			t.Errorf("shard %d is placed on a node without the storage role", g.Shard)
		}
	}
}

func TestLayoutRefuses(t *testing.T) {
	if _, err := Layout(nil, nil); err == nil {
		t.Error("no storage node: accepted")
	}
	if _, err := Layout(nodes("s1"), []string{"mars"}); err == nil {
		t.Error("a home region without nodes: accepted")
	}
}
