package shard

import (
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/placement"
)

// A crash between the two writes that begin a group leaves a term and no membership: the next start ends the work, or the
// group would wait for ever.
func TestStartAfterHalfABeginning(t *testing.T) {
	members := startGroup(t, 1)
	m := members[0]
	m.stop(t)
	must(t, os.RemoveAll(m.cfg.Dir))
	m.openLogs(t)
	must(t, m.cfg.Logs.group(testShard).SetUint64([]byte("CurrentTerm"), 1))
	must(t, m.cfg.Logs.Close())
	m.start(t)
	if n := leaderOf(t, members).propose(t, "x"); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// The log says who the members are, whatever a replica is told at its start.
func TestLogDecidesMembers(t *testing.T) {
	members := startGroup(t, 1)
	m := members[0]
	leaderOf(t, members)
	m.stop(t)
	m.cfg.Group = placement.Group{Shard: testShard, Home: "home", Voters: []string{"v1", "v2", "v3"}}
	m.start(t)
	leaderOf(t, members).propose(t, "x")
	if got := m.group.Members(); !slices.Equal(got.Voters, []string{"v1"}) || len(got.Learners) > 0 {
		t.Errorf("members %v", got)
	}
}

// A restart keeps what was applied, and applies what the index had lost.
func TestRestart(t *testing.T) {
	members := startGroup(t, 3)
	for range 5 {
		leaderOf(t, members).propose(t, "x")
	}
	for _, m := range members {
		m.stop(t)
	}
	for _, m := range members {
		must(t, m.db.Close())
		m.db = openIndex(t, vfs.NewMem()) // a crash took all that was not flushed
		m.cfg.Store = m.db.Shard(testShard)
		m.start(t)
	}
	if n := leaderOf(t, members).propose(t, "x"); n != 6 {
		t.Errorf("counted %d", n)
	}
}
