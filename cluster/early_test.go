package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

func startEarly(t *testing.T) *clustertest.Cluster {
	var specs []clustertest.Spec
	for _, region := range []string{"south", "north", "sea"} {
		specs = append(specs, clustertest.Spec{Region: region, Roles: []config.Role{config.Storage, config.Frontend}, Early: true})
	}
	return clustertest.StartNodes(t, specs...)
}

// Messages that were entered early are in every region's next SELECT once they are acknowledged, with their bytes, also when nodes come and
// go; and when a volume is sealed its markers go.
func TestEarlyDelivery(t *testing.T) {
	c := startEarly(t)
	accounts := []client.Account{c.Account(t, "one"), c.Account(t, "two")}
	var mu sync.Mutex
	var sent []string
	send := func(from, n int) error {
		text := message(from*1000+n, 500)
		door := c.Nodes[from].Client()
		d := door.NewDraft()
		defer d.Close()
		if _, err := d.Write(text); err != nil {
			return err
		}
		for _, err := range door.Deliver(ctx(t), d, client.Delivery{From: "a@remote.test", Recipients: accounts}) {
			if err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, string(text))
		return nil
	}
	look := func(node int) {
		t.Helper()
		mu.Lock()
		want := slices.Sorted(slices.Values(sent))
		mu.Unlock()
		for _, a := range accounts {
			got := slices.Sorted(slices.Values(bodies(t, c.Nodes[node].Client(), a, "INBOX")))
			if !slices.Equal(got, want) {
				t.Fatalf("node %d has %d messages of %s, want %d", node, len(got), a.Address, len(want))
			}
		}
	}
	for from := range c.Nodes {
		var work sync.WaitGroup
		for n := range 10 {
			work.Go(func() {
				if err := send(from, n); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		look((from + 1) % 3)
	}
	early := uint64(0)
	for _, n := range c.Nodes {
		n, _, err := n.Early(accounts[0].Shard)
		if err != nil {
			t.Fatal(err)
		}
		early += n
	}
	if early < 20 {
		t.Errorf("only %d of 30 messages were entered early", early)
	}
	c.StopNode(t, 1) // which seals its volumes
	look(0)
	look(2)
	c.StartNode(t, 1)
	c.WaitReady(t)
	look(1)
	if err := send(1, 100); err != nil {
		t.Fatal(err)
	}
	for node := range c.Nodes {
		look(node)
	}
}

// An APPEND that is entered early tells the UID that the message has.
func TestEarlyAppend(t *testing.T) {
	c := startEarly(t)
	a := c.Account(t, "u")
	door := c.Nodes[0].Client()
	for want := range uint32(3) {
		d := door.NewDraft()
		if _, err := d.Write(message(int(want), 100)); err != nil {
			t.Fatal(err)
		}
		_, uid, err := door.Append(ctx(t), a, "Sent", d, client.Flags{System: index.FlagSeen}, client.Date{Unix: 1_700_000_000})
		if err := errors.Join(err, d.Close()); err != nil || uid != want+1 {
			t.Errorf("UID %d, %v; want %d", uid, err, want+1)
		}
	}
	for i, n := range c.Nodes {
		if got := bodies(t, n.Client(), a, "Sent"); len(got) != 3 {
			t.Errorf("node %d has %d messages", i, len(got))
		}
	}
}

// An entry whose bytes nobody has, of a frontend that died with them, is never shown, and keeps nobody from mail for longer than its volume
// is open. Its UID is not used again, and who knew the folder is told.
func TestEarlyWithoutBytes(t *testing.T) {
	c := startEarly(t)
	a, other := c.Account(t, "u"), c.Account(t, "other")
	door := c.Nodes[0].Client()
	deliver(t, door, message(1, 100), a)
	s, err := door.Select(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	var ref client.Ref
	err = door.Messages(ctx(t), a, s.Mailbox.ID, s.UIDs, index.WantImmutable, func(m *client.Message) error { ref = m.Ref; return nil })
	if err != nil {
		t.Fatal(err)
	}
	ref.Record += 1000
	lost := &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: []uint64{a.ID}, Message: mailbox.Message{Ref: ref, Summary: []byte{1}}, Early: true}}
	if err := c.Nodes[1].Propose(ctx(t), a.Shard, lost); err != nil {
		t.Fatal(err)
	}
	for i, n := range c.Nodes {
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if s, err := n.Client().Select(short, a, "INBOX"); err == nil {
			t.Errorf("node %d shows %+v", i, s.Mailbox)
		}
		cancel()
		if _, err := n.Client().Select(ctx(t), other, "INBOX"); err != nil {
			t.Errorf("node %d keeps another account waiting: %v", i, err)
		}
	}
	first := slices.IndexFunc(c.Configs, func(n *config.Node) bool { return n.ID == c.Nodes[0].Primary(ref.Volume) })
	c.StopNode(t, first) // its volumes are sealed
	check := func(i int) {
		t.Helper()
		door := c.Nodes[i].Client()
		var got string
		clustertest.Eventually(t, 20*time.Second, func() bool {
			s, err := door.Select(ctx(t), a, "INBOX")
			if err != nil {
				got = err.Error()
				return false
			}
			changes, err := door.Changes(ctx(t), a, s.Mailbox.ID, 1)
			got = fmt.Sprint(s.UIDs.ToArray(), s.Mailbox.UIDNext, changes.Vanished, err)
			return got == "[1] 3 {2} <nil>"
		}, func() string { return got })
	}
	for i := range c.Nodes {
		if i != first {
			check(i)
		}
	}
	c.StartNode(t, first)
	c.WaitReady(t)
	check(first)
	for i, n := range c.Nodes {
		if got := bodies(t, n.Client(), a, "INBOX"); len(got) != 1 {
			t.Errorf("node %d has %d messages", i, len(got))
		}
	}
	if c.Logged("early entries settled") == 0 {
		t.Error("nothing was settled")
	}
}
