package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/effort"
	"hongyan/engine/index"
)

func ctx(t testing.TB) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

// deliver sends raw to accounts through a node's door.
func deliver(t testing.TB, c *client.Client, raw []byte, to ...client.Account) {
	t.Helper()
	d := c.NewDraft()
	defer d.Close()
	if _, err := d.Write(raw); err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Deliver(ctx(t), d, client.Delivery{From: "a@remote.test", Recipients: to}) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bodies reads all messages of a folder through a node's door.
func bodies(t *testing.T, c *client.Client, a client.Account, folder string) []string {
	t.Helper()
	s, err := c.Select(ctx(t), a, folder)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	err = c.Messages(ctx(t), a, s.Mailbox.ID, s.UIDs, index.WantImmutable, func(m *client.Message) error {
		r, err := c.Read(ctx(t), m.Ref, 0, m.Size)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		out = append(out, string(b))
		return errors.Join(err, r.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func message(i, size int) []byte {
	return append(fmt.Appendf(nil, "Subject: message %d\r\n\r\n", i), bytes.Repeat([]byte("line\r\n"), size/6)...)
}

// What one region acknowledged is in every region's next SELECT, and its folders and flags follow.
func TestThreeRegions(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a, b := c.Account(t, "u1"), c.Account(t, "u2")
	south, north, overseas := c.Nodes[0].Client(), c.Nodes[1].Client(), c.Nodes[2].Client()
	small, large := message(1, 100), message(2, 3<<20)
	deliver(t, south, small, a, b)
	deliver(t, overseas, large, a)
	for _, door := range []*client.Client{south, north, overseas} {
		got := bodies(t, door, a, "INBOX")
		if len(got) != 2 || got[0] != string(small) || got[1] != string(large) {
			t.Fatalf("%d messages, or other bytes", len(got))
		}
	}
	if got := bodies(t, north, b, "INBOX"); len(got) != 1 {
		t.Fatalf("the second recipient has %d messages", len(got))
	}

	wake, cancel := overseas.Watch(a, 0)
	defer cancel()
	if _, err := south.CreateMailbox(ctx(t), a, "Archive/2026", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-wake:
	case <-ctx(t).Done():
		t.Fatal("no wake-up in another region")
	}
	inbox, err := north.Status(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	moved, err := north.Move(ctx(t), a, inbox.ID, roaring.BitmapOf(1), "Archive/2026")
	if err != nil || len(moved.Source) != 1 || moved.Source[0] != 1 || moved.Dest[0] != 1 {
		t.Fatalf("move: %+v, %v", moved, err)
	}
	if got := bodies(t, overseas, a, "Archive/2026"); len(got) != 1 || got[0] != string(small) {
		t.Fatal("the moved message is not there in another region")
	}
	done, err := overseas.StoreFlags(ctx(t), a, inbox.ID, roaring.BitmapOf(2), index.OpAdd, client.Flags{System: index.FlagSeen, Keywords: []string{"$Project"}}, 0)
	if err != nil || len(done.Changed) != 1 || done.Changed[0].Flags.System != index.FlagSeen {
		t.Fatalf("store: %+v, %v", done, err)
	}
	if _, err := north.Move(ctx(t), a, inbox.ID, roaring.BitmapOf(2), "nowhere"); !errors.Is(err, client.ErrNoMailbox) {
		t.Fatalf("move to a folder that is not there: %v", err)
	}
}

func TestUnknownAndWrong(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	c.Account(t, "u1")
	door := c.Nodes[2].Client()
	for address, want := range map[string]error{
		"nobody@example.test": client.ErrNoUser, "x@elsewhere.test": client.ErrNotLocal, "no-at-sign": client.ErrInvalidName,
	} {
		if _, err := door.Resolve(ctx(t), address); !errors.Is(err, want) {
			t.Errorf("resolve %s: %v", address, err)
		}
	}
	if _, err := door.Authenticate(ctx(t), "U1@Example.test", clustertest.Password); err != nil {
		t.Errorf("the right password: %v", err)
	}
	for _, user := range []string{"u1@example.test", "nobody@example.test", "junk"} {
		if _, err := door.Authenticate(ctx(t), user, "wrong"); !errors.Is(err, client.ErrBadCredentials) {
			t.Errorf("wrong password of %s: %v", user, err)
		}
	}
}

// A node that was away gets what it missed, and serves it; mail went on without it.
func TestNodeAwayAndBack(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 1000), a)
	c.StopNode(t, 0)
	for i := range 20 {
		deliver(t, c.Nodes[1].Client(), message(2+i, 1000), a)
	}
	if got := bodies(t, c.Nodes[2].Client(), a, "INBOX"); len(got) != 21 {
		t.Fatalf("%d messages while a node is away", len(got))
	}
	c.StartNode(t, 0)
	c.WaitReady(t)
	if got := bodies(t, c.Nodes[0].Client(), a, "INBOX"); len(got) != 21 {
		t.Fatalf("%d messages at the node that came back", len(got))
	}
	c.StopNode(t, 1)
	deliver(t, c.Nodes[2].Client(), message(99, 1000), a)
	if got := bodies(t, c.Nodes[0].Client(), a, "INBOX"); len(got) != 22 {
		t.Fatalf("%d messages after another node left", len(got))
	}
}

// Without a majority everything says "later" in bounded time.
func TestNoMajority(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 1000), a)
	c.StopNode(t, 1)
	c.StopNode(t, 2)
	door := c.Nodes[0].Client()
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	d := door.NewDraft()
	defer d.Close()
	if _, err := d.Write(message(2, 100)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if errs := door.Deliver(short, d, client.Delivery{Recipients: []client.Account{a}}); !errors.Is(errs[0], client.ErrUnavailable) {
		t.Errorf("deliver: %v", errs[0])
	}
	if _, err := door.Select(short, a, "INBOX"); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("select: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	c.StartNode(t, 1)
	c.StartNode(t, 2)
	c.WaitReady(t)
	if got := bodies(t, door, a, "INBOX"); len(got) != 1 {
		t.Errorf("%d messages after the majority came back", len(got))
	}
}

// Many senders through all doors at once: every acknowledged message is there once.
func TestConcurrentDelivery(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	var accounts []client.Account
	for i := range 4 {
		accounts = append(accounts, c.Account(t, fmt.Sprintf("u%d", i)))
	}
	const senders, each = 8, 25
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				door := c.Nodes[(s+i)%3].Client()
				deliver(t, door, message(s*1000+i, 200), accounts[i%4])
			}
		})
	}
	wg.Wait()
	seen := make(map[string]int)
	for _, a := range accounts {
		for _, b := range bodies(t, c.Nodes[1].Client(), a, "INBOX") {
			seen[b]++
		}
	}
	if len(seen) != senders*each {
		t.Errorf("%d different messages, sent %d", len(seen), senders*each)
	}
	for _, n := range seen {
		if n != 1 {
			t.Errorf("a message is there %d times", n)
		}
	}
}

// unwatched skips a test of many nodes under the race detector, which makes it half a minute of computing: what it runs there is watched in smaller tests, and
// the Makefile's MODELS run it without.
func unwatched(t *testing.T) {
	t.Helper()
	if effort.Watched() {
		t.Skip("without the race detector only")
	}
}
