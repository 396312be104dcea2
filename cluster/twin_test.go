package cluster_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/clustertest"
)

// TestTwin starts second processes as a node that lives: one with an empty folder, which would take the node's place, and one with a copy of the node's,
// which would vote with its voice. Both end, say why, and change nothing.
func TestTwin(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	settled(t, c.Nodes[0])
	c.StopNode(t, 2)
	copied := filepath.Join(t.TempDir(), "copied")
	if err := os.CopyFS(copied, os.DirFS(c.Configs[2].Data)); err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, 2)
	c.WaitReady(t)
	before, _ := c.Nodes[0].Topology().Node("overseas-3")
	second := *c.Configs[2]
	second.RPC.Listen, second.Data = "127.0.0.1:0", copied
	if n, err := cluster.Start(&second, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process answers at") {
		t.Errorf("with a copy of the folder: %v", err)
		if err == nil {
			_ = n.Stop(ctx(t))
		}
	}
	second.Data = t.TempDir()
	n, err := cluster.Start(&second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-n.Unfit():
		if !strings.Contains(err.Error(), "another process answers at") {
			t.Errorf("it ends since %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a second process with an empty folder does not end")
	}
	if err := n.Stop(ctx(t)); err != nil {
		t.Error(err)
	}
	if after, _ := c.Nodes[0].Topology().Node("overseas-3"); after.Incarnation != before.Incarnation || after.Emptied != "" {
		t.Errorf("the node is known as %+v, before as %+v", after, before)
	}
	c.WaitReady(t)
	settled(t, c.Nodes[0])
}
