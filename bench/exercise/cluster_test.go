package exercise

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hongyan/bench/lab"
	"hongyan/bench/lab/labtest"
	"hongyan/bench/load"
)

// cluster is a `hongyan dev` of this test.
type cluster struct {
	*testing.T
	bin, dir string
	handle   *lab.Handle
	nodes    []lab.Member
}

func startCluster(t *testing.T, bin string) *cluster {
	t.Helper()
	c := &cluster{T: t, bin: bin, dir: t.TempDir()}
	c.start()
	t.Cleanup(c.stop)
	return c
}

// start runs three regions. Another test may take ports first.
func (c *cluster) start() {
	c.Helper()
	var err error
	for base := 36000; base <= 37200; base += 300 {
		if c.handle, err = lab.Launch(context.Background(), lab.LaunchOptions{
			Exe: c.bin, Dir: c.dir, PortBase: base, Accounts: 3, Restart: lab.Never, NoRelay: true,
		}); err == nil {
			break
		}
	}
	if err != nil {
		c.Fatal(err)
	}
	state, err := c.handle.Cluster()
	if err != nil {
		c.Fatal(err)
	}
	c.nodes = state.Nodes
}

// stop may be called again.
func (c *cluster) stop() {
	c.Helper()
	if err := c.handle.Close(); err != nil {
		c.Error(err)
	}
}

// signal sends one to some of the nodes.
func (c *cluster) signal(s syscall.Signal, nodes ...lab.Member) {
	c.Helper()
	for _, n := range nodes {
		if err := syscall.Kill(n.PID, s); err != nil {
			c.Fatalf("%v to %s: %v", s, n.ID, err)
		}
	}
}

// target is the cluster as load generators see it.
func (c *cluster) target() load.Target {
	c.Helper()
	state, err := c.handle.Cluster()
	if err != nil {
		c.Fatal(err)
	}
	t, err := load.FromCluster(state)
	if err != nil {
		c.Fatal(err)
	}
	return t
}

// patch is one exact replacement in one file of the program.
type patch struct{ file, old, new string }

// build makes the program, with patches in copies of its files that only the compiler sees.
func build(t *testing.T, patches ...patch) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(patches) == 0 {
		return labtest.Build(t, root)
	}
	return labtest.Build(t, root, "-overlay", overlay(t, root, t.TempDir(), patches))
}

// overlay writes the patched copies, and the file that has the compiler take them (see `go help build`).
func overlay(t *testing.T, root, dir string, patches []patch) string {
	t.Helper()
	replace := map[string]string{}
	for i, p := range patches {
		path := filepath.Join(root, p.file)
		from := path
		if copied, ok := replace[path]; ok {
			from = copied
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), p.old); n != 1 {
			t.Fatalf("%s has %q %d times, expected once: the fault must follow the code", p.file, p.old, n)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(b), p.old, p.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
