package cluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/placement"
	"hongyan/cluster/relocate"
	"hongyan/engine/index"
)

// moved waits until no account is on its way.
func moved(t testing.TB, by *cluster.Node) {
	t.Helper()
	last := ""
	clustertest.Eventually(t, 60*time.Second, func() bool {
		st, err := by.Moves(ctx(t))
		if err != nil {
			last = err.Error()
			return false
		}
		if st.Waiting > 0 {
			last = st.Moves[0].Address + ": " + st.Moves[0].Failure
		}
		return st.Waiting == 0
	}, func() string { return "accounts have moved: " + last })
}

// TestAccountsMove has all accounts go to another region, to a new shard and home while mail comes in and one is watched, and has the node that leads the
// directory, and so the moves, end in the middle. Nothing is refused, lost or doubled; UIDs, UIDVALIDITY and flags stay, and who watches is woken by what
// comes to the new shard.
func TestAccountsMove(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	door := c.Nodes[1]
	var accounts []client.Account
	for _, name := range []string{"anna", "bo", "chen", "dai", "emma", "fu"} {
		accounts = append(accounts, c.Account(t, name))
	}
	watched := accounts[0]
	s := send(t, accounts, door)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		st, err := door.Client().Status(ctx(t), watched, "INBOX")
		return err == nil && st.Messages > 20
	}, func() string { return "some mail" })
	before, err := door.Client().Select(ctx(t), watched, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := door.Client().StoreFlags(ctx(t), watched, before.Mailbox.ID, roaring.BitmapOf(1, 2), index.OpAdd, client.Flags{System: index.FlagFlagged}, 0); err != nil {
		t.Fatal(err)
	}
	// What was just saved is compared while an account is frozen, however much it is.
	for range 50 {
		if _, err := door.Client().Copy(ctx(t), watched, before.Mailbox.ID, before.UIDs, "Archive"); err != nil {
			t.Fatal(err)
		}
	}
	wake, cancel := door.Client().Watch(watched, before.Mailbox.ID)
	defer cancel()
	order := relocate.Order{Home: "north"}
	for _, a := range accounts {
		order.Addresses = append(order.Addresses, a.Address)
	}
	if n, err := door.MoveAccounts(ctx(t), order); err != nil || n == 0 {
		t.Fatalf("%d accounts move: %v", n, err)
	}
	moved(t, door)
	shard, err := door.AddShard(ctx(t), "overseas")
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 30*time.Second, func() bool {
		st, err := door.Moves(ctx(t))
		return err == nil && slices.ContainsFunc(st.Shards, func(s relocate.Shard) bool { return s.Number == shard && !s.Founding })
	}, func() string { return "the new shard is founded" })
	order.Home, order.Shard = "", shard
	if _, err := door.MoveAccounts(ctx(t), order); err != nil {
		t.Fatal(err)
	}
	if leader := leads(t, c, placement.DirectoryShard); leader != 1 { // mail goes through node 1
		c.StopNode(t, leader)
		c.StartNode(t, leader)
	}
	moved(t, door)
	drainWakes(wake)
	clustertest.Eventually(t, 20*time.Second, func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}, func() string { return "who watches a moved account is woken" })
	order.Home, order.Shard = "south", 0
	if _, err := door.MoveAccounts(ctx(t), order); err != nil {
		t.Fatal(err)
	}
	moved(t, door)
	c.WaitReady(t)
	s.check(t, accounts, c.Nodes...)
	after, err := door.Client().Select(ctx(t), watched, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	flagged, err := door.Client().Flagged(ctx(t), watched, after.Mailbox.ID, index.FlagFlagged)
	if err != nil || !flagged.Equals(roaring.BitmapOf(1, 2)) {
		t.Errorf("flagged messages are %v: %v", flagged, err)
	}
	archive, err := door.Client().Select(ctx(t), watched, "Archive")
	if want := 50 * before.UIDs.GetCardinality(); err != nil || archive.UIDs.GetCardinality() != want {
		t.Errorf("%d messages are archived, expected %d: %v", archive.UIDs.GetCardinality(), want, err)
	}
	if before.Mailbox.UIDValidity != after.Mailbox.UIDValidity || after.UIDs.Minimum() != 1 || after.Mailbox.UIDNext != after.Mailbox.Messages+1 {
		t.Errorf("INBOX was %+v and is %+v", before.Mailbox, after.Mailbox)
	}
}

func drainWakes(wake <-chan struct{}) {
	select {
	case <-wake:
	default:
	}
}

// leads is the number of the node that leads a shard.
func leads(t *testing.T, c *clustertest.Cluster, shard uint32) (number int) {
	t.Helper()
	clustertest.Eventually(t, 20*time.Second, func() bool {
		for i, n := range c.Nodes {
			if n != nil && n.Leads(shard) {
				number = i
				return true
			}
		}
		return false
	}, func() string { return "a leader" })
	return number
}
