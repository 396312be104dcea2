package recovery

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
)

// five is a cluster of five with the directory on a to e and shard 1 on a, b and c.
func five() *directory.Topology {
	t := &directory.Topology{Version: 7}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		t.Nodes = append(t.Nodes, directory.Node{ID: id, Roles: []string{"storage"}, Incarnation: id})
	}
	t.Groups = []placement.Group{{Shard: 0, Voters: []string{"a", "b", "c", "d", "e"}}, {Shard: 1, Voters: []string{"a", "b", "c"}}}
	return t
}

// of is a real replica's report.
func of(number uint32, voters string, term, last uint64, change ...func(r *shard.Report)) shard.Report {
	r := shard.Report{Shard: number, Voters: strings.Split(voters, ""), Term: term, LastTerm: term, Last: last, Filled: true}
	for _, f := range change {
		f(&r)
	}
	return r
}

func leads(r *shard.Report)  { r.Leads = true }
func empty(r *shard.Report)  { r.Filled = false }
func short(r *shard.Report)  { r.Short = true }
func broken(r *shard.Report) { r.Broken = "its disk failed" }

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name     string
		have     map[string]shard.Report // of shard 1, by node
		state    State
		survivor string
		others   []string
	}{
		{"all are there", map[string]shard.Report{"a": of(1, "abc", 2, 9, leads), "b": of(1, "abc", 2, 9), "c": of(1, "abc", 2, 9)}, Lives, "", nil},
		{"two of three elect one", map[string]shard.Report{"a": of(1, "abc", 2, 9), "b": of(1, "abc", 2, 8)}, Lives, "", nil},
		{"one is left", map[string]shard.Report{"b": of(1, "abc", 2, 9)}, Recover, "b", nil},
		{"a learner is left", map[string]shard.Report{"d": of(1, "abc", 2, 9)}, Recover, "d", nil},
		{"the later term is better", map[string]shard.Report{"a": of(1, "abcde", 2, 90), "d": of(1, "abcde", 3, 9)}, Recover, "d", []string{"a"}},
		{"the longer log is better", map[string]shard.Report{"a": of(1, "abcde", 2, 9), "d": of(1, "abcde", 2, 10)}, Recover, "d", []string{"a"}},
		{"the members are those of the better log", map[string]shard.Report{"a": of(1, "abc", 2, 9), "d": of(1, "acd", 2, 10)}, Lives, "", nil},
		{"an empty replica is none", map[string]shard.Report{"a": of(1, "abc", 2, 9), "b": of(1, "abc", 2, 12, empty)}, Recover, "a", nil},
		{"nor is one whose disk failed", map[string]shard.Report{"a": of(1, "abc", 2, 9), "b": of(1, "abc", 2, 12, broken)}, Recover, "a", nil},
		{"one that lacks what was there does not vote, and is the last choice", map[string]shard.Report{"a": of(1, "abc", 2, 9), "b": of(1, "abc", 2, 12, short)}, Recover, "a", []string{"b"}},
		{"but better than nothing", map[string]shard.Report{"b": of(1, "abc", 2, 12, short)}, Recover, "b", nil},
		{"nothing real is left", map[string]shard.Report{"b": of(1, "abc", 2, 12, empty)}, Gone, "", nil},
		{"nobody has it", nil, Gone, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := make(map[string]*Answer)
			for node, r := range c.have {
				answers[node] = &Answer{Replicas: []shard.Report{r}}
			}
			s := Judge(five(), answers).Shards[1]
			if s.State != c.state || s.Survivor != c.survivor || !slices.Equal(s.Learners, c.others) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// two answers for the first two of five, of which only shard 1 can elect a leader.
func two() map[string]*Answer {
	return map[string]*Answer{
		"a": {Replicas: []shard.Report{of(0, "abcde", 2, 9), of(1, "abc", 2, 9, leads)}, Reaches: []string{"b"}},
		"b": {Replicas: []shard.Report{of(0, "abcde", 2, 9), of(1, "abc", 2, 9)}, Reaches: []string{"a"}},
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *directory.Topology, answers map[string]*Answer)
		lost   string
		only   []uint32
		says   string // "": it may be
	}{
		{name: "all who do not answer are named", lost: "cde"},
		{name: "one is not", lost: "cd", says: "e does not answer and is not declared lost"},
		{name: "none is", says: "--lost c,d,e"},
		{name: "one who answers with an empty disk is to be stopped first", lost: "cde", says: "c runs with an empty disk: stop it",
			change: func(_ *directory.Topology, answers map[string]*Answer) { answers["c"] = &Answer{} }},
		{name: "and has to be named", lost: "de", says: "c has lost its disk and is not declared lost",
			change: func(_ *directory.Topology, answers map[string]*Answer) { answers["c"] = &Answer{} }},
		{name: "one who answers is not lost", lost: "bcde", says: "b answers, so it is not lost"},
		{name: "nor one whom another one reaches", lost: "cde", says: "c answers to b",
			change: func(_ *directory.Topology, answers map[string]*Answer) { answers["b"].Reaches = []string{"a", "c"} }},
		{name: "a stranger", lost: "cdex", says: "x is no member"},
		{name: "a shard that lives", lost: "cde", only: []uint32{1}, says: "shard 1 needs no recovery and gets none: led by a"},
		{name: "a shard that is not there", lost: "cde", only: []uint32{9}, says: "there is no shard 9"},
		{name: "nothing is to be recovered", lost: "e", says: "every shard has a majority",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				answers["c"], answers["d"] = &Answer{Replicas: []shard.Report{of(0, "abcde", 2, 9)}}, &Answer{}
			}},
		{name: "again, after it was done", lost: "cde",
			change: func(t *directory.Topology, answers map[string]*Answer) {
				for i := range t.Nodes[2:] {
					t.Nodes[2+i].Incarnation = "fenced"
				}
				answers["a"].Replicas[0] = of(0, "a", 70000, 12, leads)
			}},
		{name: "nothing is left of a shard", lost: "cde", says: "hongyan volume rebuild",
			change: func(t *directory.Topology, _ map[string]*Answer) {
				t.Groups = append(t.Groups, placement.Group{Shard: 2, Voters: []string{"c", "d", "e"}})
			}},
		{name: "which does not keep others from it", lost: "cde", only: []uint32{0},
			change: func(t *directory.Topology, _ map[string]*Answer) {
				t.Groups = append(t.Groups, placement.Group{Shard: 2, Voters: []string{"c", "d", "e"}})
			}},
		{name: "one that answers has a longer log, and does not work", lost: "cde", says: "the replica of b does not work, and may have more than that of a",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				answers["b"].Replicas[0] = of(0, "abcde", 2, 12, broken)
			}},
		{name: "one that does not work has nothing more", lost: "cde",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				answers["b"].Replicas[0] = of(0, "abcde", 2, 9, broken)
			}},
		{name: "where its log ends cannot be read", lost: "cde", says: "the replica of b does not work",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				answers["b"].Replicas[0] = of(0, "abcde", 2, 9, broken)
				answers["b"].Replicas[0].LastTerm = 0
			}},
		{name: "a voter does not run, and says nothing of its log", lost: "cde", says: "the replica of b does not work",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				answers["b"].Replicas, answers["b"].Idle = answers["b"].Replicas[1:], []uint32{0}
			}},
		{name: "it is switched off, and declared lost", lost: "bcde",
			change: func(_ *directory.Topology, answers map[string]*Answer) {
				delete(answers, "b")
				answers["a"].Reaches = nil
			}},
		{name: "those who were given up before have no say", lost: "de",
			change: func(t *directory.Topology, answers map[string]*Answer) {
				t.Nodes[2].Incarnation = "fenced"
				answers["c"] = &Answer{Replicas: []shard.Report{of(0, "abcde", 9, 99, leads)}}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, answers := five(), two()
			if c.change != nil {
				c.change(top, answers)
			}
			var lost []string
			if c.lost != "" {
				lost = strings.Split(c.lost, "")
			}
			err := Judge(top, answers).Check(top, answers, lost, c.only)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (!errors.Is(err, wire.ErrInvalid) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, expected %q", err, c.says)
			}
		})
	}
}

// TestMayDrive says who may drive a recovery: a node whose directory speaks, or goes on alone.
func TestMayDrive(t *testing.T) {
	answers := map[string]*Answer{"a": {Replicas: []shard.Report{of(0, "abcde", 2, 9)}}}
	p := Judge(five(), answers)
	for _, c := range []struct {
		self string
		own  bool
		says string
	}{{"a", false, ""}, {"b", true, ""}, {"b", false, "ask a"}} {
		if err := p.mayDrive(c.self, c.own); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestNote says when a shard's memory reaches back far enough to tell what was never entered.
func TestNote(t *testing.T) {
	for _, c := range []struct {
		name            string
		first, last     uint64
		firstTime, time int64
		since           int64
		certain         bool
	}{
		{"everything is remembered", 1, 5000, 100, 1000, 1000 - slack, true},
		{"the log reaches back", 900_000, 910_000, 700, 1000, 1000 - slack, true},
		{"the memory reaches back at this rate", 900_000, 910_000, 990, 1000, 1000 - slack, true},
		{"the memory does not", 900_000, 910_000, 999, 1000, 1000 - slack, false},
		{"no command is in the log", 900_000, 910_000, 0, 0, 0, false},
	} {
		s := &ShardPlan{Shard: 3, Last: c.last, Time: c.time}
		s.report.First, s.report.FirstTime = c.first, c.firstTime
		if n := noteOf(s, 2000); n.Since != c.since || n.Certain != c.certain || n.Until != 2000 || n.Shard != 3 {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
}

// TestPersist has what was refused done again while the shard wants it, and not for ever.
func TestPersist(t *testing.T) {
	refused, broken := wire.Errorf(wire.Invalid, "the replica ends elsewhere"), errors.New("no answer")
	wanted, lives := &ShardPlan{State: Recover}, &ShardPlan{State: Lives}
	for _, c := range []struct {
		name  string
		says  []error // what is done, one after the other; the last for ever
		found *ShardPlan
		fails error // of judging
		did   int
		want  error
	}{
		{"done", []error{nil}, nil, nil, 1, nil},
		{"refused twice", []error{refused, refused, nil}, wanted, nil, 3, nil},
		{"lives", []error{refused}, lives, nil, 1, nil},
		{"cannot be judged", []error{refused}, nil, broken, 1, broken},
		{"another failure", []error{broken}, wanted, nil, 1, broken},
		{"never ends", []error{refused}, wanted, nil, plansAgain + 1, refused},
	} {
		did := 0
		err := persist(func() error {
			did++
			return c.says[min(did, len(c.says))-1]
		}, func(error) (*ShardPlan, error) { return c.found, c.fails })
		if !errors.Is(err, c.want) || did != c.did {
			t.Errorf("%s: done %d times, %v", c.name, did, err)
		}
	}
}
