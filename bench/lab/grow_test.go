package lab

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/bench/disk"
	"hongyan/cluster/config"
	"hongyan/cluster/mover"
	"hongyan/engine/effort"
)

func attach(t *testing.T, dir string) *Handle {
	t.Helper()
	h, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// memberIDs are the nodes in cluster.json.
func memberIDs(t *testing.T, h *Handle) (ids []string) {
	t.Helper()
	c, err := h.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

func expectMembers(t *testing.T, h *Handle, want ...string) {
	t.Helper()
	if got := memberIDs(t, h); !slices.Equal(got, want) {
		t.Errorf("cluster.json has %v, want %v", got, want)
	}
}

// peer is what a node's file says of another.
func peer(t *testing.T, dir, node, other string) (own *config.Node, of config.Peer) {
	t.Helper()
	c, err := config.Load(filepath.Join(dir, node, "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(c.Peers, func(p config.Peer) bool { return p.ID == other }); i >= 0 {
		of = c.Peers[i]
	}
	return c, of
}

func expectError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// lookOn has somebody use everything that changes, all the while until the test ends.
func lookOn(t *testing.T, h *Handle) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_, err := h.Status()
			if err := errors.Join(err, h.Cut("south-1", "north", CutOptions{}), h.Heal(), h.Clock("north-1", time.Second)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
}

func TestNodesComeAndGo(t *testing.T) {
	dir := t.TempDir()
	change := func(o *Options) {
		o.Restart, o.WAN = Never, WAN{{"south", "west", 4 * time.Millisecond}}
	}
	r := runLab(t, dir, change)
	h := attach(t, dir)
	t.Run("while somebody looks on", func(t *testing.T) {
		lookOn(t, h)
		comeAndGo(t, h)
		addAfterAFailure(t, h)
	})
	write(t, filepath.Join(dir, "east-1", "broken"), "")
	_, err := h.Add("east")
	expectError(t, err, "node east-1 is added by half")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	runLab(t, dir, change)
	expectMembers(t, h, "south-1", "north-1", "south-3", "west-1") // what was there by half does not keep the others down
	if c, east := peer(t, dir, "west-1", "east-1"); !c.Join || east.ID != "" {
		t.Errorf("file of a node that joined, at its next start: %+v", c)
	}
	giveUp(t, h)
}

// giveUp: what an add left can be cleared away, once the cluster counts it out.
func giveUp(t *testing.T, h *Handle) {
	expectError(t, h.Remove("east-1"), "is a member of the cluster")
	write(t, filepath.Join(h.dir, "removed"), "south-2 east-1")
	if err := h.Remove("east-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "east-1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

func comeAndGo(t *testing.T, h *Handle) {
	id, err := h.Add("south")
	if err != nil || id != "south-2" {
		t.Fatalf("added %q, %v", id, err)
	}
	expectMembers(t, h, "south-1", "north-1", "south-2")
	own, _ := peer(t, h.dir, "south-2", "")
	founder, seen := peer(t, h.dir, "north-1", "south-2")
	if !own.Join || !founder.Join || len(own.Peers) != 2 || seen.Region != "south" || seen.RPC == own.RPC.Listen {
		t.Errorf("file of the new one %+v, of another %+v: want that neither founds, and a relay", own, founder)
	}
	expectError(t, h.Remove("south-2"), "`hongyan admin node drain south-2 --wait` and `hongyan admin node remove south-2`")
	expectError(t, h.Remove("south-9"), `no node "south-9" here; there are [south-1 north-1 south-2]`)

	write(t, filepath.Join(h.dir, "removed"), "south-2")
	before, err := h.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove("south-2"); err != nil {
		t.Fatal(err)
	}
	expectMembers(t, h, "south-1", "north-1")
	if _, err := os.Stat(filepath.Join(h.dir, "south-2")); alive(before.Nodes[2].PID) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed, but its process runs (%v) or its folder is there (%v)", alive(before.Nodes[2].PID), err)
	}
	if _, seen := peer(t, h.dir, "north-1", "south-2"); seen.ID != "" {
		t.Errorf("another's file still says %+v", seen)
	}
	if st, err := h.Status(); err != nil || len(st.Nodes) != 2 || len(st.Links) != 2 {
		t.Errorf("status after the removal: %+v, %v", st, err)
	}
	if id, err = h.Add("south"); err != nil || id != "south-3" {
		t.Fatalf("added %q, %v: want an id that none had", id, err)
	}
	if now, err := h.Cluster(); err != nil || now.Nodes[2].HTTP != before.Nodes[2].HTTP {
		t.Errorf("%+v, %v: want the ports of the one that went", now, err)
	}
}

func addAfterAFailure(t *testing.T, h *Handle) {
	broken := filepath.Join(h.dir, "west-1", "broken")
	write(t, broken, "")
	_, err := h.Add("west")
	expectError(t, err, "node west-1 is added by half: node west-1 ended before it was ready: exit status 1")
	expectError(t, err, "`hongyan dev add west` goes on, and `hongyan dev remove west-1` gives up")
	expectMembers(t, h, "south-1", "north-1", "south-3")
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if id, err := h.Add("west"); err != nil || id != "west-1" {
		t.Fatalf("added %q, %v", id, err)
	}
	expectMembers(t, h, "south-1", "north-1", "south-3", "west-1")
	st, err := h.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range st.Links {
		if l.From == "west-1" && l.To == "south-1" && l.Shape.Delay == 2*time.Millisecond {
			return
		}
	}
	t.Errorf("links %+v: want half of --wan's round trip from west-1", st.Links)
}

func TestWipe(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	h, south := attach(t, r.dir), filepath.Join(r.dir, "south-1")
	write(t, filepath.Join(south, "index", "data"), "mail")
	expectError(t, h.Wipe("south-1"), "node south-1 is running: first `hongyan dev kill south-1`")
	if err := errors.Join(h.Kill("south-1"), h.Wipe("south-1")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(south)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != "node.key node.log node.pem node.yaml" {
		t.Errorf("left: %v", names)
	}
	write(t, filepath.Join(south, "unready"), "")
	a, err := ask(r.dir, order{Verb: string(verbStart), Node: "south-1"})
	if err != nil || !strings.Contains(a.Note, "made anew") {
		t.Errorf("start of a wiped node: %+v, %v", a, err)
	}
	wiped := func() bool {
		list, err := readRoster(r.dir)
		return err == nil && list.seat("south-1").Wiped
	}
	if !wiped() {
		t.Error("lab.json does not know of it")
	}
	if err := os.Remove(filepath.Join(south, "unready")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a node that serves counts as wiped no more", func() bool { return !wiped() })
}

func TestNodesWithDisksComeAndGo(t *testing.T) {
	if err := disk.Supported(); err != nil {
		t.Skip(err)
	}
	r := runLab(t, t.TempDir(), func(o *Options) { o.DiskSize = disk.MinSize })
	h := attach(t, r.dir)
	id, err := h.Add("north")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(r.dir, id+".img")
	if fi, err := os.Stat(image); err != nil || fi.Size() != disk.MinSize {
		t.Errorf("its disk: %v, %v", fi, err)
	}
	if err := errors.Join(h.PowerCut(id), h.Kill(id), h.Wipe(id), h.Start(id)); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(r.dir, "removed"), id)
	if err := h.Remove(id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the disk of a node that is gone: %v", err)
	}
}

// TestAClusterGrowsAndShrinks has a real node join a real cluster, be drained and go.
func TestAClusterGrowsAndShrinks(t *testing.T) {
	if testing.Short() || !effort.Nightly() {
		t.Skip("runs a cluster for a quarter of a minute; at night, for TestGrowAndDrain of package cluster does the same in one process")
	}
	h, err := Launch(t.Context(), LaunchOptions{Exe: program.Build(t, "../.."), Dir: t.TempDir(), Restart: Never})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	before := memberIDs(t, h)
	id, err := h.Add("south-china")
	if err != nil {
		t.Fatal(err)
	}
	expectMembers(t, h, append(before, id)...)
	c, err := h.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	api, err := newAPI(c.AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(method, path, body string) []byte {
		t.Helper()
		code, b, err := api.call(t.Context(), method, c.Nodes[0].HTTP+path, []byte(body))
		if err != nil || code != http.StatusOK {
			t.Fatalf("%s %s: %d, %s, %v", method, path, code, b, err)
		}
		return b
	}
	look := func() (n mover.NodeStatus) {
		t.Helper()
		var list struct{ Nodes []mover.NodeStatus }
		if err := json.Unmarshal(tell("GET", "/api/v1/nodes", ""), &list); err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(list.Nodes, func(n mover.NodeStatus) bool { return n.ID == id }); i >= 0 {
			return list.Nodes[i]
		}
		t.Fatalf("%s is not in %+v", id, list)
		return n
	}
	eventuallyWithin(t, 2*time.Minute, "the new node gets its share", func() bool { return look().Replicas > 0 })
	expectError(t, h.Remove(id), "hongyan admin node drain")
	tell("PATCH", "/api/v1/nodes/"+id, `{"draining": true}`)
	eventuallyWithin(t, 2*time.Minute, "the node is empty", func() bool { return look().Empty })
	tell("DELETE", "/api/v1/nodes/"+id, "")
	if err := h.Remove(id); err != nil {
		t.Fatal(err)
	}
	expectMembers(t, h, before...)
}
