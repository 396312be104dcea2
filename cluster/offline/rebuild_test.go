package offline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// deliver has a node take a message.
func deliver(t *testing.T, door *client.Client, to client.Account, raw string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d := door.NewDraft()
	defer func() { must(t, d.Close()) }()
	_, err := d.Write([]byte(raw))
	must(t, err)
	must(t, errors.Join(door.Deliver(ctx, d, client.Delivery{From: "a@remote.test", Recipients: []client.Account{to}})...))
}

// inbox reads all that an account has.
func inbox(t *testing.T, door *client.Client, a client.Account) (bodies []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := door.Select(ctx, a, "INBOX")
	must(t, err)
	must(t, door.Messages(ctx, a, s.Mailbox.ID, s.UIDs, index.WantImmutable, func(m *client.Message) error {
		r, err := door.Read(ctx, m.Ref, 0, m.Size)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		bodies = append(bodies, string(b))
		return errors.Join(err, r.Close())
	}))
	return bodies
}

// TestRebuildWithoutADisk makes a cluster of three again while the disk of one is away. Its configuration has to be given, and when the disk comes back, with its
// replicas of before, what was acknowledged since is on the others too.
func TestRebuildWithoutADisk(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	if effort.Watched() {
		t.Skip("without the race detector only") // as other tests of several nodes
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	want := []string{"Subject: one\r\n\r\nin the checkpoint\r\n", "Subject: two\r\n\r\nafter it\r\n", "Subject: three\r\n\r\nafter the rebuild\r\n"}
	deliver(t, c.Nodes[0].Client(), a, want[0])
	var err error
	clustertest.Eventually(t, 30*time.Second, func() bool { // a shard may be saving itself just now
		_, err = c.Nodes[0].Checkpoint(t.Context())
		return err == nil
	}, func() string { return err.Error() })
	deliver(t, c.Nodes[2].Client(), a, want[1])
	var files []string
	for i, n := range c.Configs {
		c.StopNode(t, i)
		file := filepath.Join(t.TempDir(), "node.yaml")
		must(t, n.Write(file))
		files = append(files, "--config", file)
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := Run(t.Context(), append([]string{"rebuild", "--write"}, args...), &out)
		return out.String(), err
	}
	names := func(dir string) (list []string) {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}

	before := names(c.Configs[0].Data)
	if out, err := run(files[:4]...); err == nil || !strings.Contains(err.Error(), c.Configs[2].ID) || !slices.Equal(names(c.Configs[0].Data), before) {
		t.Fatalf("without a node that is to have replicas: %v, %s", err, out)
	}
	disk := c.Configs[2].Data
	must(t, os.Rename(disk, disk+".away"))
	out, err := run(files...)
	must(t, err)
	if !strings.Contains(out, c.Configs[2].ID+" has no volumes") {
		t.Errorf("it does not say whose disk it takes to be new: %s", out)
	}
	must(t, os.RemoveAll(disk))
	must(t, os.Rename(disk+".away", disk))

	c.StartNode(t, 2)
	c.StartNode(t, 0)
	c.WaitReady(t)
	deliver(t, c.Nodes[0].Client(), a, want[2])
	c.StopNode(t, 2)
	c.StartNode(t, 1)
	c.WaitReady(t)
	for _, n := range c.Nodes[:2] {
		if got := inbox(t, n.Client(), a); !slices.Equal(got, want) {
			t.Errorf("the mail is %q, want %q", got, want)
		}
	}
}

// TestDamagedVolumes: what no copy has counts as there in a volume of which a copy is left out.
func TestDamagedVolumes(t *testing.T) {
	var out bytes.Buffer
	r := &rebuildRun{s: &session{fs: vfs.Default}, out: &out}
	var dirs []string
	for i, id := range []string{"a", "b"} {
		dir := filepath.Join(t.TempDir(), id)
		set, err := volume.OpenSet(vfs.Default, filepath.Join(dir, "volumes"), volume.SetOptions{})
		must(t, err)
		for v := range volume.ID(3) {
			_, err := set.Create(volume.Header{ID: v + 1, Epoch: 1, Primary: "a", Copies: []string{"a", "b"}, Salt: 1}, nil, nil)
			must(t, err)
		}
		must(t, set.Close())
		for v := range volume.ID(3) {
			if int(v)+i < 2 { // both copies of the first volume, one of the second
				must(t, os.WriteFile(filepath.Join(dir, "volumes", (v+1).String()+".vol"), make([]byte, 8192), 0o600))
			}
		}
		dirs = append(dirs, dir)
		r.nodes = append(r.nodes, &config.Node{ID: id, Data: dir})
	}
	shelves, err := r.s.open(dirs)
	must(t, err)
	must(t, r.openVolumes(t.Context(), shelves, 0))
	if !slices.Equal(r.damaged, []volume.ID{1, 2, 1}) || strings.Count(out.String(), "left out") != 3 {
		t.Errorf("%v count as there; %s", r.damaged, out.String())
	}
	must(t, errors.Join(closeAll(shelves), r.closeVolumes(), r.frags.close()))
}
