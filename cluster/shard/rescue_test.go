package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// report is what a member says of its replica.
func (m *member) report(t *testing.T) *Report {
	t.Helper()
	return m.group.Report(t.Context())
}

// rescue has a member's replica go on alone, as its node does.
func (m *member) rescue(t *testing.T, lost []string, learners ...string) {
	t.Helper()
	term := m.report(t).Term
	m.net.SetFenced(lost)
	must(t, m.host.Remove(testShard)) // until then it may append a last entry as a leader without majority
	at := m.group.last()
	must(t, m.group.Rescue(Rescue{Shard: testShard, LastTerm: at.term, Last: at.index, Term: term, Learners: learners, Commands: [][]byte{[]byte("first")}}, 7))
	must(t, m.cfg.Logs.Close())
	m.group = nil
	m.start(t)
	m.group.StandAlone(t.Context())
}

// TestRescue has one of three go on alone, with all that it has, and the next one join. What comes first comes first.
func TestRescue(t *testing.T) {
	members := startWith(t, 3, 1)
	lead := leaderOf(t, members[:3])
	for i := range 20 {
		lead.propose(t, fmt.Sprintf("name %d", i%5))
	}
	survivor := others(members[:3], lead)[0]
	eventually(t, "the survivor has all", func() bool { return survivor.group.Applied() == lead.group.Applied() })
	term := survivor.report(t).Term
	for _, m := range others(members[:3], survivor) {
		m.leave(t)
	}
	lost := []string{others(members[:3], survivor)[0].id, others(members[:3], survivor)[1].id}
	began := time.Now()
	survivor.rescue(t, lost)
	if n := survivor.propose(t, "name 1"); n != 5 {
		t.Errorf("counted %d", n)
	}
	t.Logf("goes on after %v", time.Since(began))
	if n := stored(t, survivor.cfg.Store, "first"); n != 1 {
		t.Errorf("the first command was applied %d times", n)
	}
	var r *Report
	eventually(t, "it says that it leads", func() bool { r = survivor.report(t); return r.Leads })
	if r.Term < term+ahead || !slices.Equal(r.Voters, []string{survivor.id}) || r.Time == 0 {
		t.Errorf("%+v, its term was %d", r, term)
	}
	members[3].join(t)
	take(t, survivor, 1, members[3].id)
	take(t, survivor, 2, members[3].id)
	eventually(t, "the new one has all", func() bool { return members[3].group.Applied() == survivor.group.Applied() })
}

// TestRescueIsRefused leaves a replica alone that moved on after it was chosen, and one that never was whole.
func TestRescueIsRefused(t *testing.T) {
	members := startWith(t, 1, 1)
	lead := leaderOf(t, members[:1])
	lead.propose(t, "x")
	r := lead.report(t)
	lead.propose(t, "y")
	must(t, lead.host.Remove(testShard))
	before := lead.group.last()
	stale := Rescue{Shard: testShard, LastTerm: r.LastTerm, Last: r.Last, Term: r.Term}
	if err := lead.group.Rescue(stale, 7); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("one that moved on: %v", err)
	}
	if lead.group.last() != before {
		t.Errorf("its log was changed: %+v", lead.group.last())
	}
	members[1].join(t)
	if r := members[1].report(t); r.Filled || r.Votes() {
		t.Errorf("an empty replica: %+v", r)
	}
	must(t, members[1].host.Remove(testShard))
	if err := members[1].group.Rescue(Rescue{Shard: testShard}, 7); !errors.Is(err, wire.ErrInvalid) {
		t.Errorf("an empty replica: %v", err)
	}
}

// TestReportOfWhatCannotBeRead passes over a command of a newer program, says that a log is broken, and knows where one ends that does not run.
func TestReportOfWhatCannotBeRead(t *testing.T) {
	members := startWith(t, 1, 0)
	lead := leaderOf(t, members)
	lead.propose(t, "x")
	r := lead.report(t)
	if r.Time == 0 || r.FirstTime == 0 || r.Broken != "" {
		t.Fatalf("%+v", r)
	}
	must(t, lead.host.Remove(testShard))
	at := lead.group.last()
	must(t, lead.group.log.StoreLogs([]*raft.Log{{Type: raft.LogCommand, Index: at.index + 1, Term: at.term + 1, Data: []byte("of a newer program")}}))
	if got, err := lead.group.timeOf(at.index+1, r.First, -1); err != nil || got != r.Time {
		t.Errorf("the last command is of %d, %v; expected %d", got, err, r.Time)
	}
	if term, last := lead.cfg.Logs.End(testShard); term != at.term+1 || last != at.index+1 {
		t.Errorf("the log ends at %d/%d", term, last)
	}
	if term, last := lead.cfg.Logs.End(testShard + 1); term != 0 || last != 0 {
		t.Errorf("a log that is not there ends at %d/%d", term, last)
	}
	lead.group.log.recent = recent{}
	must(t, lead.cfg.Logs.Close())
	if r := lead.report(t); !strings.Contains(r.Broken, "read the log") || r.Last != at.index {
		t.Errorf("of a log that cannot be read: %+v", r)
	}
	lead.group = nil
}

// TestRescueTakesTheBetterLog has two of five left, of which one lags: the better one goes on, and the other learns, whatever its log had.
func TestRescueTakesTheBetterLog(t *testing.T) {
	members := startWith(t, 5, 0)
	lead := leaderOf(t, members)
	lead.propose(t, "x")
	rest := others(members, lead)
	behind, better, lost := rest[0], rest[1], rest[2:]
	eventually(t, "all have the first", func() bool { return behind.group.Applied() == lead.group.Applied() })
	ended := behind.group.last().index
	behind.leave(t)
	lead.propose(t, "only the better one has it")
	eventually(t, "all the others have all", func() bool { // whoever leads now
		at := better.group.Applied()
		return at > ended && !slices.ContainsFunc(others(members, behind), func(m *member) bool { return m.group.Applied() != at })
	})
	ids := []string{lead.id}
	lead.leave(t)
	for _, m := range lost {
		ids = append(ids, m.id)
		m.leave(t)
	}
	// The better one may stand, and have the votes of some who left since: with that of the one behind it would lead, and give it what it lacks.
	behind.net.SetFenced(append(slices.Clone(ids), better.id))
	behind.start(t)
	a, b := better.report(t), behind.report(t)
	if a.LastTerm < b.LastTerm || a.LastTerm == b.LastTerm && a.Last <= b.Last {
		t.Fatalf("the better one ends at %d/%d, the other at %d/%d", a.LastTerm, a.Last, b.LastTerm, b.Last)
	}
	behind.net.SetFenced(ids)
	better.rescue(t, ids, behind.id)
	if n := better.propose(t, "only the better one has it"); n != 2 {
		t.Errorf("counted %d", n)
	}
	eventually(t, "the other one follows", func() bool { return behind.group.Applied() == better.group.Applied() })
	take(t, better, 2, behind.id)
}

// TestRescueCrash ends the process between the steps: what is left is the old group or the new one.
func TestRescueCrash(t *testing.T) {
	for _, after := range []string{"the term", "the append"} {
		t.Run(after, func(t *testing.T) {
			members := startWith(t, 3, 0)
			lead := leaderOf(t, members)
			lead.propose(t, "x")
			survivor := others(members, lead)[0]
			eventually(t, "the survivor has all", func() bool { return survivor.group.Applied() == lead.group.Applied() })
			lost := others(members, survivor)
			for _, m := range lost {
				m.leave(t)
			}
			must(t, survivor.host.Remove(testShard))
			r, at := Report{Term: survivor.group.raft.CurrentTerm()}, survivor.group.last()
			r.LastTerm, r.Last = at.term, at.index
			if after == "the term" {
				must(t, survivor.group.log.SetUint64([]byte("CurrentTerm"), r.Term+ahead))
			} else {
				must(t, survivor.group.Rescue(Rescue{Shard: testShard, LastTerm: r.LastTerm, Last: r.Last, Term: r.Term}, 7))
			}
			must(t, survivor.cfg.Logs.Close())
			survivor.group = nil
			survivor.start(t)
			if after == "the append" {
				survivor.group.StandAlone(t.Context()) // rather than wait for raft's timeout
				if n := leaderOf(t, []*member{survivor}).propose(t, "x"); n != 2 {
					t.Errorf("counted %d", n)
				}
				return
			}
			if got := survivor.report(t); len(got.Voters) != 3 || got.Last != r.Last {
				t.Errorf("the old group's replica is %+v, was %+v", got, r)
			}
			for _, m := range lost { // they were not lost after all
				m.start(t)
			}
			survivor.group.standKnowing(t.Context(), nil, "a test does not wait for raft's timeout")
			if n := leaderOf(t, members).propose(t, "x"); n != 2 {
				t.Errorf("counted %d", n)
			}
		})
	}
}

// TestLostComeBack has the two that were given up come back together, with a majority of the past: they lead nobody who was left, take no part in an
// election, and their entries are refused.
func TestLostComeBack(t *testing.T) {
	members := startWith(t, 3, 1)
	lead := leaderOf(t, members[:3])
	lead.propose(t, "x")
	survivor := others(members[:3], lead)[0]
	eventually(t, "the survivor has all", func() bool { return survivor.group.Applied() == lead.group.Applied() })
	back := others(members[:3], survivor)
	var lost []string
	for _, m := range back {
		lost = append(lost, m.id)
		m.leave(t)
	}
	survivor.rescue(t, lost)
	members[3].net.SetFenced(lost)
	members[3].join(t)
	take(t, survivor, 1, members[3].id)
	take(t, survivor, 2, members[3].id)
	survivor.propose(t, "new")
	for _, m := range back {
		m.start(t)
	}
	must(t, back[0].group.log.SetUint64([]byte("CurrentTerm"), 1<<40)) // their term grows beyond every other
	back[0].leave(t)
	back[0].start(t)
	back[0].group.standKnowing(t.Context(), nil, "a test does not wait for raft's timeout")
	past := leaderOf(t, back)
	if term := past.report(t).Term; term < 1<<40 {
		t.Fatalf("the past is led in term %d", term)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c := commandEntry("of the past", 1)
	if _, _, err := past.group.Propose(ctx, c, ForPeople); err != nil {
		t.Fatal(err) // nobody has told them here
	}
	if n := survivor.propose(t, "new"); n != 2 {
		t.Errorf("counted %d", n)
	}
	for _, m := range []*member{survivor, members[3]} {
		if n := stored(t, m.cfg.Store, "of the past"); n != 0 {
			t.Errorf("%s took an entry of the past", m.id)
		}
		if state := m.group.raft.State(); state != raft.Leader && state != raft.Follower {
			t.Errorf("%s is %v", m.id, state)
		}
	}
}
