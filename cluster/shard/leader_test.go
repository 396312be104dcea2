package shard

import (
	"testing"
)

// A leader whose store fails gives its office to a replica that can answer, and is not given it back for being at home.
func TestBrokenLeaderAbdicates(t *testing.T) {
	members := startGroup(t, 3, "v1")
	eventually(t, "leadership at home", func() bool { return members[0].group.IsLeader() })
	members[1].propose(t, "x")
	members[0].machine.fails.Store(true)
	if n := members[1].propose(t, "x"); n != 2 {
		t.Fatalf("counted %d", n)
	}
	if n := members[2].propose(t, "x"); n != 3 {
		t.Fatalf("counted %d", n)
	}
	next := leaderOf(t, members[1:])
	if next.group.caughtUp(t.Context(), "v1") {
		t.Error("a replica that applies nothing counts as caught up")
	}
	if why := members[0].router.Ready(); len(why) != 1 {
		t.Errorf("not ready for %v", why)
	}
}
