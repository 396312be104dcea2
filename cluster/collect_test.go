package cluster_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// volumeBytes is how much a node's volume files take.
func volumeBytes(t *testing.T, c *clustertest.Cluster, i int) (total int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.Configs[i].Data, "volumes", "*.vol*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil { // it may have gone meanwhile
			total += int64(len(bytes.TrimRight(b, "\x00"))) // without the zeros ahead of an open one's end
		}
	}
	return total
}

// Deleted mail gives its space back on every copy, while a node is away for a part of the time; what is left, copies included, is read
// as before on every node.
func TestSpaceComesBack(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a, b := c.Account(t, "u1"), c.Account(t, "u2")
	door := c.Nodes[0].Client()
	const many, size = 40, 60_000
	for i := range many {
		deliver(t, door, noise(i, size), a, b)
	}
	inbox, err := door.Select(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := door.Copy(ctx(t), a, inbox.Mailbox.ID, roaring.BitmapOf(3, 5), "Archive"); err != nil {
		t.Fatal(err)
	}
	var full [3]int64
	for i := range full {
		full[i] = volumeBytes(t, c, i)
	}
	for _, account := range []client.Account{a, b} {
		gone := roaring.New()
		gone.AddRange(2, many) // the first and the last stay
		if _, err := door.Expunge(ctx(t), account, inbox.Mailbox.ID, gone, false); err != nil {
			t.Fatal(err)
		}
	}
	c.StopNode(t, 0) // its volumes are sealed
	c.StartNode(t, 0)
	c.WaitReady(t)
	c.StopNode(t, 1) // no copy of its can be compacted for now
	c.StartNode(t, 1)
	clustertest.Eventually(t, 2*time.Minute, func() bool {
		for i := range full {
			if volumeBytes(t, c, i)*2 > full[i]+1<<20 {
				return false
			}
		}
		return true
	}, func() string {
		var now [3]int64
		for i := range now {
			now[i] = volumeBytes(t, c, i)
		}
		return fmt.Sprintf("the volumes take %d bytes, they took %d", now, full)
	})
	want := []string{string(noise(0, size)), string(noise(many-1, size))}
	copied := []string{string(noise(2, size)), string(noise(4, size))}
	for i, n := range c.Nodes {
		door := n.Client()
		for _, account := range []client.Account{a, b} {
			same(t, bodies(t, door, account, "INBOX"), want)
		}
		same(t, bodies(t, door, a, "Archive"), copied)
		status, err := n.Status(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range status.(*cluster.Status).Volumes {
			t.Logf("node %d sees %+v", i, v)
		}
	}
	deliver(t, c.Nodes[1].Client(), noise(99, size), a)
	same(t, bodies(t, c.Nodes[2].Client(), a, "INBOX"), append(want, string(noise(99, size))))
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("message %d has other bytes", i)
		}
	}
}

// noise is a message that does not shrink.
func noise(i, size int) []byte {
	b := fmt.Appendf(nil, "Subject: message %d\r\n\r\n", i)
	for x := uint32(i + 1); len(b) < size; {
		x = x*1664525 + 1013904223
		b = append(b, byte(32+(x>>24)%90), byte(32+(x>>16)%90))
	}
	return append(b, "\r\n"...)
}
