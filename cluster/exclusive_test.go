package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/lease"
	"hongyan/cluster/relocate"
)

// TestExclusive has sessions at several nodes want an account for themselves while it moves, and while the nodes of its leader and of who has it end.
func TestExclusive(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "anna")
	take := func(node int, limit time.Duration) (*client.Lease, error) {
		ctx, cancel := context.WithTimeout(ctx(t), limit)
		defer cancel()
		return c.Nodes[node].Client().Exclusive(ctx, a, 50*time.Millisecond)
	}
	must := func(node int, limit time.Duration) (l *client.Lease) {
		t.Helper()
		var err error
		clustertest.Eventually(t, limit, func() bool {
			l, err = take(node, limit)
			return err == nil
		}, func() string { return "it is free: " + err.Error() })
		return l
	}
	refused := func(node int) {
		t.Helper()
		if _, err := take(node, 20*time.Second); !errors.Is(err, client.ErrInUse) {
			t.Fatalf("node %d: %v", node, err)
		}
	}
	held := func(l *client.Lease) {
		t.Helper()
		if err := l.Hold(ctx(t)); err != nil {
			t.Fatal(err)
		}
	}
	l := must(1, 5*time.Second)
	refused(1)
	refused(2)

	if n, err := c.Nodes[1].MoveAccounts(ctx(t), relocate.Order{Addresses: []string{a.Address}, Home: "overseas"}); err != nil || n != 1 {
		t.Fatalf("%d accounts move: %v", n, err)
	}
	moved(t, c.Nodes[1])
	refused(0)
	held(l)
	l.Release()

	l = must(0, 5*time.Second)
	now, err := c.Nodes[0].Client().Resolve(ctx(t), a.Address)
	if err != nil || now.Shard == a.Shard {
		t.Fatalf("it did not move: %+v, %v", now, err)
	}
	leader := leads(t, c, now.Shard)
	if leader == 0 {
		t.Fatal("node 0 leads a shard that is at home overseas")
	}
	c.StopNode(t, leader)
	other := 3 - leader
	refused(other) // the new leader asks who has it
	held(l)
	l.Release()
	l = must(other, 2*lease.Term)
	c.StartNode(t, leader)
	c.WaitReady(t)
	held(l)
	refused(0)

	c.StopNode(t, other) // with it who has it: nobody says that it is over
	began := time.Now()
	must(0, 2*lease.Term).Release()
	t.Logf("free after %v", time.Since(began).Round(time.Millisecond))
	c.StartNode(t, other)
}
