package cold

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/cold"
)

// reopen gives a node's fragments anew, on a file system that fails as inject says.
func (c *cluster) reopen(n *node, inject errorfs.InjectorFunc) {
	must(c.t, n.frags.Close())
	var err error
	n.frags, err = cold.OpenStore(errorfs.Wrap(n.fs, inject), "cold", c.ring)
	must(c.t, err)
	n.m.cfg.Fragments = n.frags
	n.m.mu.Lock()
	clear(n.m.verified)
	n.m.mu.Unlock()
}

// TestOneThatCannotBeVerified does not keep a node from verifying the others.
func TestOneThatCannotBeVerified(t *testing.T) {
	c := settled(t)
	n := c.nodes[2]
	held := n.frags.List()
	spoil(t, n, "cold/"+n.files(t, "cold")[0], 30)
	c.reopen(n, func(errorfs.Op) error { return nil })
	entries, err := c.dir.Volumes(t.Context())
	must(t, err)
	for range 2 {
		n.m.verifyNext(entries, time.Now())
	}
	if _, first := n.m.verified[held[0]]; first || len(n.m.verified) != 1 || n.m.stats.failures.Load() != 1 {
		t.Errorf("of %v these are verified: %v; %d failures", held, n.m.verified, n.m.stats.failures.Load())
	}
}

// TestNotMendedInPlace: a fragment with a place that the disk does not take any more is made anew.
func TestNotMendedInPlace(t *testing.T) {
	c := settled(t)
	n := c.nodes[2]
	name := n.files(t, "cold")[0]
	if !strings.HasSuffix(name, ".frag") {
		t.Fatal(name)
	}
	spoil(t, n, "cold/"+name, 4096+100)
	c.reopen(n, func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && strings.HasSuffix(op.Path, name) {
			return syscall.EIO
		}
		return nil
	})
	c.round(at(103), 0, 1)
	c.round(at(104), 0, 1)
	if s := &n.m.stats; s.rebuilds.Load() != 1 || s.failures.Load() != 0 || len(n.m.verified) != 2 {
		t.Errorf("%d rebuilt, %d failures, verified %v", s.rebuilds.Load(), s.failures.Load(), n.m.verified)
	}
	for _, held := range n.frags.List() {
		f, err := n.frags.Get(held)
		must(t, err)
		if damaged, err := f.Verify(t.Context(), nil); err != nil || len(damaged) > 0 {
			t.Errorf("blocks %v of %v are damaged: %v", damaged, held, err)
		}
	}
	c.expect(n)
}
