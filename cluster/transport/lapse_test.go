package transport

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestLapsed tells a follower that has lost what it acknowledged from one that lags, one of another term, and one that is made anew.
func TestLapsed(t *testing.T) {
	ack := func(t *teller, term, last uint64) {
		t.accepted("b", &raft.AppendEntriesRequest{Term: term, Entries: []*raft.Log{{Index: last, Term: term}}}, &raft.AppendEntriesResponse{Term: term, Success: true})
	}
	for _, c := range []struct {
		name       string
		between    func(t *teller) // that the request was sent and answered
		term, last uint64          // of the answer
		lapsed     bool
	}{
		{"it has all", nil, 3, 10, false},
		{"and more", nil, 3, 12, false},
		{"it lacks the last entry", nil, 3, 9, true},
		{"it has acknowledged more since", func(t *teller) { ack(t, 3, 20) }, 3, 10, false},
		{"its answer is of a later term, in which it may have been cut", nil, 4, 9, false},
		{"its replica was made anew", func(t *teller) { t.forget("b") }, 3, 0, false},
		{"and has acknowledged", func(t *teller) { t.forget("b"); ack(t, 3, 2) }, 3, 0, false},
	} {
		tell := &teller{followers: make(map[raft.ServerAddress]*follower)}
		if m := tell.acknowledged("b", 3); tell.lapsed("b", m, 3, 0) {
			t.Errorf("%s: nothing was acknowledged", c.name)
		}
		ack(tell, 3, 10)
		known := tell.acknowledged("b", 3)
		if m := tell.acknowledged("b", 4); tell.lapsed("b", m, 4, 0) {
			t.Errorf("%s: nothing was acknowledged in a later term", c.name)
		}
		if c.between != nil {
			c.between(tell)
		}
		if got := tell.lapsed("b", known, c.term, c.last); got != c.lapsed {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestKept remembers of what a follower acknowledged the part that was committed by then, for as long as the leader's process lives.
func TestKept(t *testing.T) {
	tell := &teller{followers: make(map[raft.ServerAddress]*follower)}
	ack := func(term, last, committed uint64, success bool) {
		tell.accepted("b", &raft.AppendEntriesRequest{Term: term, LeaderCommitIndex: committed, Entries: []*raft.Log{{Index: last, Term: term}}},
			&raft.AppendEntriesResponse{Term: term, Success: success})
	}
	for _, step := range []struct {
		what string
		do   func()
		kept uint64
	}{
		{"nothing was acknowledged", func() {}, 0},
		{"acknowledged, not committed", func() { ack(3, 10, 0, true) }, 0},
		{"the commit came with a later entry", func() { ack(3, 12, 10, true) }, 10},
		{"refused", func() { ack(3, 13, 13, false) }, 10},
		{"told of the commit", func() {
			tell.took("b", &raft.AppendEntriesRequest{Term: 3, LeaderCommitIndex: 12}, &raft.AppendEntriesResponse{Term: 3, Success: true})
		}, 12},
		{"told in vain", func() {
			tell.took("b", &raft.AppendEntriesRequest{Term: 3, LeaderCommitIndex: 15}, &raft.AppendEntriesResponse{Term: 4, Success: true})
		}, 12},
		{"in office again, the follower was cut", func() { ack(7, 11, 11, true) }, 12},
		{"and goes on", func() { ack(7, 20, 18, true) }, 18},
		{"its replica is made anew", func() { tell.forget("b") }, 0},
	} {
		step.do()
		if got, _ := tell.kept("b"); got != step.kept {
			t.Errorf("%s: %d, expected %d", step.what, got, step.kept)
		}
	}
}
