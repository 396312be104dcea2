package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// apply makes a step as Raft would, and refuses what Raft would.
func apply(t testing.TB, g Group, s Step) Group {
	t.Helper()
	votes, learns := slices.Contains(g.Voters, s.Node), slices.Contains(g.Learners, s.Node)
	g.Voters, g.Learners = minus(g.Voters, []string{s.Node}), minus(g.Learners, []string{s.Node})
	switch {
	case s.Kind == AddLearner && !votes && !learns:
		g.Learners = append(g.Learners, s.Node)
	case s.Kind == Promote && learns:
		g.Voters = append(g.Voters, s.Node)
	case s.Kind == Demote && votes:
		g.Learners = append(g.Learners, s.Node)
	case s.Kind == Remove && (votes || learns):
	default:
		t.Fatalf("%v of %v", s, g)
	}
	return g
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name      string
		nodes     string // for regions and losses; "" for none
		now, want string
		steps     string
	}{
		{"there", "", "a: a1 b1 c1", "a: c1 b1 a1", ""},
		{"a replacement", "", "a: a1 b1 c1", "a: a2 b1 c1", "add learner a2, promote a2, remove a1"},
		{"one lost of three", "a1 b1 !c1 d1", "a: a1 b1 c1", "a: a1 b1 d1", "add learner d1, promote d1, remove c1"},
		{"two lost of five", "a1 a2 b1 !c1 !c2 d1 d2", "a: a1 a2 b1 c1 c2", "a: a1 a2 b1 d1 d2",
			"add learner d1, promote d1, remove c1, add learner d2, promote d2, remove c2"},
		{"from three to five", "", "a: a1 b1 c1", "a: a1 a2 b1 b2 c1", "add learner a2, add learner b2, promote a2, promote b2"},
		{"from five to three, the lost first", "a1 a2 b1 b2 !c1", "a: a1 a2 b1 b2 c1", "a: a1 a2 b1", "remove c1, remove b2"},
		{"from five to three, two lost and one leaves", "a1 -a2 b1 b2 !c1 !c2", "a: a1 a2 b1 c1 c2", "a: a1 b1 b2",
			"remove c1, remove c2, add learner b2, promote b2, remove a2"},
		{"where a region has room first", "a1 a2 a3 b1 b2 c1 d1", "a: a1 a2 b1 b2 c1", "a: a1 a3 b1 b2 d1",
			"add learner d1, promote d1, remove a2, add learner a3, promote a3, remove c1"},
		{"a learner is there", "", "a: a1 b1 c1 | a2", "a: a2 b1 c1", "promote a2, remove a1"},
		{"a voter is to learn", "", "a: a1 b1 c1 | a2", "a: a2 b1 c1 | a1", "promote a2, demote a1"},
		{"learners", "", "a: a1 b1 c1 | a2", "a: a1 b1 c1 | a3", "add learner a3, remove a2"},
		{"interrupted after the promotion", "", "a: a1 b1 c1 a2", "a: a2 b1 c1", "remove a1"},
		{"to one", "", "a: a1 b1 c1", "a: d1", "remove a1, remove b1, add learner d1, promote d1, remove c1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes, now, want := nodeTable(t, c.nodes), groupsOf(1, c.now)[0], groupsOf(1, c.want)[0]
			var steps []string
			for {
				s, ok := Next(now, want, nodes...)
				if !ok {
					break
				}
				steps = append(steps, fmt.Sprint(s.Kind, " ", s.Node))
				now = apply(t, now, s)
			}
			if got := strings.Join(steps, ", "); got != c.steps {
				t.Errorf("%s, want %s", got, c.steps)
			}
		})
	}
	if s := (Step{Shard: 7, Kind: Promote, Node: "a1"}); s.String() != "shard 7: promote a1" {
		t.Error(s)
	}
	if k := StepKind(9); k.String() != "step 9" {
		t.Error(k)
	}
}

// state is what the walk is judged by.
type state struct {
	voters, alive int
	crowd         int // voters in the region that has most
}

func judge(g Group, at map[string]Node) state {
	s, count := state{voters: len(g.Voters)}, make(map[string]int)
	for _, v := range g.Voters {
		if !at[v].Lost {
			s.alive++
		}
		count[at[v].Region]++
		s.crowd = max(s.crowd, count[at[v].Region])
	}
	return s
}

func (s state) majority() bool { return s.alive > s.voters/2 }

// spread says whether a majority is left without any one region.
func (s state) spread() bool { return s.voters-s.crowd > s.voters/2 }

// walkAll goes from now to want and checks each membership on the way. It counts the states in which a region has half of the voters.
func walkAll(t *testing.T, nodes []Node, now, want Group) (exposed int) {
	at := make(map[string]Node)
	for _, n := range nodes {
		at[n.ID] = n
	}
	start, end := judge(now, at), judge(want, at)
	least := min(start.voters, end.voters)
	bound := 2*len(minus(want.Voters, now.Replicas())) + len(want.Voters) + len(now.Replicas()) + len(want.Learners)
	from := now
	everywhere := start.spread() && end.spread() && start.alive == start.voters && start.voters%2 == 1 && end.voters%2 == 1
	for n := 0; ; n++ {
		step, ok := Next(now, want, nodes...)
		is := judge(now, at)
		switch resting := !ok || step.Kind == AddLearner; {
		case is.voters < least || is.voters > max(start.voters, end.voters+1):
			t.Fatalf("%d voters between %v and %v: %v", is.voters, from, want, now)
		case start.majority() && !is.majority():
			t.Fatalf("from %v to %v, no majority answers of %v", from, want, now)
		case everywhere && resting && !is.spread():
			t.Fatalf("from %v to %v, waiting where a region has too many: %v", from, want, now)
		case everywhere && is.crowd > (is.voters+1)/2:
			t.Fatalf("from %v to %v, a region has a majority of %v", from, want, now)
		case everywhere && !is.spread():
			exposed++
		}
		if !ok {
			break
		}
		if n >= bound {
			t.Fatalf("from %v to %v, %d steps and still %v", from, want, n, step)
		}
		now = apply(t, now, step)
	}
	if !sameMembers(now.Voters, want.Voters) || !sameMembers(now.Learners, want.Learners) {
		t.Fatalf("from %v, ended at %v, not %v", from, now, want)
	}
	return exposed
}

func sameMembers(a, b []string) bool { return len(a) == len(b) && len(minus(a, b)) == 0 }

// Any group can go anywhere: from where it is to where Target wants it, and to any members that answer.
func TestAnyWalk(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	walks, exposed := 0, 0
	for range byDay(200) {
		nodes, groups, o := randomCluster(rng, 30)
		if rng.IntN(2) == 0 {
			target, err := Target(nodes, groups, o)
			if err != nil {
				t.Fatal(err)
			}
			groups, nodes = target, change(rng, nodes)
		}
		target, err := Target(nodes, groups, o)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := scatter(rng, nodes, groups)
		for i := range groups {
			slices.SortFunc(groups, func(a, b Group) int { return int(a.Shard) - int(b.Shard) })
			if len(groups[i].Voters) == 0 {
				continue // nothing to change the membership of
			}
			exposed += walkAll(t, nodes, groups[i], target[i]) + walkAll(t, nodes, groups[i], elsewhere[i])
			walks += 2
		}
	}
	t.Logf("%d walks, with %d memberships in which one region had half of the voters", walks, exposed)
}

// scatter gives each group members of no plan, that answer.
func scatter(rng *rand.Rand, nodes []Node, groups []Group) []Group {
	var alive []string
	for _, n := range nodes {
		if !n.Lost {
			alive = append(alive, n.ID)
		}
	}
	out := slices.Clone(groups)
	for i := range out {
		rng.Shuffle(len(alive), func(a, b int) { alive[a], alive[b] = alive[b], alive[a] })
		v := 1 + rng.IntN(min(5, len(alive)))
		out[i].Voters = slices.Clone(alive[:v])
		out[i].Learners = slices.Clone(alive[v : v+rng.IntN(len(alive)-v+1)])
	}
	return out
}
