package shard

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/atrest"
)

// TestFoundOverOld founds a group on two of three disks that were rebuilt. The third comes back with its log and state of before, which ends in a later term than
// a new group's would: it must not lead, and is overwritten.
func TestFoundOverOld(t *testing.T) {
	members := startGroup(t, 3)
	for range 3 {
		lead := leaderOf(t, members)
		lead.propose(t, "before")
		lead.stop(t)
		leaderOf(t, others(members, lead)).propose(t, "before")
		lead.start(t)
	}
	old, rebuilt := members[2], members[:2]
	leaderOf(t, members).propose(t, "before")
	eventually(t, "all have applied all", func() bool {
		return members[0].group.Applied() == old.group.Applied() && members[1].group.Applied() == old.group.Applied()
	})
	for _, m := range members {
		m.stop(t)
	}
	last, err := old.cfg.Store.Applied()
	must(t, err)
	at := time.Now()
	for _, m := range rebuilt {
		rebuildMember(t, m, last+1<<32, at)
	}
	// Of the two that a majority takes, the old one.
	old.start(t)
	rebuilt[0].start(t)
	lead := leaderOf(t, []*member{old, rebuilt[0]})
	if lead == old {
		t.Fatal("the replica that was left out leads")
	}
	if term := lead.group.raft.CurrentTerm(); term <= foundingTerm(last+1<<32, at) {
		t.Errorf("it leads in term %d, which is not behind that of its state", term)
	}
	if n := lead.propose(t, "after"); n != 1 {
		t.Errorf("applied %d times", n)
	}
	eventually(t, "the old replica has the new state", func() bool { return old.group.Applied() == lead.group.Applied() })
	if n := stored(t, old.cfg.Store, "rebuilt"); n != 1 {
		t.Errorf("the old replica has what was rebuilt %d times", n)
	}
	rebuilt[1].start(t)
	rebuilt[0].stop(t) // of all that hold what was acknowledged since, the old one may lead now
	if n := leaderOf(t, []*member{old, rebuilt[1]}).propose(t, "after"); n != 2 {
		t.Errorf("what was acknowledged was applied %d times before", n-1)
	}
}

// rebuildMember gives a stopped member a rebuilt state, its own with an addition, in place of its log.
func rebuildMember(t *testing.T, m *member, applied uint64, at time.Time) {
	t.Helper()
	var state bytes.Buffer
	_, err := m.cfg.Store.Save(&state)
	must(t, err)
	must(t, m.db.Close())
	m.db = openIndex(t, vfs.NewMem())
	m.cfg.Store = m.db.Shard(testShard)
	must(t, m.cfg.Store.Load(&state))
	txn := m.cfg.Store.Begin()
	txn.SetIndex(applied)
	_, err = m.machine.Apply(txn, 0, []byte("rebuilt"))
	must(t, err)
	must(t, txn.Commit(applied))
	must(t, m.cfg.Store.FlushTo(applied))
	m.cfg.Founds = false
	m.cfg.Dir = filepath.Join(t.TempDir(), "raft", "0001")
	logs, err := OpenLogs(filepath.Dir(m.cfg.Dir), atrest.NewKey([32]byte{7}), m.cfg.Log)
	must(t, err)
	must(t, Found(logs, m.cfg.Dir, m.cfg.Group, applied, at))
	must(t, logs.Close())
}

// A group that is founded again is above the one before, also where the clock says nothing.
func TestFoundingTerm(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	if a, b := foundingTerm(1<<33, at), foundingTerm(1<<32, at.Add(time.Second)); b < a+1<<20 || b > 1<<53 {
		t.Errorf("terms %d and %d", a, b)
	}
	for _, clock := range []time.Time{{}, time.Unix(0, 0)} {
		if got := foundingTerm(3<<32, clock); got != 3<<32 {
			t.Errorf("at %v: term %d", clock, got)
		}
	}
}
