package cluster_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/engine/index"
)

// allRoles are those of a node that keeps mail and serves clients.
func allRoles(region string) clustertest.Spec {
	return clustertest.Spec{Region: region, Roles: []config.Role{config.Storage, config.Frontend}}
}

// A node without storage does everything through the others.
func TestFrontendOnly(t *testing.T) {
	c := clustertest.StartNodes(t, allRoles("south"), allRoles("north"), allRoles("overseas"), clustertest.Frontend("south"))
	a := c.Account(t, "u1")
	door, other := c.Nodes[3].Client(), c.Nodes[1].Client()
	if _, err := door.Authenticate(ctx(t), a.Address, clustertest.Password); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if _, err := door.Authenticate(ctx(t), a.Address, "wrong"); !errors.Is(err, client.ErrBadCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	for address, want := range map[string]error{"nobody@example.test": client.ErrNoUser, "x@elsewhere.test": client.ErrNotLocal} {
		if _, err := door.Resolve(ctx(t), address); !errors.Is(err, want) {
			t.Errorf("resolve %s: %v", address, err)
		}
	}
	small, large := message(1, 100), message(2, 3<<20)
	deliver(t, door, small, a)
	deliver(t, other, large, a)
	for _, d := range []*client.Client{door, other} {
		if got := bodies(t, d, a, "INBOX"); len(got) != 2 || got[0] != string(small) || got[1] != string(large) {
			t.Fatalf("%d messages, or other bytes", len(got))
		}
	}
	if _, err := door.CreateMailbox(ctx(t), a, "Work", ""); err != nil {
		t.Fatal(err)
	}
	boxes, err := door.Mailboxes(ctx(t), a)
	if err != nil || !slices.ContainsFunc(boxes, func(b client.Mailbox) bool { return b.Name == "Work" }) {
		t.Fatalf("%d folders, %v", len(boxes), err)
	}
	inbox, err := door.Select(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	done, err := door.StoreFlags(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(1, 2), index.OpAdd, client.Flags{System: index.FlagDeleted}, 0)
	if err != nil || len(done.Changed) != 2 {
		t.Fatalf("%d changed, %v", len(done.Changed), err)
	}
	if moved, err := door.Move(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(2), "Work"); err != nil || len(moved.Dest) != 1 {
		t.Fatalf("moved %v, %v", moved, err)
	}
	if gone, err := door.Expunge(ctx(t), a, inbox.Mailbox.ID, nil, true); err != nil || !gone.Equals(roaring.BitmapOf(1)) {
		t.Fatalf("expunged %v, %v", gone, err)
	}
	since, err := door.Changes(ctx(t), a, inbox.Mailbox.ID, inbox.Mailbox.HighestModSeq)
	if err != nil || !since.Vanished.Equals(roaring.BitmapOf(1, 2)) {
		t.Fatalf("vanished %v, %v", since.Vanished, err)
	}
	if _, err := c.Nodes[3].Status(ctx(t)); err != nil {
		t.Errorf("status: %v", err)
	}
}

// A node without storage says of every node what it keeps, as the others do: none seems to be empty because it is not known what is there. Where nobody can
// be asked that is said.
func TestFrontendKnowsWhatIsKept(t *testing.T) {
	c := clustertest.StartNodes(t, allRoles("south"), allRoles("north"), allRoles("overseas"), clustertest.Frontend("south"))
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 100), a)
	for i := range c.Nodes[:3] {
		id := c.Configs[i].ID
		if n := nodeOf(t, c.Nodes[3], id); n.Copies == 0 || n.Replicas == 0 || n.Empty {
			t.Errorf("asked at a node without storage: %+v", n)
		}
	}
	if n := nodeOf(t, c.Nodes[3], c.Configs[3].ID); !n.Empty {
		t.Errorf("the node without storage: %+v", n)
	}
	c.StopNode(t, 0)
	c.StopNode(t, 1)
	c.StopNode(t, 2)
	if list, err := c.Nodes[3].Nodes(ctx(t)); err == nil || !strings.Contains(err.Error(), "what each node keeps") {
		t.Errorf("nobody is there to be asked: %v, %+v", err, list)
	}
}

// A node without storage says when it is of no use, and its clients hear "later" in bounded time.
func TestFrontendAlone(t *testing.T) {
	c := clustertest.StartNodes(t, allRoles("south"), allRoles("north"), clustertest.Frontend("south"))
	a := c.Account(t, "u1")
	c.StopNode(t, 0)
	c.StopNode(t, 1)
	clustertest.Eventually(t, 10*time.Second, func() bool { return len(c.Nodes[2].Ready()) > 0 },
		func() string { return "the node still takes itself for useful" })
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	door := c.Nodes[2].Client()
	for name, try := range map[string]func() error{
		"resolve":      func() error { _, err := door.Resolve(short, "x@example.test"); return err },
		"authenticate": func() error { _, err := door.Authenticate(short, a.Address, clustertest.Password); return err },
		"select":       func() error { _, err := door.Select(short, a, "INBOX"); return err },
		"changes":      func() error { _, err := door.Changes(short, a, 1, 0); return err },
		"subscribe":    func() error { return door.Subscribe(short, a, "x", true) },
	} {
		if err := try(); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.StartNode(t, 0)
	c.StartNode(t, 1)
	c.WaitReady(t)
	if _, err := door.Select(ctx(t), a, "INBOX"); err != nil {
		t.Error(err)
	}
}

// Whoever is woken on a node without a replica finds what woke it, whichever replica it asks.
func TestWatchWithoutReplica(t *testing.T) {
	c := clustertest.StartNodes(t, allRoles("south"), allRoles("north"), allRoles("overseas"), clustertest.Frontend("south"))
	a := c.Account(t, "u1")
	door := c.Nodes[3].Client()
	inbox, err := door.Select(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	wake, cancel := door.Watch(a, inbox.Mailbox.ID)
	defer cancel()
	seen, next := inbox.Mailbox.HighestModSeq, uint32(1)
	for i := range 40 {
		deliver(t, c.Nodes[i%3].Client(), message(i, 100), a)
		for next <= uint32(i)+1 {
			select {
			case <-wake:
			case <-ctx(t).Done():
				t.Fatalf("not woken by message %d, or it was not to be seen then", i+1)
			}
			since, err := door.Changes(ctx(t), a, inbox.Mailbox.ID, seen)
			if err != nil {
				t.Fatal(err)
			}
			seen = since.HighestModSeq
			next = max(next, since.UIDNext)
		}
	}
}
