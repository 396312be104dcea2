package cluster_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/custody"
)

// What a message says, whom it is from and to, its folder and its flags stand in no file of any node.
func TestNothingInTheClear(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "hartmut.geheim")
	door := c.Nodes[0].Client()
	small := []byte("From: absender@remote.test\r\nTo: hartmut.geheim@example.test\r\nSubject: ein Geheimnis\r\n\r\nZauberwort\r\n")
	large := append(bytes.Clone(small), bytes.Repeat([]byte("Zauberwort und noch eines\r\n"), 100_000)...)
	deliver(t, door, small, a)
	deliver(t, door, large, a)
	if _, err := door.CreateMailbox(ctx(t), a, "Verstecktes", ""); err != nil {
		t.Fatal(err)
	}
	for i := range c.Nodes {
		c.StopNode(t, i) // which flushes the index
	}
	for _, cfg := range c.Configs {
		seen := 0
		err := filepath.WalkDir(cfg.Data, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			seen += len(b)
			for _, word := range []string{"geheim", "absender", "Geheimnis", "Zauberwort", "Verstecktes"} {
				if bytes.Contains(b, []byte(word)) {
					t.Errorf("%s holds %q in the clear", path, word)
				}
			}
			return err
		})
		if err != nil || seen < 1000 {
			t.Fatalf("looked at %d bytes: %v", seen, err)
		}
	}
	for i := range c.Nodes {
		c.StartNode(t, i)
	}
	c.WaitReady(t)
	if got := bodies(t, c.Nodes[2].Client(), a, "INBOX"); len(got) != 2 || got[0] != string(small) || got[1] != string(large) {
		t.Errorf("%d messages after a restart, or other bytes", len(got))
	}
}

// Master keys are rotated while the cluster runs; afterwards the old ones can be taken away. Mail stays as it is.
func TestRotation(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 100), a)
	deliver(t, c.Nodes[1].Client(), message(2, 100_000), a)
	before, err := c.Nodes[2].Keys(ctx(t), "", custody.Request{})
	if err != nil || len(before) != 3 {
		t.Fatalf("%+v, %v", before, err)
	}
	for _, r := range before {
		if r.Error != "" || len(r.Keys) != 1 || r.Keys[0].Files < 2 || r.Plain != 0 || r.PlainRest {
			t.Fatalf("before: %+v", r)
		}
	}
	after, err := c.Nodes[2].Keys(ctx(t), "", custody.Request{Rewrap: true, NewKey: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range after {
		if r.Error != "" || r.Left != 0 || len(r.Keys) != 2 || r.Keys[0].Files != 0 || r.Keys[1].Files < 2 {
			t.Fatalf("after: %+v", r)
		}
	}
	if _, err := c.Nodes[0].Keys(ctx(t), "nobody", custody.Request{}); err == nil {
		t.Error("asked a node that is none")
	}
	deliver(t, c.Nodes[2].Client(), message(3, 100), a)
	for i, cfg := range c.Configs {
		c.StopNode(t, i)
		dropKey(t, cfg, before[slices.IndexFunc(before, func(r custody.Report) bool { return r.Node == cfg.ID })].Keys[0].Key)
		c.StartNode(t, i)
		c.WaitReady(t)
	}
	for _, n := range c.Nodes {
		if got := bodies(t, n.Client(), a, "INBOX"); len(got) != 3 {
			t.Errorf("%d messages without the old keys", len(got))
		}
	}
}

// dropKey takes a key out of a node's file of master keys.
func dropKey(t *testing.T, cfg *config.Node, name string) {
	t.Helper()
	b, err := os.ReadFile(cfg.Encryption.MasterKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(b), "\n"), func(l string) bool { return strings.HasPrefix(l, name+" ") })
	if err := os.WriteFile(cfg.Encryption.MasterKeyFile, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A node without an encryption section works, says so, and cannot be started without one once it had one.
func TestWithoutEncryption(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	deliver(t, c.Nodes[0].Client(), message(1, 100), a)
	c.StopNode(t, 0)
	section := c.Configs[0].Encryption
	c.Configs[0].Encryption = nil
	if err := c.TryStartNode(0); err == nil || !strings.Contains(err.Error(), "encryption section") {
		t.Errorf("started without the keys of its index: %v", err)
	}
	c.Configs[0].Encryption = section
	c.StartNode(t, 0)
	c.WaitReady(t)
	if got := bodies(t, c.Nodes[0].Client(), a, "INBOX"); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}
