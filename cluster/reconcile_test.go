package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/relocate"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// contrary is a cluster with accounts whose entries come to contradict what is stored.
type contrary struct {
	*clustertest.Cluster
	t    *testing.T
	a, b client.Account
	next int
}

// message delivers one to an account and gives its entry.
func (c *contrary) message(to client.Account) (client.Message, string) {
	c.t.Helper()
	c.next++
	raw := fmt.Sprintf("From: a@remote.test\r\nMessage-ID: <%d@remote.test>\r\nSubject: message %d\r\n\r\n%s\r\n", c.next, c.next, strings.Repeat("x", 100+c.next))
	deliver(c.t, c.Nodes[0].Client(), []byte(raw), to)
	s, err := c.Nodes[0].Client().Select(ctx(c.t), to, "INBOX")
	if err != nil {
		c.t.Fatal(err)
	}
	e, err := c.Nodes[0].Client().Entry(ctx(c.t), to, s.Mailbox.ID, s.UIDs.Maximum())
	if err != nil {
		c.t.Fatal(err)
	}
	return e, raw
}

// spoil has all replicas say something else of a message.
func (c *contrary) spoil(a client.Account, e client.Message, change func(n *index.Amendment)) client.Message {
	c.t.Helper()
	n := index.Amendment{UID: e.UID, Seen: e.Ref, Ref: e.Ref, Size: e.Size, Date: e.Date, Zone: e.Zone, Summary: e.Summary}
	change(&n)
	if err := c.Nodes[0].Propose(ctx(c.t), a.Shard, &mailbox.Command{Amend: &mailbox.Amend{Account: a.ID, Mailbox: 1, Entry: n}}); err != nil {
		c.t.Fatal(err)
	}
	return c.entry(0, a, e.UID)
}

func (c *contrary) entry(node int, a client.Account, uid uint32) client.Message {
	c.t.Helper()
	e, err := c.Nodes[node].Client().Entry(ctx(c.t), a, 1, uid)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// open reads a message as a frontend does.
func (c *contrary) open(ctx context.Context, node int, a client.Account, e client.Message) (string, error) {
	r, err := c.Nodes[node].Client().Open(ctx, a, 1, e.UID, e.Ref, 0, e.Ref.Length)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// alike waits until all replicas have the same rows of an account.
func (c *contrary) alike(a client.Account) {
	c.t.Helper()
	clustertest.Eventually(c.t, 20*time.Second, func() bool {
		first, err := c.Nodes[0].Rows(a.Shard, a.ID)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range c.Nodes[1:3] {
			if rows, err := n.Rows(a.Shard, a.ID); err != nil || !maps.Equal(first, rows) {
				return false
			}
		}
		return true
	}, func() string { return "the replicas have the same rows" })
}

// mended counts the repairs that all nodes report.
func (c *contrary) mended(what string) (n int) {
	for _, node := range c.Nodes {
		if node == nil {
			continue
		}
		for _, r := range node.Mended() {
			if strings.Contains(r.Done, what) {
				n++
			}
		}
	}
	return n
}

func (c *contrary) check(repair bool) *reconcile.Checked {
	c.t.Helper()
	out, err := c.Nodes[1].CheckAccount(ctx(c.t), c.a.Address, repair, reconcile.Cursor{})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func TestContradictions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	spec := func(region string) clustertest.Spec {
		s := clustertest.Frontend(region)
		s.Roles = append(s.Roles, "storage")
		s.Tune, s.Early = quietCollector, true
		return s
	}
	c := &contrary{Cluster: clustertest.StartNodes(t, spec("south"), spec("north"), spec("overseas"), clustertest.Frontend("north")), t: t}
	c.a, c.b = c.Account(t, "u1"), c.Account(t, "u2")
	for _, part := range []struct {
		name string
		run  func(t *testing.T, c *contrary)
	}{
		{"places", contraryPlaces}, {"descriptions", contraryDescriptions}, {"lost", contraryLost}, {"foreign", contraryForeign},
		{"counts", contraryCounts}, {"together", contraryTogether}, {"expunged", contraryExpunged}, {"moved", contraryMoved}, {"node down", contraryDown}, {"condemned", contraryCondemned},
	} {
		t.Run(part.name, func(t *testing.T) {
			c.t = t
			part.run(t, c)
		})
	}
}

// A message that is not where its entry says is found by what it is, put once more, and read at once; on all replicas the entry then says so.
func contraryPlaces(t *testing.T, c *contrary) {
	other, _ := c.message(c.b)
	for _, x := range []struct {
		what   string
		node   int // the last one keeps no mail itself
		change func(n *index.Amendment)
	}{
		{"no such volume", 0, func(n *index.Amendment) { n.Ref.Volume = 0xdead }},
		{"no such record", 1, func(n *index.Amendment) { n.Ref.Record += 5000 }},
		{"a record of somebody else", 3, func(n *index.Amendment) { n.Ref.Volume, n.Ref.Record = other.Ref.Volume, other.Ref.Record }},
	} {
		e, raw := c.message(c.a)
		bad := c.spoil(c.a, e, x.change)
		if bad.Ref == e.Ref {
			t.Fatalf("%s: nothing was spoiled", x.what)
		}
		got, err := c.open(ctx(t), x.node, c.a, bad)
		if err != nil || got != raw {
			t.Errorf("%s: read %.40q, %v", x.what, got, err)
		}
		now := c.entry(1, c.a, e.UID)
		if now.Ref == bad.Ref || now.Ref.Hash != e.Ref.Hash || now.Size != e.Size || now.ModSeq <= bad.ModSeq || string(now.Summary) != string(e.Summary) {
			t.Errorf("%s: the entry is %+v, was %+v", x.what, now, e)
		}
		if got, err := c.open(ctx(t), 2, c.a, now); err != nil || got != raw {
			t.Errorf("%s: read afterwards %.40q, %v", x.what, got, err)
		}
	}
	if n := c.mended("found as record"); n != 3 {
		t.Errorf("%d repairs are reported", n)
	}
	c.alike(c.a)
}

// What an entry says of a message is corrected by the record in its place, if that is proved to be the message.
func contraryDescriptions(t *testing.T, c *contrary) {
	for _, x := range []struct {
		what    string
		change  func(n *index.Amendment)
		by      string // "read" or "check": who notices
		changed error  // of the read
	}{
		{"hash", func(n *index.Amendment) { n.Ref.Hash[3]++ }, "read", client.ErrAmended},
		{"length", func(n *index.Amendment) { n.Ref.Length, n.Size = n.Ref.Length+7, n.Size+7 }, "read", client.ErrAmended},
		{"summary", func(n *index.Amendment) { n.Summary = []byte("junk") }, "check", nil},
		{"size", func(n *index.Amendment) { n.Size += 1000 }, "check", nil},
		{"date", func(n *index.Amendment) { n.Date -= 86400 }, "check", nil},
	} {
		e, raw := c.message(c.a)
		bad := c.spoil(c.a, e, x.change)
		if x.by == "read" {
			if _, err := c.open(ctx(t), 1, c.a, bad); !errors.Is(err, x.changed) {
				t.Errorf("%s: %v", x.what, err)
			}
		} else if found := c.check(true).Found; len(found) != 1 || found[0].UID != e.UID || !found[0].Mended {
			t.Errorf("%s: found %+v", x.what, found)
		}
		now := c.entry(2, c.a, e.UID)
		now.ModSeq, now.Flags, e.Flags, now.SaveDate = e.ModSeq, index.Flags{}, index.Flags{}, e.SaveDate
		if fmt.Sprintf("%+v", now) != fmt.Sprintf("%+v", e) {
			t.Errorf("%s: the entry is\n%+v, was\n%+v", x.what, now, e)
		}
		if got, err := c.open(ctx(t), 2, c.a, now); err != nil || got != raw {
			t.Errorf("%s: read afterwards %.40q, %v", x.what, got, err)
		}
	}
	if found := c.check(false).Found; len(found) > 0 {
		t.Errorf("left: %+v", found)
	}
	c.alike(c.a)
}

// A message that is nowhere keeps its entry and is told to be lost, without a second search.
func contraryLost(t *testing.T, c *contrary) {
	e, _ := c.message(c.a)
	bad := c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Record, n.Ref.Hash = 4000, [32]byte{1} })
	for range 3 {
		if _, err := c.open(ctx(t), 3, c.a, bad); !errors.Is(err, client.ErrLost) {
			t.Fatalf("read: %v", err)
		}
	}
	if n := c.mended("lost"); n != 1 {
		t.Errorf("%d reports", n)
	}
	found := c.check(true).Found
	if len(found) != 1 || found[0].Mended || !strings.Contains(found[0].Done, "no volume") {
		t.Errorf("found %+v", found)
	}
	if now := c.entry(0, c.a, e.UID); now.Ref != bad.Ref {
		t.Errorf("the entry is %+v", now)
	}
	c.expunge(e.UID)
}

func (c *contrary) expunge(uid uint32) {
	c.t.Helper()
	if _, err := c.Nodes[0].Client().Expunge(ctx(c.t), c.a, 1, roaring.BitmapOf(uid), false); err != nil {
		c.t.Fatal(err)
	}
}

// An entry that leads to somebody else's message is told of; nothing leads from there to its own, and nothing is guessed. Nor does a message of somebody
// else with the same size, in the place where the entry points, become the account's.
func contraryForeign(t *testing.T, c *contrary) {
	other, _ := c.message(c.b)
	e, _ := c.message(c.a)
	c.spoil(c.a, e, func(n *index.Amendment) { n.Ref, n.Size, n.Summary = other.Ref, other.Size, other.Summary })
	found := c.check(true).Found
	if len(found) != 1 || !strings.Contains(found[0].What, "other recipients") || found[0].Mended {
		t.Errorf("found %+v", found)
	}
	c.expunge(e.UID)
	e, _ = c.message(c.a)
	bad := c.spoil(c.a, e, func(n *index.Amendment) {
		n.Ref = other.Ref
		n.Ref.Hash[0]++ // a hash of nobody's, and all else as the other's message
		n.Size, n.Date, n.Zone, n.Summary = other.Size, other.Date, other.Zone, other.Summary
	})
	if got, err := c.open(ctx(t), 0, c.a, bad); !errors.Is(err, client.ErrLost) {
		t.Errorf("read %.40q, %v", got, err)
	}
	if now := c.entry(0, c.a, e.UID); now.Ref != bad.Ref {
		t.Errorf("the entry is %+v", now)
	}
	c.expunge(e.UID)
}

// A record that is found in a volume whose garbage is being collected gets no new reference: its bytes are put elsewhere.
func contraryCondemned(t *testing.T, c *contrary) {
	e, raw := c.message(c.a)
	for i := range c.Nodes {
		if c.Nodes[i].Primary(e.Ref.Volume) == c.Configs[i].ID { // whose volumes are sealed so
			c.StopNode(t, i)
			c.StartNode(t, i)
			c.WaitReady(t)
			break
		}
	}
	bad := c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Volume = 0xdead })
	if err := c.Nodes[0].Propose(ctx(t), c.a.Shard, &mailbox.Command{Condemn: &mailbox.Condemn{Volume: e.Ref.Volume, Generation: 1}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.open(ctx(t), 0, c.a, bad)
	now := c.entry(0, c.a, e.UID)
	if err != nil || got != raw || now.Ref.Volume == e.Ref.Volume {
		t.Errorf("read %.40q, %v; the entry is %+v", got, err, now)
	}
}

// Counts that contradict the messages are mended when the folder is opened, the same on all replicas.
func contraryCounts(t *testing.T, c *contrary) {
	c.alike(c.a) // no replica is behind
	before, err := c.Nodes[0].Rows(c.a.Shard, c.a.ID)
	if err != nil {
		t.Fatal(err)
	}
	meta := "m\x00\x00\x00\x01"
	e, _ := c.message(c.a)
	c.alike(c.a)
	was, err := c.Nodes[0].Client().Select(ctx(t), c.a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes[:3] { // as if the last message had entered without its folder knowing
		if err := n.Plant(c.a.Shard, c.a.ID, map[string]string{meta: before[meta]}); err != nil {
			t.Fatal(err)
		}
	}
	if found := c.check(false).Found; len(found) != 1 || found[0].UID != 0 || !strings.Contains(found[0].What, "next UID") {
		t.Errorf("found %+v", found)
	}
	var work sync.WaitGroup
	for _, n := range c.Nodes {
		work.Go(func() {
			now, err := n.Client().Select(ctx(t), c.a, "INBOX")
			if err != nil || now.Mailbox.UIDNext != e.UID+1 || now.Mailbox.Messages != was.Mailbox.Messages || now.Mailbox.Size != was.Mailbox.Size || !now.UIDs.Equals(was.UIDs) {
				t.Errorf("selected %+v, %v; was %+v", now.Mailbox, err, was.Mailbox)
			}
		})
	}
	work.Wait()
	if n := c.mended("counted anew"); n != 1 {
		t.Errorf("%d repairs are reported", n)
	}
	if found := c.check(false).Found; len(found) > 0 {
		t.Errorf("left: %+v", found)
	}
	c.alike(c.a)
}

// Who reads the same message at the same time at several nodes gets it, and it is mended once.
func contraryTogether(t *testing.T, c *contrary) {
	e, raw := c.message(c.a)
	bad := c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Volume = 0xdead })
	before := c.mended("found as record")
	var work sync.WaitGroup
	for i := range 9 {
		work.Go(func() {
			if got, err := c.open(ctx(t), i%4, c.a, bad); err != nil || got != raw {
				t.Errorf("read %.40q, %v", got, err)
			}
		})
	}
	work.Wait()
	if n := c.mended("found as record") - before; n != 1 {
		t.Errorf("%d repairs are reported", n)
	}
	c.alike(c.a)
}

// A message that is expunged while it is looked for does not come back.
func contraryExpunged(t *testing.T, c *contrary) {
	for i := range 4 {
		e, _ := c.message(c.a)
		bad := c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Volume = 0xdead })
		var work sync.WaitGroup
		work.Go(func() {
			if _, err := c.open(ctx(t), i%3, c.a, bad); err != nil && !errors.Is(err, client.ErrNoMessage) {
				t.Errorf("read: %v", err)
			}
		})
		work.Go(func() { c.expunge(e.UID) })
		work.Wait()
		for n := range c.Nodes {
			if _, err := c.Nodes[n].Client().Entry(ctx(t), c.a, 1, e.UID); !errors.Is(err, client.ErrNoMessage) {
				t.Errorf("after its expunge: %v", err)
			}
		}
	}
	if found := c.check(false).Found; len(found) > 0 {
		t.Errorf("left: %+v", found)
	}
}

// While an account moves to another shard its messages are mended there or here, once.
func contraryMoved(t *testing.T, c *contrary) {
	list := make(map[uint32]string)
	var bad []client.Message
	for range 4 {
		e, raw := c.message(c.a)
		bad = append(bad, c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Volume = 0xdead }))
		list[e.UID] = raw
	}
	to := c.a.Shard%4 + 1
	if _, err := c.Nodes[0].MoveAccounts(ctx(t), relocate.Order{Addresses: []string{c.a.Address}, Shard: to}); err != nil {
		t.Fatal(err)
	}
	for i, e := range bad {
		clustertest.Eventually(t, 20*time.Second, func() bool {
			got, err := c.open(ctx(t), i%3, c.a, e)
			if err != nil && !errors.Is(err, client.ErrUnavailable) || err == nil && got != list[e.UID] {
				t.Fatalf("read %.40q, %v", got, err)
			}
			return err == nil
		}, func() string { return "the message is read" })
	}
	clustertest.Eventually(t, 20*time.Second, func() bool {
		a, err := c.Nodes[0].Client().Resolve(ctx(t), c.a.Address)
		if err == nil {
			c.a = a
		}
		return err == nil && a.Shard == to
	}, func() string { return "the account has moved" })
	if found := c.check(false).Found; len(found) > 0 {
		t.Errorf("left: %+v", found)
	}
	same := 0
	all := bodies(t, c.Nodes[1].Client(), c.a, "INBOX")
	for _, raw := range list {
		for _, got := range all {
			if got == raw {
				same++
			}
		}
	}
	if same != len(list) {
		t.Errorf("%d of %d messages are there once", same, len(list))
	}
}

// While a node with a copy is down nothing is proved and nothing mended; afterwards it is.
func contraryDown(t *testing.T, c *contrary) {
	other, _ := c.message(c.b)
	e, raw := c.message(c.a)
	bad := c.spoil(c.a, e, func(n *index.Amendment) { n.Ref.Volume, n.Ref.Record = other.Ref.Volume, other.Ref.Record })
	away := -1
	for i, n := range c.Nodes {
		if i > 0 && n.Primary(bad.Ref.Volume) != c.Configs[i].ID && holds(t, c.Nodes[0], bad.Ref.Volume, c.Configs[i].ID) {
			away = i
		}
	}
	if away < 0 {
		t.Fatal("no other node has a copy")
	}
	c.StopNode(t, away)
	if ref, err := c.Nodes[0].Mend(ctx(t), c.a, bad); !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("mended to %v, %v", ref, err)
	}
	if now := c.entry(0, c.a, e.UID); now.Ref != bad.Ref {
		t.Errorf("mended to %+v", now)
	}
	c.StartNode(t, away)
	c.WaitReady(t)
	clustertest.Eventually(t, 40*time.Second, func() bool {
		got, err := c.open(ctx(t), 0, c.a, bad)
		return err == nil && got == raw
	}, func() string { return "the message is found again" })
}

func holds(t *testing.T, n *cluster.Node, id volume.ID, node string) bool {
	t.Helper()
	entries, err := n.Entries(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.ID == id {
			return e.Holds(node)
		}
	}
	return false
}

// quietCollector leaves garbage alone.
func quietCollector(n *config.Node) { n.Compaction.IntervalSeconds = 3600 }
