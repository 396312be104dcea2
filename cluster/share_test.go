package cluster_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/relocate"
	"hongyan/engine/index"
)

// lists says which folder of owner user may know of, as a node knows it.
func lists(t *testing.T, door *client.Client, user, owner client.Account, folder string) bool {
	t.Helper()
	all, err := door.Shared(ctx(t), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for i := range s.Folders {
			if s.Owner.ID == owner.ID && s.Folders[i].Name == folder && s.Rights[i] != 0 {
				return true
			}
		}
	}
	return false
}

// enter appends a message to a folder.
func enter(ctx context.Context, door *client.Client, a client.Account, folder string) error {
	d := door.NewDraft()
	defer d.Close()
	if _, err := d.Write([]byte("Subject: shared\r\n\r\nx\r\n")); err != nil {
		return err
	}
	_, _, err := door.Append(ctx, a, folder, d, client.Flags{}, client.Date{Unix: 1_700_000_000})
	return err
}

// apart makes two accounts of different regions, and so in different shards.
func apart(t *testing.T, c *clustertest.Cluster) (anna, bo client.Account) {
	t.Helper()
	anna = c.Account(t, "anna")
	door := c.Nodes[0]
	address := "bo@" + clustertest.Domain
	if _, err := door.AddAccount(ctx(t), client.NewAccount{Address: address, Home: "north", Password: clustertest.Password}); err != nil {
		t.Fatal(err)
	}
	bo, err := door.Client().Resolve(ctx(t), address)
	if err != nil || bo.Shard == anna.Shard {
		t.Fatal(bo, err)
	}
	return anna, bo
}

// TestSharedWhileMoving has both the owner of a shared folder and its guest go to other shards, and the node that leads the owner's shard end, while the guest works in
// the folder from another region. Nothing that he did is refused or lost, and what is taken from him is gone everywhere.
func TestSharedWhileMoving(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	anna, bo := apart(t, c)
	door := c.Nodes[1].Client()
	if err := c.Nodes[0].Client().Share(ctx(t), anna, "Archive", bo, index.OpSet, client.RightsAll&^client.RightAdminister); err != nil {
		t.Fatal(err)
	}
	guest, err := door.Visit(ctx(t), bo, anna.Address)
	if err != nil {
		t.Fatal(err)
	}
	var entered atomic.Int64
	work, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for work.Err() == nil {
			if err := enter(t.Context(), door, guest, "Archive"); err != nil {
				t.Errorf("append: %v", err)
				return
			}
			entered.Add(1)
			got, err := door.Select(t.Context(), guest, "Archive")
			if err != nil || got.UIDs.GetCardinality() != uint64(entered.Load()) {
				t.Errorf("%d messages after %d: %v", got.UIDs.GetCardinality(), entered.Load(), err)
				return
			}
			if _, err := door.StoreFlags(t.Context(), guest, got.Mailbox.ID, roaring.BitmapOf(got.UIDs.Maximum()), index.OpAdd, client.Flags{System: index.FlagSeen}, 0); err != nil {
				t.Errorf("store: %v", err)
				return
			}
		}
	})
	defer working.Wait()
	defer stop()
	some := func() {
		t.Helper()
		from := entered.Load()
		clustertest.Eventually(t, 30*time.Second, func() bool { return entered.Load() > from+5 || t.Failed() }, func() string { return "the guest works" })
	}
	some()
	free := uint32(0) // a shard of neither
	for n := uint32(1); free == 0; n++ {
		if n != anna.Shard && n != bo.Shard {
			free = n
		}
	}
	for _, a := range []client.Account{anna, bo} {
		if n, err := c.Nodes[0].MoveAccounts(ctx(t), relocate.Order{Addresses: []string{a.Address}, Shard: free}); err != nil || n != 1 {
			t.Fatalf("%d accounts move: %v", n, err)
		}
		moved(t, c.Nodes[0])
		some()
		if !lists(t, door, bo, anna, "Archive") {
			t.Errorf("after %s moved the folder is not listed", a.Address)
		}
	}
	if leader := leads(t, c, free); leader != 1 {
		c.StopNode(t, leader)
		some()
		c.StartNode(t, leader)
	}
	c.WaitReady(t)
	some()
	stop()
	working.Wait()
	if err := c.Nodes[2].Client().Share(ctx(t), anna, "Archive", bo, index.OpSet, 0); err != nil {
		t.Fatal(err)
	}
	if err := enter(ctx(t), door, guest, "Archive"); !errors.Is(err, client.ErrNoMailbox) {
		t.Errorf("append without rights: %v", err)
	}
	for i, n := range c.Nodes {
		if lists(t, n.Client(), bo, anna, "Archive") {
			t.Errorf("node %d lists what is not shared any more", i)
		}
	}
}

// TestShareRaces gives and takes rights at one node while others list what is shared, which forgets notes behind which there is nothing. A right that was given is listed
// everywhere until it is taken, and after that nowhere.
func TestShareRaces(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	anna, bo := apart(t, c)
	work, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for _, n := range c.Nodes[1:] {
		working.Go(func() {
			for work.Err() == nil {
				if _, err := n.Client().Shared(t.Context(), bo); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer working.Wait()
	defer stop()
	for i := range 40 {
		door := c.Nodes[i%3].Client()
		if err := door.Share(ctx(t), anna, "Sent", bo, index.OpAdd, client.RightLookup|client.RightRead); err != nil {
			t.Fatal(err)
		}
		if other := c.Nodes[(i+1)%3].Client(); !lists(t, other, bo, anna, "Sent") {
			t.Fatalf("round %d: what is shared is not listed", i)
		}
		if err := door.Share(ctx(t), anna, "Sent", bo, index.OpRemove, client.RightsAll); err != nil {
			t.Fatal(err)
		}
		if other := c.Nodes[(i+2)%3].Client(); lists(t, other, bo, anna, "Sent") {
			t.Fatalf("round %d: what was taken is listed", i)
		}
	}
}

// TestShareFormerAccounts: an account that is made anew under an old address has nothing of what was given to the old one, nor of what that gave. What is noted of such
// accounts makes room for others.
func TestShareFormerAccounts(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	anna, bo := apart(t, c)
	door := c.Nodes[0].Client()
	former := bo
	former.ID += 1000
	if err := door.Share(ctx(t), anna, "Archive", former, index.OpSet, client.RightsAll); err != nil {
		t.Fatal(err)
	}
	if list, err := door.Grants(ctx(t), anna, "Archive"); err != nil || len(list) != 0 {
		t.Errorf("%v are listed: %v", list, err)
	}
	guest, err := door.Visit(ctx(t), bo, anna.Address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := door.Rights(ctx(t), guest, "Archive"); !errors.Is(err, client.ErrNoMailbox) {
		t.Errorf("rights of a former account: %v", err)
	}
	share := func(owner client.Account) error {
		return door.Share(ctx(t), owner, "Archive", bo, index.OpSet, client.RightLookup)
	}
	var work sync.WaitGroup
	for i := range uint64(8) {
		work.Go(func() {
			for n := i; n < index.MaxSharers; n += 8 {
				owner := anna
				owner.ID += 2000 + n
				if err := share(owner); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if err := share(anna); err != nil { // no room is left but theirs
		t.Fatal(err)
	}
	all, err := door.Shared(ctx(t), bo)
	if err != nil || len(all) != 1 || all[0].Owner.ID != anna.ID {
		t.Errorf("%v, %v", all, err)
	}
}
