package cluster_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/clustertest"
)

// A node that was away for longer than the log reaches back gets a snapshot, then the rest of the log, and serves.
func TestNodeFarBehind(t *testing.T) {
	unwatched(t) // fifteen thousand entries
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 100), a)
	c.StopNode(t, 2)
	const workers, each = 64, 220 // more entries than the log keeps behind a snapshot
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if err := c.Nodes[0].Client().Subscribe(ctx(t), a, fmt.Sprintf("folder %d", w), i%2 == 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, n := range c.Nodes[:2] {
		clustertest.Eventually(t, 30*time.Second, func() bool { return logFirst(t, n, a.Shard) > 1000 },
			func() string { return "the log was not cut" })
	}
	c.StartNode(t, 2)
	c.WaitReady(t)
	clustertest.Eventually(t, 30*time.Second, func() bool { return c.Logged("caught up by a snapshot") > 0 },
		func() string { return "the node that was away got no snapshot" })
	if first := logFirst(t, c.Nodes[2], a.Shard); first != 0 && first <= 1000 {
		t.Errorf("the node that was away keeps entries from %d on, which a snapshot replaced", first)
	}
	deliver(t, c.Nodes[1].Client(), message(2, 100), a)
	c.StopNode(t, 0)
	if got := bodies(t, c.Nodes[2].Client(), a, "INBOX"); len(got) != 2 {
		t.Errorf("%d messages at the node that was far behind", len(got))
	}
}

// logFirst is the first entry that a node's log of a shard still has.
func logFirst(t *testing.T, n *cluster.Node, shard uint32) uint64 {
	t.Helper()
	s, err := n.Status(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.(*cluster.Status).Shards {
		if g.Shard == shard {
			return g.First
		}
	}
	return 0
}
