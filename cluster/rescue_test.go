package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/placement"
	"hongyan/cluster/recovery"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// recovered begins a recovery and waits for its end.
func recovered(t *testing.T, n *cluster.Node, lost ...string) *recovery.Job {
	t.Helper()
	last := ""
	clustertest.Eventually(t, 30*time.Second, func() bool {
		_, err := n.Recover(ctx(t), recovery.Request{Lost: lost})
		last = fmt.Sprint(err)
		return err == nil
	}, func() string { return "the recovery begins: " + last })
	var job *recovery.Job
	clustertest.Eventually(t, 120*time.Second, func() bool { job = n.Recovery(); return job.Done }, func() string { return "the recovery ends, is at: " + job.Step })
	if job.Error != "" {
		t.Fatal(job.Error)
	}
	return job
}

// refusedFor asks for a recovery that must not be, and looks for a word in what is said.
func refusedFor(t *testing.T, n *cluster.Node, word string, req recovery.Request) {
	t.Helper()
	if _, err := n.Recover(ctx(t), req); err == nil || !strings.Contains(err.Error(), word) {
		t.Errorf("a recovery with %+v: %v, expected %q", req, err, word)
	}
}

// destroy stops nodes and takes their disks.
func destroy(t *testing.T, c *clustertest.Cluster, nodes ...int) {
	t.Helper()
	for _, i := range nodes {
		c.StopNode(t, i)
	}
	for _, i := range nodes {
		if err := os.RemoveAll(c.Configs[i].Data); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoOfThreeLost takes the disks of two of three nodes, while the third one's shards lag behind: it goes on alone with all that it had, gets back what
// its volumes have, and new nodes make three of it again.
func TestTwoOfThreeLost(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	var accounts []client.Account
	for i := range 4 {
		accounts = append(accounts, c.Account(t, fmt.Sprintf("u%d", i+1)))
	}
	left := c.Nodes[0]
	refusedFor(t, left, "every shard has a majority", recovery.Request{Lost: []string{"north-2"}})
	refusedFor(t, left, "needs no recovery", recovery.Request{Shards: []uint32{1}})
	refusedFor(t, left, "every shard has a majority", recovery.Request{})
	s := send(t, accounts, c.Nodes...)
	last := accounts[len(accounts)-1]
	clustertest.Eventually(t, 30*time.Second, func() bool { return len(bodies(t, left.Client(), last, "INBOX")) >= 5 }, func() string { return "there is load" })
	s.stop()
	s.work.Wait()
	for _, a := range accounts {
		bodies(t, left.Client(), a, "INBOX") // it has them: a read waits for what was acknowledged
	}
	left.FenceOff("north-2", "overseas-3")
	late := make(map[string][]string)
	for i := range 24 {
		to, raw := accounts[i%len(accounts)], string(message(1000+i, 300))
		if err := offer(c.Nodes[1+i%2].Client(), raw, to); err != nil {
			t.Fatal(err)
		}
		late[to.Address] = append(late[to.Address], raw)
	}
	destroy(t, c, 1, 2)
	refusedFor(t, left, "overseas-3", recovery.Request{Lost: []string{"north-2"}})
	plan, err := left.RecoveryPlan(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range plan.Shards {
		if sh.State != recovery.Recover || sh.Survivor != "south-1" || sh.Last == 0 {
			t.Errorf("%+v", sh)
		}
	}
	if !slices.Equal(plan.Lost, []string{"north-2", "overseas-3"}) {
		t.Errorf("to be declared lost: %v", plan.Lost)
	}
	job := recovered(t, left, "north-2", "overseas-3")
	entered := 0
	for _, sh := range job.Shards {
		entered += sh.Entered
		if len(sh.Open) > 0 || sh.Notes != "" {
			t.Errorf("left to the operator: %+v", sh)
		}
	}
	t.Logf("%d of 24 late messages were found in volumes; %d volumes entered, of %d no copy is left", entered, job.Entered, len(job.Bytes))
	if entered == 0 || entered > 24 {
		t.Errorf("%d late messages were put back", entered)
	}
	again := recovered(t, left, "north-2", "overseas-3")
	for _, sh := range again.Shards {
		if sh.Entered > 0 {
			t.Errorf("the second time: %+v", sh)
		}
	}
	c.Join(t, "north-b", clustertest.Spec{Region: "north", Roles: everything})
	c.Join(t, "overseas-b", clustertest.Spec{Region: "overseas", Roles: everything})
	settled(t, left)
	c.WaitReady(t)
	for i, a := range accounts {
		raw := string(message(2000+i, 300))
		if err := offer(c.Nodes[3].Client(), raw, a); err != nil {
			t.Fatal(err)
		}
		readable(t, c.Nodes[4], a, job.Bytes, s.sent[a.Address], late[a.Address], raw)
	}
	for _, g := range left.Topology().Groups {
		if len(g.Voters) != 3 || g.Holds("north-2") || g.Holds("overseas-3") {
			t.Errorf("replicas: %+v", g)
		}
	}
}

// unled stops two of three nodes, and waits until the third one knows of no leader: the second to stop may have handed shards over, whose new leader's log still grows.
func unled(t *testing.T, c *clustertest.Cluster) (left *cluster.Node) {
	t.Helper()
	c.StopNode(t, 1)
	c.StopNode(t, 2)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		st, err := c.Nodes[0].Status(ctx(t))
		return err == nil && !slices.ContainsFunc(st.(*cluster.Status).Shards, func(g shard.Status) bool { return g.Leader != "" })
	}, func() string { return "no shard is led any more" })
	return c.Nodes[0]
}

// TestBackBeforeGivenUp has one of two that were declared lost come back when the recovery has begun and has done nothing yet. A majority acknowledges again: nobody is
// given up, and what it acknowledges stays.
func TestBackBeforeGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 300), a)
	left := unled(t, c)
	release := left.HoldReplicas() // step 2 waits
	if _, err := left.Recover(ctx(t), recovery.Request{Lost: []string{"north-2", "overseas-3"}}); err != nil {
		release()
		t.Fatal(err)
	}
	err := c.TryStartNode(1)
	led := func() bool {
		return !slices.ContainsFunc(left.Topology().Groups, func(g placement.Group) bool { return !left.Leads(g.Shard) && !c.Nodes[1].Leads(g.Shard) })
	}
	for deadline := time.Now().Add(20 * time.Second); err == nil && !led() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	release()
	if err != nil {
		t.Fatal(err)
	}
	var job *recovery.Job
	clustertest.Eventually(t, 60*time.Second, func() bool { job = left.Recovery(); return job.Done }, func() string { return "the recovery ends, is at: " + job.Step })
	if !strings.Contains(job.Error, "north-2 answers, so it is not lost") {
		t.Errorf("it ended with %q", job.Error)
	}
	for _, n := range []*cluster.Node{left, c.Nodes[1]} {
		if fenced := n.Topology().Fenced(); len(fenced) > 0 || left.Refuses("north-2") {
			t.Fatalf("given up: %v", fenced)
		}
	}
	deliver(t, c.Nodes[1].Client(), message(2, 300), a)
	c.StartNode(t, 2)
	c.WaitReady(t)
	for _, n := range c.Nodes {
		if got := bodies(t, n.Client(), a, "INBOX"); len(got) != 2 {
			t.Errorf("%d messages", len(got))
		}
	}
}

// TestRefusedRescueFencesNobody asks for a take-over that is refused: those who were declared lost for it are heard again, for they may come back.
func TestRefusedRescueFencesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	left := unled(t, c)
	err := left.Rescue(ctx(t), &recovery.RescueRequest{Lost: []string{"north-2", "overseas-3"}, Rescue: shard.Rescue{Shard: placement.DirectoryShard, Last: 1}})
	if err == nil || !strings.Contains(err.Error(), "look at the cluster again") {
		t.Errorf("a rescue from where the log does not end: %v", err)
	}
	if left.Refuses("north-2") || left.Refuses("overseas-3") {
		t.Error("the two are refused")
	}
}

// TestNoteStays recovers while a node is down that need not be given up: what is to be looked for stays noted until its volumes were looked through, too.
func TestNoteStays(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	left := c.Nodes[0]
	if err := left.PausePlacement(ctx(t), true); err != nil { // so that the fourth gets no replica
		t.Fatal(err)
	}
	i := c.Join(t, "south-b", clustertest.Spec{Region: "south", Roles: everything})
	c.WaitReady(t)
	c.StopNode(t, i)
	unled(t, c)
	for range 2 { // the note is there the second time
		job := recovered(t, left, "north-2", "overseas-3")
		if !strings.Contains(job.Notes, "south-b does not answer") {
			t.Errorf("of volumes it says %q", job.Notes)
		}
		looked := 0
		for _, sh := range job.Shards {
			if sh.Shard != placement.DirectoryShard {
				looked++
				if !strings.Contains(sh.Notes, "south-b does not answer: its volumes were not looked through") {
					t.Errorf("of shard %d it says %q", sh.Shard, sh.Notes)
				}
			}
		}
		if looked == 0 {
			t.Error("nothing is looked for")
		}
	}
	c.StartNode(t, i)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		plan, err := left.RecoveryPlan(ctx(t))
		return err == nil && !slices.Contains(plan.Silent, "south-b")
	}, func() string { return "the fourth answers" })
	for _, more := range []bool{true, false} {
		job := recovered(t, left, "north-2", "overseas-3")
		if job.Notes != "" || len(job.Shards) > 0 != more || slices.ContainsFunc(job.Shards, func(s recovery.ShardResult) bool { return s.Notes != "" }) {
			t.Errorf("with all nodes: %+v", job)
		}
	}
}

// TestDisksLostWhileOneIsOff starts two of three nodes with empty disks while the third, which has all that is left, is off: they found no cluster in its place. It
// recovers without them, and they are taken in again.
func TestDisksLostWhileOneIsOff(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 300), a)
	for i := range c.Nodes {
		c.StopNode(t, i)
	}
	for _, i := range []int{1, 2} {
		if err := os.RemoveAll(c.Configs[i].Data); err != nil {
			t.Fatal(err)
		}
		c.StartNode(t, i)
	}
	waits := func() bool {
		return c.Logged("the cluster is not founded before every storage node that the configuration names has said that it knows of none") >= 4
	}
	clustertest.Eventually(t, 30*time.Second, waits, func() string { return "two empty nodes wait for the third" })
	for _, i := range []int{1, 2} {
		if v := c.Nodes[i].Topology().Version; v != 0 {
			t.Errorf("%s knows topology %d", c.Configs[i].ID, v)
		}
	}
	c.StartNode(t, 0)
	left := c.Nodes[0]
	var plan *recovery.Plan
	clustertest.Eventually(t, 30*time.Second, func() (known bool) {
		var err error
		plan, err = left.RecoveryPlan(ctx(t))
		return err == nil && len(plan.Lost) == 2 && c.Nodes[1].Topology().Version > 0 && c.Nodes[2].Topology().Version > 0
	}, func() string { return fmt.Sprintf("the two are told, and lost: %+v", plan) })
	if why := plan.Shards[0].Why; why != "no majority: north-2, overseas-3 have lost their disks" {
		t.Errorf("it says %q", why)
	}
	refusedFor(t, left, "runs with an empty disk: stop it", recovery.Request{Lost: plan.Lost})
	c.StopNode(t, 1)
	c.StopNode(t, 2)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		plan, err := left.RecoveryPlan(ctx(t))
		return err == nil && len(plan.Silent) == 2
	}, func() string { return "the two are off" })
	recovered(t, left, "north-2", "overseas-3")
	c.StartNode(t, 1)
	c.StartNode(t, 2)
	c.WaitReady(t)
	settled(t, left)
	if sel, err := c.Nodes[2].Client().Select(ctx(t), a, "INBOX"); err != nil || sel.UIDs.GetCardinality() != 1 {
		t.Errorf("%+v, %v", sel, err)
	}
}

// readable looks through an INBOX: what was sent before is there once, of what was sent late nothing twice, and what was delivered last is there. All of it can be read
// but for what is in volumes of which no copy is left.
func readable(t *testing.T, door *cluster.Node, a client.Account, gone []volume.ID, before, late []string, last string) {
	t.Helper()
	sel, err := door.Client().Select(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	got, lost := make(map[string]int), 0
	err = door.Client().Messages(ctx(t), a, sel.Mailbox.ID, sel.UIDs, index.WantImmutable, func(m *client.Message) error {
		if slices.Contains(gone, m.Ref.Volume) {
			lost++
			return nil
		}
		r, err := door.Client().Read(ctx(t), m.Ref, 0, m.Size)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		got[string(b)]++
		return errors.Join(err, r.Close())
	})
	if err != nil {
		t.Errorf("%s: %v", a.Address, err)
	}
	if got[last] != 1 {
		t.Errorf("%s: what was delivered after the recovery is there %d times", a.Address, got[last])
	}
	for _, raw := range before {
		if got[raw] == 0 {
			lost--
		}
	}
	if lost != 0 {
		t.Errorf("%s lacks %d messages that the survivor had", a.Address, -lost)
	}
	for raw, n := range got {
		if n != 1 || raw != last && !slices.Contains(before, raw) && !slices.Contains(late, raw) {
			t.Errorf("%s has %.30q %d times", a.Address, raw, n)
		}
	}
}

// TestLostComeBack has the two that were given up come back with their old disks: together they would be the majority of before. They are told, serve nothing,
// and are taken in again as new.
func TestLostComeBack(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 300), a)
	bodies(t, c.Nodes[0].Client(), a, "INBOX")
	left := unled(t, c)
	recovered(t, left, "north-2", "overseas-3")
	c.Join(t, "north-b", clustertest.Spec{Region: "north", Roles: everything})
	clustertest.Eventually(t, 30*time.Second, func() bool {
		return offer(left.Client(), string(message(2, 300)), a) == nil
	}, func() string { return "mail is taken again" })
	c.StartNode(t, 1)
	c.StartNode(t, 2)
	for _, i := range []int{1, 2} {
		given := func() bool {
			return slices.ContainsFunc(c.Nodes[i].Ready(), func(why string) bool { return strings.Contains(why, "was given up for ever") })
		}
		clustertest.Eventually(t, 20*time.Second, given, func() string { return "it knows: " + strings.Join(c.Nodes[i].Ready(), "; ") })
		var st any
		clustertest.Eventually(t, 20*time.Second, func() (none bool) { // its replicas end a moment later
			var err error
			st, err = c.Nodes[i].Status(ctx(t))
			return err != nil || len(st.(*cluster.Status).Shards) == 0
		}, func() string { return fmt.Sprintf("%s has no replicas: %+v", c.Configs[i].ID, st) })
	}
	deliver(t, left.Client(), message(3, 300), a)
	clustertest.Eventually(t, 30*time.Second, func() bool { return len(c.Nodes[3].Ready()) == 0 }, func() string { return "the new node is ready: " + strings.Join(c.Nodes[3].Ready(), "; ") })
	if got := bodies(t, c.Nodes[3].Client(), a, "INBOX"); len(got) != 3 {
		t.Errorf("%d messages", len(got))
	}
	clustertest.Eventually(t, 20*time.Second, func() bool { return replaced(t, left, "overseas-3") }, func() string { return "it is taken as new" })
	clustertest.Eventually(t, 90*time.Second, func() bool {
		n := nodeOf(t, left, "overseas-3")
		return n.State == "active" && n.Replicas > 0
	}, func() string { return fmt.Sprintf("it has replicas again: %+v", nodeOf(t, left, "overseas-3")) })
	settled(t, left)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sel, err := c.Nodes[2].Client().Select(short, a, "INBOX")
	if err != nil || sel.UIDs.GetCardinality() != 3 {
		t.Errorf("at the node that was taken in again: %+v, %v", sel, err)
	}
}
