package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/relocate"
	"hongyan/cluster/textsearch"
)

// indexed waits until a door's searches in a folder are answered up to a UID, and says how long that took.
func indexed(t *testing.T, door *client.Client, a client.Account, folder string, uid uint32) time.Duration {
	t.Helper()
	began := time.Now()
	box, err := door.Status(ctx(t), a, folder)
	if err != nil {
		t.Fatal(err)
	}
	through := uint32(0)
	clustertest.Eventually(t, 30*time.Second, func() bool {
		through, _ = door.Candidates(ctx(t), a, box.ID, box.UIDValidity, "anything")
		return through >= uid
	}, func() string { return fmt.Sprintf("%s is indexed up to %d of %d", folder, through, uid) })
	return time.Since(began)
}

// found is what an index says of a text.
func found(t *testing.T, door *client.Client, a client.Account, folder, text string) []uint32 {
	t.Helper()
	box, err := door.Status(ctx(t), a, folder)
	if err != nil {
		t.Fatal(err)
	}
	_, uids := door.Candidates(ctx(t), a, box.ID, box.UIDValidity, text)
	return uids.ToArray()
}

const withFile = "Subject: =?GBK?B?suLK1A==?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n请看附件 please see\r\n" +
	"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=UTF-8''%E5%B9%B4%E6%8A%A5.pdf\r\n\r\nsecret bytes\r\n--b--\r\n"

// TestFullText delivers mail and finds it through the index from every node; stops the node that has the index, damages it, has it made anew, moves the account and copies
// messages: after each the index comes to know the same.
func TestFullText(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	c := clustertest.StartNodes(t, clustertest.Indexed("south"), clustertest.Indexed("north"), clustertest.Indexed("overseas"), clustertest.Frontend("north"))
	a := c.Account(t, "reader")
	deliver(t, c.Nodes[1].Client(), message(7, 60), a)
	deliver(t, c.Nodes[3].Client(), []byte(withFile), a)
	t.Logf("searchable %v after delivery", indexed(t, c.Nodes[1].Client(), a, "INBOX", 2).Round(time.Millisecond))
	check := func(what string, nodes ...int) {
		t.Helper()
		for _, i := range nodes {
			for text, want := range map[string][]uint32{"MESSAGE": {1}, "lease se": {2}, "测试": {2}, "年报": {2}, "附件": {2}, "absent": nil, "secret": nil} {
				if got := found(t, c.Nodes[i].Client(), a, "INBOX", text); !slices.Equal(got, want) && len(got)+len(want) > 0 {
					t.Errorf("%s: node %d finds %q in %v, want %v", what, i, text, got, want)
				}
			}
		}
	}
	check("at first", 0, 1, 2, 3)

	c.StopNode(t, 0)
	files, err := filepath.Glob(filepath.Join(c.Configs[0].Data, "fulltext", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d tables, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := 100; i < len(b); i += 50 {
			b[i] ^= 0x10
		}
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := found(t, c.Nodes[1].Client(), a, "INBOX", "message"); len(got) > 0 {
		t.Errorf("no node has the index, and it gives %v", got)
	}
	deliver(t, c.Nodes[2].Client(), []byte("Subject: later\r\n\r\nlater\r\n"), a)
	c.StartNode(t, 0)
	c.WaitReady(t)
	indexed(t, c.Nodes[3].Client(), a, "INBOX", 3)
	check("after damage", 0, 3)

	if _, err := c.Nodes[2].RebuildTextIndex(ctx(t), ""); err != nil {
		t.Fatal(err)
	}
	indexed(t, c.Nodes[2].Client(), a, "INBOX", 3)
	check("after it was made anew", 0, 2)

	door := c.Nodes[0].Client()
	if _, err := door.CreateMailbox(ctx(t), a, "Work", ""); err != nil {
		t.Fatal(err)
	}
	inbox, err := door.Status(ctx(t), a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := door.Copy(ctx(t), a, inbox.ID, roaring.BitmapOf(2), "Work"); err != nil {
		t.Fatal(err)
	}
	indexed(t, door, a, "Work", 1)
	if got := found(t, door, a, "Work", "年报"); !slices.Equal(got, []uint32{1}) {
		t.Errorf("the copy is not found: %v", got)
	}

	if n, err := c.Nodes[1].MoveAccounts(ctx(t), relocate.Order{Home: "north", Addresses: []string{a.Address}}); err != nil || n != 1 {
		t.Fatalf("%d accounts move: %v", n, err)
	}
	moved(t, c.Nodes[1])
	indexed(t, c.Nodes[2].Client(), a, "INBOX", 3)
	indexed(t, c.Nodes[2].Client(), a, "Work", 1)
	check("after the move", 0, 1, 2, 3)
	reports := c.Nodes[3].TextIndexes(ctx(t)).([]textsearch.Report)
	if i := slices.IndexFunc(reports, func(r textsearch.Report) bool { return r.Node == c.Configs[1].ID }); len(reports) != 3 || i < 0 || reports[i].Messages < 4 || reports[i].Error != "" {
		t.Errorf("the indexes say of themselves %+v", reports)
	}
}
