package mover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
)

// regions is a cluster as it settles: nodes of three regions, and groups at home in each of them.
func regions(t *testing.T, perRegion ...int) *directory.Topology {
	t.Helper()
	names := []string{"south", "north", "overseas"}
	var nodes []placement.Node
	out := &directory.Topology{Version: 1}
	for i, n := range perRegion {
		for k := range n {
			id := fmt.Sprintf("%s-%d", names[i], k+1)
			nodes = append(nodes, placement.Node{ID: id, Region: names[i], Storage: true, Weight: directory.DefaultWeight})
			out.Nodes = append(out.Nodes, directory.Node{ID: id, Region: names[i], Roles: []string{"storage"}, Weight: directory.DefaultWeight})
		}
	}
	var err error
	if out.Groups, err = placement.Layout(nodes, append(slices.Clone(names), names...)); err != nil {
		t.Fatal(err)
	}
	walk(t, out, func(placement.Step) {})
	return out
}

// walk takes all steps of a topology's plan, as long as there are some.
func walk(t *testing.T, on *directory.Topology, took func(placement.Step)) {
	t.Helper()
	for range 1000 {
		steps, err := Plan(on, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(steps) == 0 {
			return
		}
		for _, s := range steps {
			i := slices.IndexFunc(on.Groups, func(g placement.Group) bool { return g.Shard == s.Shard })
			on.Groups[i] = s.Apply(on.Groups[i])
			took(s)
		}
	}
	t.Fatal("the plan does not end")
}

// TestDiskLost has a node that is there with an empty disk taken out of its groups, and then take its own place again: nothing else moves, unless that takes too long.
func TestDiskLost(t *testing.T) {
	for _, size := range [][]int{{1, 1, 1}, {2, 1, 2}, {3, 2, 2}, {4, 4, 4}} {
		top := regions(t, size...)
		for i := range top.Nodes {
			node := &top.Nodes[i]
			before := make(map[uint32]string)
			held := 0
			for _, g := range top.Groups {
				before[g.Shard] = fmt.Sprint(len(g.Voters), slices.Sorted(slices.Values(g.Replicas())))
				if g.Holds(node.ID) {
					held++
				}
			}
			node.Emptied = "other"
			steps := 0
			walk(t, top, func(s placement.Step) {
				if steps++; s.Kind != placement.Remove || s.Node != node.ID {
					t.Errorf("%v, emptied %s: %v", size, node.ID, s)
				}
			})
			if steps != held {
				t.Errorf("%v, emptied %s: %d steps, it was in %d groups", size, node.ID, steps, held)
			}
			node.Emptied = ""
			walk(t, top, func(s placement.Step) {
				another := s.Shard == placement.DirectoryShard && s.Kind == placement.Promote // of those that learn, it has all
				if s.Node != node.ID && !another || s.Kind == placement.Remove {
					t.Errorf("%v, refilled %s: %v", size, node.ID, s)
				}
			})
			for _, g := range top.Groups {
				if after := fmt.Sprint(len(g.Voters), slices.Sorted(slices.Values(g.Replicas()))); after != before[g.Shard] {
					t.Errorf("%v, refilled %s: shard %d is on %s, was on %s", size, node.ID, g.Shard, after, before[g.Shard])
				}
			}
		}
	}
}

// TestDiskStaysLost has what a node with an empty disk had made again elsewhere if it does not get on, is down, or if another of a group's nodes goes as well.
func TestDiskStaysLost(t *testing.T) {
	top := regions(t, 3, 2, 2)
	lost := &top.Nodes[0]
	lost.Emptied = "other"
	m := New(Config{})
	now := time.Now()
	for _, c := range []struct {
		what    string
		before  func()
		after   time.Duration
		awaited int
	}{
		{"at first", func() {}, 0, 1},
		{"later", func() {}, emptyWait - 1, 1},
		{"too late", func() {}, emptyWait, 0},
		{"it got on", func() { // by a group
			i := slices.IndexFunc(top.Groups, func(g placement.Group) bool { return g.Holds(lost.ID) })
			top.Groups[i] = placement.Step{Kind: placement.Remove, Node: lost.ID}.Apply(top.Groups[i])
		}, emptyWait, 1},
		{"down", func() { m.down[lost.ID] = now.Add(emptyWait) }, emptyWait + emptyDown - 1, 1},
		{"down for long", func() {}, emptyWait + emptyDown, 0},
		{"refilled", func() { lost.Emptied = "" }, 0, 0},
	} {
		c.before()
		if ids := m.awaited(top, now.Add(c.after)); len(ids) != c.awaited {
			t.Errorf("%s: %v", c.what, ids)
		}
	}
	if len(m.empty) > 0 {
		t.Errorf("refilled, and remembered: %v", m.empty)
	}

	top = regions(t, 3, 2, 2)
	top.Nodes[0].Emptied, top.Nodes[1].Draining = "other", true
	walk(t, top, func(placement.Step) {})
	for _, g := range top.Groups {
		if g.Holds(top.Nodes[0].ID) || slices.Contains(g.Voters, top.Nodes[1].ID) || len(g.Voters) < 4 {
			t.Errorf("shard %d: %v", g.Shard, g)
		}
	}
}

// TestAddedAnswers has a new shard begin on nodes that answer only, as many as there are of two at least, one in its home region.
func TestAddedAnswers(t *testing.T) {
	top := regions(t, 2, 2, 1)
	for _, c := range []struct {
		home   string
		down   []string
		voters int    // 0: it is refused
		why    string // a part of that
	}{
		{"south", nil, 5, ""},
		{"south", []string{"south-1"}, 3, ""},
		{"south", []string{"overseas-1"}, 3, ""},
		{"south", []string{"north-1", "north-2", "overseas-1"}, 2, ""},
		{"overseas", []string{"overseas-1"}, 0, "no node that keeps mail answers in region overseas"},
		{"south", []string{"south-1", "north-1", "north-2", "overseas-1"}, 0, "needs 2 nodes"},
		{"moon", nil, 0, "is in region"},
	} {
		g, err := Added(top, c.home, func(node string) bool { return !slices.Contains(c.down, node) })
		if c.voters == 0 {
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("at home in %s without %v: %+v, %v", c.home, c.down, g, err)
			}
			continue
		}
		silent := slices.ContainsFunc(g.Voters, func(node string) bool { return slices.Contains(c.down, node) })
		if err != nil || silent || len(g.Voters) != c.voters || g.Home != c.home || int(g.Shard) != len(top.Groups) {
			t.Errorf("at home in %s without %v: %+v, %v", c.home, c.down, g, err)
		}
	}
}
