package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/mover"
)

var everything = []config.Role{config.Storage, config.Frontend}

// sender delivers to accounts through some doors in turn until it is stopped; every refusal is an error.
type sender struct {
	sent  map[string][]string // by address
	worst time.Duration       // that one took
	stop  func()
	work  sync.WaitGroup
}

func send(t *testing.T, accounts []client.Account, doors ...*cluster.Node) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sender{sent: make(map[string][]string), stop: cancel}
	s.work.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			to, door := accounts[i%len(accounts)], doors[i%len(doors)].Client()
			raw := string(message(i, 200))
			began := time.Now()
			if err := offer(door, raw, to); err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
			s.worst = max(s.worst, time.Since(began))
			s.sent[to.Address] = append(s.sent[to.Address], raw)
		}
	})
	return s
}

// offer delivers once, with the patience of an SMTP client.
func offer(door *client.Client, raw string, to client.Account) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d := door.NewDraft()
	defer d.Close()
	if _, err := d.Write([]byte(raw)); err != nil {
		return err
	}
	return door.Deliver(ctx, d, client.Delivery{From: "a@remote.test", Recipients: []client.Account{to}})[0]
}

// check reads everything back through some doors.
func (s *sender) check(t *testing.T, accounts []client.Account, doors ...*cluster.Node) {
	t.Helper()
	s.stop()
	s.work.Wait()
	total := 0
	for _, a := range accounts {
		want := s.sent[a.Address]
		total += len(want)
		for _, door := range doors {
			if got := bodies(t, door.Client(), a, "INBOX"); !slices.Equal(got, want) {
				t.Errorf("%s: %d messages, %d were acknowledged", a.Address, len(got), len(want))
			}
		}
	}
	t.Logf("%d messages", total)
}

func nodeOf(t *testing.T, by *cluster.Node, id string) mover.NodeStatus {
	t.Helper()
	list, err := by.Nodes(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.ID == id {
			return n
		}
	}
	return mover.NodeStatus{}
}

// settled waits until nothing is left to move.
func settled(t *testing.T, by *cluster.Node) {
	t.Helper()
	var last string
	clustertest.Eventually(t, 90*time.Second, func() bool {
		p, err := by.Placement(ctx(t))
		if err != nil {
			last = err.Error()
			return false
		}
		last = fmt.Sprint(p.Steps, p.Failures)
		return len(p.Steps) == 0
	}, func() string { return "every replica is where it should be: " + last })
}

// TestGrowAndDrain has a cluster of three become one of five, and one of the first three leave, while mail comes in: nothing is refused, lost or
// doubled, and the node that left may be switched off.
func TestGrowAndDrain(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	var accounts []client.Account
	for i := range 4 {
		accounts = append(accounts, c.Account(t, fmt.Sprintf("u%d", i+1)))
	}
	s := send(t, accounts, c.Nodes[1], c.Nodes[2])
	defer s.stop()
	c.Join(t, "south-b", clustertest.Spec{Region: "south", Roles: everything})
	c.Join(t, "north-b", clustertest.Spec{Region: "north", Roles: everything})
	c.WaitReady(t)
	settled(t, c.Nodes[1])
	for _, id := range []string{"south-b", "north-b"} {
		if n := nodeOf(t, c.Nodes[1], id); n.Replicas == 0 || !n.Up {
			t.Errorf("new node: %+v", n)
		}
	}
	yes := true
	if err := c.Nodes[2].ChangeNode(ctx(t), "south-1", mover.NodeChange{Draining: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[2].RemoveNode(ctx(t), "south-1"); err == nil {
		t.Error("a node that keeps something was removed")
	}
	settled(t, c.Nodes[2])
	clustertest.Eventually(t, 90*time.Second, func() bool { return nodeOf(t, c.Nodes[2], "south-1").Empty }, func() string {
		var left []cluster.VolumeStatus
		if st, err := c.Nodes[2].Status(ctx(t)); err == nil {
			for _, v := range st.(*cluster.Status).Volumes {
				if slices.Contains(v.Copies, "south-1") {
					left = append(left, v)
				}
			}
		}
		return fmt.Sprintf("the drained node is empty: %+v, volumes %+v", nodeOf(t, c.Nodes[2], "south-1"), left)
	})
	if err := c.Nodes[2].RemoveNode(ctx(t), "south-1"); err != nil {
		t.Fatal(err)
	}
	c.StopNode(t, 0)
	c.WaitReady(t)
	s.check(t, accounts, c.Nodes[1], c.Nodes[3], c.Nodes[4])
	// All start again without the first node, which two of them were told of alone.
	for i := 1; i < 5; i++ {
		c.StopNode(t, i)
	}
	for i := 1; i < 5; i++ {
		c.StartNode(t, i)
	}
	c.WaitReady(t)
	s.check(t, accounts, c.Nodes[3])
}

// refilled waits until a node has its replicas again.
func refilled(t *testing.T, by *cluster.Node, id string, replicas int) {
	t.Helper()
	clustertest.Eventually(t, 60*time.Second, func() bool {
		n := nodeOf(t, by, id)
		return n.State == "active" && n.Replicas == replicas
	}, func() string { return fmt.Sprintf("the node has its replicas again: %+v", nodeOf(t, by, id)) })
	settled(t, by)
}

func replaced(t *testing.T, by *cluster.Node, id string) bool {
	_, err := by.ReplaceNode(ctx(t), id)
	return err == nil
}

// TestLostDisk has a node come back with an empty disk, then with one that says it is another's: the first has everything made anew, the second takes no part until
// an operator says that it should.
func TestLostDisk(t *testing.T) {
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
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, 2)
	accepted := func() bool {
		return c.Logged("this node's disk was empty: what it had is made anew from the others") > 0
	}
	clustertest.Eventually(t, 20*time.Second, accepted, func() string { return "the empty disk is entered" })
	refilled(t, c.Nodes[0], "overseas-3", 5)
	c.WaitReady(t)
	c.StopNode(t, 2)
	if err := os.WriteFile(filepath.Join(data, "raft", "incarnation"), []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, 2)
	foreign := func() bool {
		return slices.ContainsFunc(c.Nodes[2].Ready(), func(why string) bool { return strings.Contains(why, "node replace") })
	}
	clustertest.Eventually(t, 20*time.Second, foreign, func() string {
		return "the node says that it is not the one that is known: " + strings.Join(c.Nodes[2].Ready(), "; ")
	})
	if changed, err := c.Nodes[0].ReplaceNode(ctx(t), "north-2"); err != nil || changed {
		t.Errorf("a node with its own data: %v, %v", changed, err)
	}
	clustertest.Eventually(t, 20*time.Second, func() bool { return replaced(t, c.Nodes[0], "overseas-3") },
		func() string { return "the other data is accepted" })
	refilled(t, c.Nodes[0], "overseas-3", 5)
	c.WaitReady(t)
	s.check(t, accounts, c.Nodes...)
}

// TestDiskOfAnother starts a node with the disk of one that is off: it says so, and whatever it is told nothing is erased there. Each with its own disk again
// they go on with all that they had.
func TestDiskOfAnother(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	plain := clustertest.Spec{Roles: everything, Tune: func(n *config.Node) { n.Encryption = nil }} // master keys would keep the disk shut
	var specs []clustertest.Spec
	for _, region := range []string{"south", "north", "overseas", "overseas"} {
		plain.Region = region
		specs = append(specs, plain)
	}
	c := clustertest.StartNodes(t, specs...)
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 300), a)
	settled(t, c.Nodes[0])
	c.StopNode(t, 2)
	c.StopNode(t, 3)
	own := c.Configs[3].Data
	c.Configs[3].Data = c.Configs[2].Data
	c.StartNode(t, 3)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		return slices.ContainsFunc(c.Nodes[3].Ready(), func(why string) bool { return strings.Contains(why, "known with other data") })
	}, func() string { return "it says that the data is another's: " + strings.Join(c.Nodes[3].Ready(), "; ") })
	id := c.Configs[3].ID
	var before []uint32
	var err error
	clustertest.Eventually(t, 20*time.Second, func() bool {
		before, err = c.Nodes[0].ReplicasAt(ctx(t), id)
		return err == nil
	}, func() string { return fmt.Sprint("it says which replicas are on the disk: ", err) })
	asked := 0
	for _, g := range c.Nodes[0].Topology().Groups {
		if g.Holds(id) || !slices.Contains(before, g.Shard) {
			continue
		}
		asked++
		if err := c.Nodes[0].EraseAt(ctx(t), id, g); err == nil || !strings.Contains(err.Error(), "known with other data") {
			t.Errorf("the other node's replica of shard %d: %v", g.Shard, err)
		}
	}
	after, err := c.Nodes[0].ReplicasAt(ctx(t), id)
	if err != nil || !slices.Equal(after, before) || asked == 0 {
		t.Errorf("asked to erase %d of %v, %v are left: %v", asked, before, after, err)
	}
	c.StopNode(t, 3)
	c.Configs[3].Data = own
	c.StartNode(t, 2)
	c.StartNode(t, 3)
	c.WaitReady(t)
	settled(t, c.Nodes[0])
	for _, n := range c.Nodes {
		if got := bodies(t, n.Client(), a, "INBOX"); len(got) != 1 {
			t.Errorf("%d messages", len(got))
		}
	}
}
