package cluster_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/relocate"
	"hongyan/engine/index"
)

// furnished is an account that has something of everything that an account may have.
func furnished(t *testing.T, c *clustertest.Cluster) client.Account {
	t.Helper()
	a, door := c.Account(t, "anna"), c.Nodes[0].Client()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	draft := func(text string) *client.Draft {
		d := door.NewDraft()
		_, err := io.WriteString(d, "Subject: "+text+"\r\n\r\n"+strings.Repeat(text+"\r\n", 20))
		check(err)
		return d
	}
	bytes, messages := uint64(1<<20), uint64(100)
	check(c.Nodes[0].SetQuota(ctx(t), a.Address, client.QuotaChange{Bytes: &bytes, Messages: &messages}))
	for i := range 3 {
		d := draft(fmt.Sprint("delivered ", i))
		check(door.Deliver(ctx(t), d, client.Delivery{Recipients: []client.Account{a}})[0])
		check(d.Close())
	}
	inbox, err := door.Select(ctx(t), a, "INBOX")
	check(err)
	check(door.Told(ctx(t), []client.Told{{Account: a, Folder: inbox.Mailbox.ID, Below: inbox.UIDs.Maximum()}})) // one is \Recent
	_, err = door.StoreFlags(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(1), index.OpAdd, client.Flags{System: index.FlagSeen, Keywords: []string{"$Work"}}, 0)
	check(err)

	batch := door.NewBatch(a, "Drafts")
	for i := range 3 {
		d := draft(fmt.Sprint("of several ", i))
		check(batch.Add(ctx(t), d, client.Flags{System: index.FlagDraft}, client.Date{Unix: 1_600_000_000 + int64(i), Zone: -90}))
		check(d.Close())
	}
	_, first, err := batch.Commit(ctx(t))
	check(err)
	drafts, err := door.Select(ctx(t), a, "Drafts")
	check(err)
	d := draft("put in its place")
	_, _, err = door.Replace(ctx(t), a, drafts.Mailbox.ID, first+1, "Drafts", d, client.Flags{Keywords: []string{"$New"}}, client.Date{Unix: 1_600_000_100})
	check(err)
	check(d.Close())

	_, err = door.CreateMailbox(ctx(t), a, "Work/2026", "")
	check(err)
	_, err = door.Copy(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(1, 2), "Work/2026")
	check(err)
	_, err = door.Move(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(2), "Archive")
	check(err)
	check(door.Subscribe(ctx(t), a, "Lists", true))
	for name, list := range map[string][]client.Annotation{
		"INBOX":     {{Name: "/shared/comment", Value: []byte("all's")}, {Name: "/private/comment", User: a.ID, Value: []byte("a\x00b")}},
		"Work/2026": {{Name: "/shared/vendor/x/y", Value: []byte{}}},
		"":          {{Name: "/private/vendor/x/z", User: a.ID, Value: []byte(strings.Repeat("z", 4000))}},
	} {
		check(door.Annotate(ctx(t), a, name, list))
	}
	return a
}

// shown is everything of an account that can be seen through a node's door, bytes included.
func shown(t *testing.T, by *cluster.Node, a client.Account) string {
	t.Helper()
	door := by.Client()
	var out bytes.Buffer
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	notes := func(folder string) {
		list, err := door.Annotations(ctx(t), a, folder)
		check(err)
		for _, n := range list {
			fmt.Fprintf(&out, "note %q of %d: %q, change %d\n", n.Name, n.User, n.Value, n.Seq)
		}
	}
	quota, err := door.Quota(ctx(t), a)
	check(err)
	subscribed, err := door.Subscriptions(ctx(t), a)
	check(err)
	fmt.Fprintf(&out, "quota %+v, subscribed %v\n", quota, subscribed)
	notes("")
	list, err := door.Mailboxes(ctx(t), a)
	check(err)
	for _, m := range list {
		fmt.Fprintf(&out, "%+v\n", m)
		if m.NoSelect {
			continue
		}
		notes(m.Name)
		sel, err := door.Select(ctx(t), a, m.Name)
		check(err)
		fmt.Fprintf(&out, "unseen %v\n", sel.Unseen)
		check(door.Messages(ctx(t), a, m.ID, sel.UIDs, index.WantFlags|index.WantImmutable|index.WantSummary, func(e *client.Message) error {
			r, err := door.Open(ctx(t), a, m.ID, e.UID, e.Ref, 0, e.Size)
			check(err)
			body, err := io.ReadAll(r)
			check(err)
			check(r.Close())
			fmt.Fprintf(&out, "%+v saved %d: %q\n", *e, e.Saved(), body)
			return nil
		}))
	}
	return out.String()
}

// TestEverythingStays compares everything that an account shows before and after it moves to another shard, to one that is new, and home, and after a replica of
// its shard was made anew.
func TestEverythingStays(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	a := furnished(t, c)
	want := shown(t, c.Nodes[0], a)
	for _, part := range []string{"Recent:1", "Told:3", "$New", "\"all's\"", `"a\x00b"`, "y\" of 0: \"\"", "zzz", "CopyDate:1", "Subject: put in its place", "Lists"} {
		if !strings.Contains(want, part) {
			t.Fatalf("there is no %q in\n%s", part, want)
		}
	}
	same := func(when string) {
		t.Helper()
		for i, n := range c.Nodes {
			if got := shown(t, n, a); got != want {
				w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
				for j := range max(len(w), len(g)) {
					if j >= len(w) || j >= len(g) || w[j] != g[j] {
						t.Fatalf("%s, at node %d: line %d of %d, %d\nwas %.900s\nis  %.900s", when, i, j, len(w), len(g), strings.Join(w[j:min(j+1, len(w))], ""), strings.Join(g[j:min(j+1, len(g))], ""))
					}
				}
			}
		}
	}
	same("at first")
	for _, home := range []string{"north", "overseas", "south"} {
		if n, err := c.Nodes[0].MoveAccounts(ctx(t), relocate.Order{Addresses: []string{a.Address}, Home: home}); err != nil || n != 1 {
			t.Fatalf("%d accounts move: %v", n, err)
		}
		moved(t, c.Nodes[0])
		same("moved to " + home)
	}

	c.StopNode(t, 2)
	if err := os.RemoveAll(c.Configs[2].Data); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.Configs[2].Data, 0o700); err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, 2)
	c.WaitReady(t)
	now, err := c.Nodes[0].Client().Resolve(ctx(t), a.Address)
	if err != nil {
		t.Fatal(err)
	}
	rows := func(node int) map[string]string {
		r, err := c.Nodes[node].Rows(now.Shard, now.ID)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	clustertest.Eventually(t, 60*time.Second, func() bool { return len(rows(2)) > 0 && len(rows(2)) == len(rows(0)) }, func() string { return "the lost replica is made anew" })
	for key, value := range rows(0) {
		if rows(2)[key] != value {
			t.Fatalf("row %q differs", key)
		}
	}
	same("with a replica made anew")
	for i := range c.Nodes {
		c.StopNode(t, i)
	}
	for i := range c.Nodes {
		c.StartNode(t, i)
	}
	c.WaitReady(t)
	same("after a restart of all")
}
