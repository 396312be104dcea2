package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/mover"
	"hongyan/cluster/replica"
)

// openOn lists the open volumes of which a node has a copy.
func openOn(t *testing.T, by *cluster.Node, id string) []replica.Entry {
	t.Helper()
	all, err := by.Entries(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e replica.Entry) bool { return e.State != replica.Open || !e.Holds(id) })
}

// TestReserveTakesMail has one of the two nodes that take mail stop while the third weighs nothing, and again while that is being drained: mail goes on with that one
// at once, and when the other is back not any more. What came to a drained node leaves it again.
func TestReserveTakesMail(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	accounts := []client.Account{c.Account(t, "u1"), c.Account(t, "u2")}
	const reserve = "overseas-3"
	change := func(to mover.NodeChange) {
		t.Helper()
		if err := c.Nodes[0].ChangeNode(ctx(t), reserve, to); err != nil {
			t.Fatal(err)
		}
	}
	unused := func() {
		t.Helper()
		clustertest.Eventually(t, 60*time.Second, func() bool { return len(openOn(t, c.Nodes[0], reserve)) == 0 },
			func() string { return fmt.Sprintf("it takes no mail: %+v", openOn(t, c.Nodes[0], reserve)) })
	}
	s := send(t, accounts, c.Nodes[0], c.Nodes[2])
	defer s.stop()
	failover := func() {
		t.Helper()
		unused()
		c.StopNode(t, 1)
		clustertest.Eventually(t, 20*time.Second, func() bool { return len(openOn(t, c.Nodes[0], reserve)) > 0 },
			func() string { return "mail goes to the node that is to take none" })
		c.StartNode(t, 1)
		c.WaitReady(t)
		unused()
	}
	none, some, yes := uint32(0), uint32(10), true
	change(mover.NodeChange{Weight: &none})
	failover()

	change(mover.NodeChange{Weight: &some})
	clustertest.Eventually(t, 20*time.Second, func() bool { return len(openOn(t, c.Nodes[0], reserve)) > 0 },
		func() string { return "it takes mail again" })
	// Paused, for with two voters left no node may fail.
	if err := c.Nodes[0].PausePlacement(ctx(t), true); err != nil {
		t.Fatal(err)
	}
	change(mover.NodeChange{Draining: &yes})
	failover()
	if err := c.Nodes[0].PausePlacement(ctx(t), false); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 90*time.Second, func() bool { return nodeOf(t, c.Nodes[0], reserve).Empty },
		func() string { return fmt.Sprintf("the drained node is empty: %+v", nodeOf(t, c.Nodes[0], reserve)) })
	s.check(t, accounts, c.Nodes...)
	if s.worst > 3*time.Second {
		t.Errorf("a delivery took %v", s.worst)
	}
	t.Logf("longest delivery %v", s.worst)
}
