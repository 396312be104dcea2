package placement

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// nodeTable reads nodes such as "a1 a2/x b1:5 -b2 !c1": a1 in region a, a2 there in zone x, b1 in b with weight 5 (10 else), b2 leaving,
// c1 lost.
func nodeTable(t testing.TB, spec string) []Node {
	var out []Node
	for word := range strings.FieldsSeq(spec) {
		n := Node{Storage: true, Weight: 10}
		n.Leaving, n.Lost = word[0] == '-', word[0] == '!'
		word, weight, weighed := strings.Cut(strings.TrimLeft(word, "-!"), ":")
		if weighed {
			var err error
			if n.Weight, err = strconv.Atoi(weight); err != nil {
				t.Fatal(err)
			}
		}
		n.ID, n.Zone, _ = strings.Cut(word, "/")
		n.Region = n.ID[:1]
		out = append(out, n)
	}
	return out
}

// groupsOf reads groups such as "a: a1 b1 c1 | d1": home, voters, learners. Shards are numbered from the first.
func groupsOf(first uint32, specs ...string) []Group {
	var out []Group
	for i, spec := range specs {
		home, members, _ := strings.Cut(spec, ":")
		voters, learners, _ := strings.Cut(members, "|")
		out = append(out, Group{Shard: first + uint32(i), Home: home, Voters: strings.Fields(voters), Learners: strings.Fields(learners)})
	}
	return out
}

func TestTarget(t *testing.T) {
	near := map[string][]string{"a": {"c", "b"}}
	for _, c := range []struct {
		name  string
		nodes string
		near  map[string][]string
		first uint32 // shard
		now   []string
		want  []string
	}{
		{"stays", "a1 b1 c1", nil, 1, []string{"a: a1 b1 c1", "b: b1 a1 c1"}, []string{"a: a1 b1 c1", "b: b1 a1 c1"}},
		{"home comes first", "a1 b1 c1", nil, 1, []string{"a: c1 b1 a1"}, []string{"a: a1 b1 c1"}},
		{"nowhere yet", "a1 a2 b1 b2 c1", nil, 1, []string{"a:"}, []string{"a: a1 a2 b1 b2 c1"}},
		{"grows from three to five", "a1 a2 b1 b2 c1", nil, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 a2 b1 b2 c1"}},
		{"two in the next region, which is nearer", "a1 a2 b1 b2 c1 c2", near, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 a2 c1 c2 b1"}},
		{"fewer than five nodes", "a1 a2 b1 c1", nil, 1, []string{"a: a2 b1 c1"}, []string{"a: a2 b1 c1"}},
		{"one node at home", "a1 b1 b2 c1 c2", nil, 1, []string{"a:"}, []string{"a: a1 b1 b2 c1 c2"}},
		{"one node in the next region", "a1 a2 b1 c1 c2", nil, 1, []string{"a:"}, []string{"a: a1 a2 b1 c1 c2"}},
		{"five nodes, but no region may have three", "a1 a2 a3 b1 c1", nil, 1, []string{"a: a2 b1 c1"}, []string{"a: a2 b1 c1"}},
		{"four regions", "a1 b1 c1 c2 d1", nil, 1, []string{"a:"}, []string{"a: a1 b1 c1 c2 d1"}},
		{"two regions", "a1 a2 a3 b1 b2 b3", nil, 1, []string{"b: b3"}, []string{"b: b3 b1 a1"}},
		{"one region", "a1 a2 a3 a4 a5", nil, 1, []string{"a: a5 a4"}, []string{"a: a5 a4 a1"}},
		{"two nodes", "a1 b1", nil, 1, []string{"b: b1"}, []string{"b: b1 a1"}},
		{"one node", "a1", nil, 1, []string{"b: b1"}, []string{"b: a1"}},

		{"zones of the home region", "a1/x a2/x a3/y b1 b2 c1", nil, 1, []string{"a:"}, []string{"a: a1 a3 b1 b2 c1"}},
		{"zones are put right", "a1/x a2/x a3/y b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a3 b1 b2 c1"}},
		{"zones in one region", "a1/x a2/x a3/y a4/y a5/z", nil, 1, []string{"a: a1 a2 a3"}, []string{"a: a1 a3 a5"}},
		{"too many, of which zones are kept", "a1/x a2/x a3/y b1 b2 c1", nil, 1, []string{"a: a1 a2 a3 b1 b2 c1"}, []string{"a: a1 a3 b1 b2 c1"}},
		{"zones come before weights", "a1/x:30 a2/x:30 a3/y:1 b1 b2 c1", nil, 1, []string{"a: a1 a3 b1 b2 c1", "a: a2 a3 b1 b2 c1"}, []string{"a: a1 a3 b1 b2 c1", "a: a2 a3 b1 b2 c1"}},

		{"a node leaves", "a1 -a2 a3 b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a3 b1 b2 c1"}},
		{"the leader leaves", "-a1 a2 a3 b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a2 a3 b1 b2 c1"}},
		{"a node is not in the table any more", "a1 a3 b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a3 b1 b2 c1"}},
		{"one of three leaves", "a1 b1 -c1", nil, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 b1"}},
		{"all leave", "-a1 -b1 -c1", nil, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 b1 c1"}},
		{"all but one leave", "-a1 -a2 -b1 -b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1", "a: a2 b2 c1"}, []string{"a: a2 c1", "a: a2 c1"}},
		{"all but one leave, one after the other", "-a1 -a2 -b1 -b2 c1", nil, 1, []string{"a: b2 c1", "a: b2 c1"}, []string{"a: b2 c1", "a: b2 c1"}},
		{"all but one leave or are lost", "-a1 a2 !b1 !b2 !c1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a2"}},
		{"one is left", "a1 !b1", nil, 1, []string{"a: a1 b1"}, []string{"a: a1"}},
		{"all leave, one is lost", "-a1 -b1 !c1", nil, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 b1"}},
		{"the home region is lost", "!a1 !a2 b1 b2 c1 c2 d1 d2", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: b1 b2 c1 c2 d1"}},
		{"the home region is back", "a1 a2 b1 b2 c1 c2 d1 d2", nil, 1, []string{"a: b1 b2 c1 c2 d1"}, []string{"a: a1 a2 b1 b2 c1"}},
		{"one of three regions is lost", "a1 a2 b1 b2 !c1 !c2", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a2 b1"}},
		{"the far region is lost", "a1 a2 b1 b2 !c1 d1", nil, 1, []string{"a: a1 a2 b1 b2 c1"}, []string{"a: a1 a2 b1 b2 d1"}},

		{"a move under way goes on", "a1 -a2 a3 a4 b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1 | a4"}, []string{"a: a1 a4 b1 b2 c1"}},
		{"and ends", "a1 -a2 a3 a4 b1 b2 c1", nil, 1, []string{"a: a1 a2 a4 b1 b2 c1"}, []string{"a: a1 a4 b1 b2 c1"}},
		{"learners of mailbox shards go", "a1 b1 b2 c1", nil, 1, []string{"a: a1 b1 c1 | b2"}, []string{"a: a1 b1 c1"}},

		{"weight 0 is given nothing", "a1:0 a2 b1 c1", nil, 1, []string{"a:"}, []string{"a: a2 b1 c1"}},
		{"weight 0 keeps what it has", "a1:0 a2 b1 c1", nil, 1, []string{"a: a1 b1 c1"}, []string{"a: a1 b1 c1"}},
		{"weight 0 makes no room", "a1:0 a2 b1 b2 c1", nil, 1, []string{"a: a2 b1 c1"}, []string{"a: a2 b1 c1"}},
		{"weight 0 at home", "a1:0 a2:0 b1 b2 c1", nil, 1, []string{"a: a2 b1 c1"}, []string{"a: a2 b1 c1"}},
		{"weight 0 but for one", "a1 b1:0 c1:0", nil, 1, []string{"a:", "a: a1 b1 c1"}, []string{"a: a1 b1 c1", "a: a1 b1 c1"}},
		{"weight 0 everywhere", "a1:0 b1:0 c1:0", nil, 1, []string{"a:"}, []string{"a: a1 b1 c1"}},
		{"weights", "a1:10 a2:10 a3:20", nil, 1, []string{"a: a1", "a: a1", "a: a1", "a: a1"}, []string{"a: a1 a3 a2", "a: a3 a1 a2", "a: a2 a1 a3", "a: a3 a1 a2"}},
		{"a new node takes its share", "a1 a2 b1 c1", nil, 1, []string{"a: a1 b1 c1", "a: a1 b1 c1", "a: a1 b1 c1", "a: a1 b1 c1"},
			[]string{"a: a1 b1 c1", "a: a1 b1 c1", "a: a2 b1 c1", "a: a2 b1 c1"}},
		{"less than one off is even enough", "a1:10 a2:11 b1 c1", nil, 1, []string{"a: a1 b1 c1", "a: a1 b1 c1", "a: a2 b1 c1"},
			[]string{"a: a1 b1 c1", "a: a1 b1 c1", "a: a2 b1 c1"}},
		{"who leads is evened out", "a1 a2 b1 b2 c1", nil, 1, []string{"a: a1 a2 b1 b2 c1", "a: a1 a2 b1 b2 c1"}, []string{"a: a1 a2 b1 b2 c1", "a: a2 a1 b1 b2 c1"}},

		{"the directory learns everywhere", "a1 a2 a3 b1 b2 b3:0 c1 -c2", nil, 0, []string{"a: a1 b1 c1"}, []string{"a: a1 a2 b1 b2 c1 | a3 b3 c2"}},
		{"the directory votes where it learned", "-a1 a2 a3 b1 c1", nil, 0, []string{"a: a1 b1 c1 | a3"}, []string{"a: a3 b1 c1 | a1 a2"}},
		{"the directory does not follow weights", "a1:1 a2:90 b1 c1", nil, 0, []string{"a: a1 b1 c1 | a2"}, []string{"a: a1 b1 c1 | a2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes, now, want := nodeTable(t, c.nodes), groupsOf(c.first, c.now...), groupsOf(c.first, c.want...)
			o := Options{Near: c.near}
			for range 2 {
				got, err := Target(nodes, now, o)
				if err != nil {
					t.Fatal(err)
				}
				for i := range want {
					if !slices.Equal(got[i].Voters, want[i].Voters) || !slices.Equal(got[i].Learners, want[i].Learners) || got[i].Home != want[i].Home {
						t.Errorf("shard %d: from %v to %v, want %v", want[i].Shard, now[i], got[i], want[i])
					}
				}
				now = got
			}
		})
	}
}

func TestTargetRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		nodes  []Node
		groups []Group
		err    string
	}{
		{"no node", nil, nil, "storage role"},
		{"frontends only", []Node{{ID: "a1", Region: "a"}}, nil, "storage role"},
		{"all lost", nodeTable(t, "!a1 !b1"), nil, "bring one back"},
		{"a node twice", nodeTable(t, "a1 b1 a1"), nil, "node a1 is listed twice"},
		{"a shard twice", nodeTable(t, "a1"), append(groupsOf(3, "a:"), groupsOf(3, "a:")...), "shard 3 is listed twice"},
	} {
		if _, err := Target(c.nodes, c.groups, Options{}); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The order in which nodes and groups are listed makes no difference, and neither list is touched.
func TestTargetOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range byDay(100) {
		nodes, groups, o := randomCluster(rng, 20)
		want, err := Target(nodes, groups, o)
		if err != nil {
			t.Fatal(err)
		}
		rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		rng.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		listed, members := slices.Clone(nodes), slices.Clone(groups)
		if got, err := Target(nodes, groups, o); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("in another order %v (%v), not %v", got, err, want)
		}
		if !reflect.DeepEqual(nodes, listed) || !reflect.DeepEqual(groups, members) {
			t.Fatal("Target has changed what it was given")
		}
	}
}
