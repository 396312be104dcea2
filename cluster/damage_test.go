package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// setAside starts a node whose logs cannot be trusted: it sets them aside and ends, and the next start has its replicas made anew.
func setAside(t *testing.T, c *clustertest.Cluster, i int, why string) {
	t.Helper()
	if err := c.TryStartNode(i); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "were set aside") {
		t.Fatalf("the node with logs of no use: %v", err)
	}
	c.StartNode(t, i)
	refilled(t, c.Nodes[0], c.Configs[i].ID, 5)
	c.WaitReady(t)
}

// TestDamagedLogs takes the terms and votes of a node away: it does not speak for what it cannot know any more, and keeps its volumes.
func TestDamagedLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	accounts := []client.Account{c.Account(t, "u1"), c.Account(t, "u2")}
	s := send(t, accounts, c.Nodes[0], c.Nodes[1])
	defer s.stop()
	data := c.Configs[2].Data
	c.StopNode(t, 2)
	before, err := filepath.Glob(filepath.Join(data, "volumes", "*.vol"))
	if err != nil || len(before) == 0 {
		t.Fatalf("volumes: %q, %v", before, err)
	}
	if err := os.Remove(filepath.Join(data, "raft", "raft.db")); err != nil {
		t.Fatal(err)
	}
	setAside(t, c, 2, "with the terms and votes of its replicas, is missing")
	s.check(t, accounts, c.Nodes...)
}

// TestOldCopy has a node come back with a copy of its own disk from before it acknowledged more: leaders tell it, it ends, and all is made anew.
func TestOldCopy(t *testing.T) { oldCopy(t, func(*clustertest.Cluster) {}) }

// TestOldCopyAndNewLeaders does the same when nobody leads any more who remembers it: the node asks those who led before.
func TestOldCopyAndNewLeaders(t *testing.T) {
	oldCopy(t, func(c *clustertest.Cluster) {
		c.StopNode(t, 1)
		c.StartNode(t, 1) // it has forgotten what it was told
		c.Nodes[0].FenceOff("north-2", "overseas-3")
	})
}

// oldCopy gives a node an old copy of its disk. before is called while it is off.
func oldCopy(t *testing.T, before func(*clustertest.Cluster)) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	accounts := []client.Account{c.Account(t, "u1"), c.Account(t, "u2")}
	settled(t, c.Nodes[0])
	data, old := c.Configs[2].Data, filepath.Join(t.TempDir(), "old")
	c.StopNode(t, 2)
	if err := os.CopyFS(old, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, 2)
	c.WaitReady(t)
	s := send(t, accounts, c.Nodes[0], c.Nodes[1])
	defer s.stop()
	clustertest.Eventually(t, 30*time.Second, func() bool { return len(bodies(t, c.Nodes[2].Client(), accounts[1], "INBOX")) >= 5 }, func() string { return "the node has some of the mail" })
	s.stop()
	s.work.Wait()
	c.StopNode(t, 2)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	before(c)
	c.StartNode(t, 2)
	select {
	case err := <-c.Nodes[2].Unfit():
		if !strings.Contains(err.Error(), "is an older copy of itself") {
			t.Errorf("it ends since %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a node with an old copy of its disk goes on")
	}
	c.Nodes[0].FenceOff()
	c.StopNode(t, 2)
	setAside(t, c, 2, "is an older copy of itself")
	s.check(t, accounts, c.Nodes...)
}
