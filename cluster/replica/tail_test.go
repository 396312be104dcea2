package replica

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/volume"
)

// shorten takes the end of the last record from every volume file of a dead node, as a disk does that says too early
// that it has synced.
func (n *member) shorten() {
	n.t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.dir, "*.vol"))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			n.t.Fatal(err)
		}
		if info.Size() > 5000 {
			if err := os.Truncate(path, info.Size()-100); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

func (n *member) putMany(count uint64) map[uint64]volume.Ref {
	n.t.Helper()
	acked := make(map[uint64]volume.Ref)
	for i := range count {
		acked[i] = n.mustPut(i, 3000)
	}
	return acked
}

// TestLostTail: a copy's disk has lost the end of what it had acknowledged. The other copy has it, and must not be cut to
// what is left, whoever was restarted.
func TestLostTail(t *testing.T) {
	patient := func(c *Config) { c.PeerDown = 10 * time.Second } // however slow the machine is: then the other copy is waited for, as long as it may take to answer
	for _, restarted := range []string{"a", "b", "ab"} {
		t.Run(restarted, func(t *testing.T) {
			for _, lost := range restarted {
				g := newGroup(t, place{id: "a", region: "south", tune: patient}, place{id: "b", region: "north", tune: patient})
				g.openWith("a", "b")
				acked := g.at("a").putMany(10)
				g.dir.setDown(true) // nobody seals while one of them is away
				for _, id := range restarted {
					g.at(string(id)).kill()
				}
				g.at(string(lost)).shorten()
				for _, id := range restarted {
					g.at(string(id)).start(nil)
				}
				up := []string{"a", "b"}
				for i, id := range up {
					eventually(t, "nodes see each other", 10*time.Second, func() error {
						if !g.at(id).net.Up(up[1-i]) {
							return errors.New("not yet")
						}
						return nil
					})
				}
				g.dir.setDown(false)
				g.ready("a", "b")
				g.sealed(acked)
				g.identical(20 * time.Second)
				g.verifyAll(acked, "a", "b")
				g.verifyHere(acked, "a", "b")
			}
		})
	}
}

// TestLostTailAlone: the copy whose disk has lost the end comes back first, and finds nobody. It waits for the other one, and gives up only
// when that stays away.
func TestLostTailAlone(t *testing.T) {
	patient := func(c *Config) { c.PeerDown = 10 * time.Second }
	for _, lost := range []string{"a", "b"} {
		t.Run(lost, func(t *testing.T) {
			g := newGroup(t, place{id: "a", region: "south", tune: patient}, place{id: "b", region: "north", tune: patient})
			g.openWith("a", "b")
			acked := g.at("a").putMany(10)
			g.dir.setDown(true) // the last words of who is killed
			g.at("a").kill()
			g.at("b").kill()
			first := g.at(lost)
			first.shorten()
			first.start(nil)
			id := acked[0].Volume
			first.m.startSeal(must(g.dir.entry(id)), false) // b's would begin it after PeerDown
			g.dir.setDown(false)
			eventually(t, "a seal waits", 10*time.Second, func() error {
				if first.m.stats.sealFailures.Load() == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			for _, id := range g.order {
				if id != lost {
					g.at(id).start(nil)
				}
			}
			g.sealed(acked)
			g.verifyHere(acked, "a", "b")
		})
	}
	t.Run("stays away", func(t *testing.T) {
		g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
		g.openWith("a", "b")
		acked := g.at("a").putMany(10)
		g.dir.setDown(true)
		g.at("a").kill()
		g.at("b").kill()
		g.at("a").start(nil)
		g.dir.setDown(false)
		g.sealed(acked)
		g.verifyAll(acked, "a")
	})
}

// TestDamageAcrossTheSealedLength: the power was cut before a's fsync, and of its last records only the very last reached the disk. The volume is sealed
// where b's file ends, in the middle of what a lacks.
func TestDamageAcrossTheSealedLength(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	acked := g.at("a").putMany(10)
	id := acked[0].Volume
	maps.DeleteFunc(acked, func(_ uint64, ref volume.Ref) bool { return ref.Volume != id })
	g.dir.setDown(true)
	path := make(map[string]string)
	for _, node := range g.order {
		g.at(node).kill()
		path[node] = filepath.Join(g.at(node).dir, id.String()+".vol")
		if err := os.Remove(filepath.Join(g.at(node).dir, id.String()+".idx")); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path["a"])
	if err != nil {
		t.Fatal(err)
	}
	size := (len(file) - 4096) / len(acked) // the records are of one size
	clear(file[len(file)-3*size : len(file)-size])
	if err := errors.Join(os.WriteFile(path["a"], file, 0o600), os.Truncate(path["b"], int64(len(file)-2*size))); err != nil {
		t.Fatal(err)
	}
	g.at("a").start(nil)
	g.at("b").start(nil)
	g.dir.setDown(false)
	last := uint64(len(acked) - 2)
	maps.DeleteFunc(acked, func(_ uint64, ref volume.Ref) bool { return ref.Record > last }) // as if these had never been acknowledged
	g.sealed(acked)
	g.wholeOn("a", must(g.dir.entry(id)))
	g.identical(10 * time.Second)
	g.verifyHere(acked, "a", "b")
}

// TestSealWhenBack: a seal that waits for another copy's node is tried again as soon as that is up.
func TestSealWhenBack(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	e := Entry{Copies: []string{"a", "b"}}
	a := g.at("a")
	g.at("b").kill()
	eventually(t, "a misses b", 10*time.Second, func() error {
		if a.net.Up("b") {
			return errors.New("not yet")
		}
		return nil
	})
	away := a.m.away(e)
	if away != 1 || a.m.untilBack(t.Context(), e, away, time.Now().Add(2*tickEvery)) {
		t.Errorf("%d nodes are away, or one was back before it was started", away)
	}
	back := make(chan bool, 1)
	go func() { back <- a.m.untilBack(t.Context(), e, away, time.Now().Add(time.Hour)) }()
	g.at("b").start(nil)
	select {
	case b := <-back:
		if !b {
			t.Error("the wait ended without b")
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody heard that b is back")
	}
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not there")
	}
	return v
}

// TestUnreadableTail: after a restart a copy's disk does not read the end of what it had acknowledged, and the primary is away.
func TestUnreadableTail(t *testing.T) {
	bad := new(atomic.Bool)
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if bad.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".vol") && op.Offset >= 8192 {
			return errorfs.ErrInjected
		}
		return nil
	}))
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north", fs: disk})
	g.at("b").kill()
	g.at("b").dir = filepath.Join(g.home, "b2")
	g.at("b").start(nil)
	g.openWith("a", "b")
	acked := g.at("a").putMany(10)
	g.dir.setDown(true)
	g.at("a").kill()
	g.at("b").kill()
	bad.Store(true)
	g.at("b").start(nil)
	g.dir.setDown(false)
	time.Sleep(2500 * time.Millisecond) // more than PeerDown: b would seal now
	g.at("a").start(nil)
	g.sealed(acked)
	time.Sleep(500 * time.Millisecond) // a's copy is cut, if it is to be
	g.verifyAll(acked, "a")
	g.verifyHere(acked, "a")
	bad.Store(false)
}

// sealed waits until the directory has seals of all volumes that references name.
func (g *group) sealed(refs map[uint64]volume.Ref) {
	g.t.Helper()
	eventually(g.t, "volumes are sealed", 20*time.Second, func() error {
		for _, ref := range refs {
			if e, ok := g.dir.entry(ref.Volume); ok && e.State != Sealed {
				return fmt.Errorf("volume %s is open", ref.Volume)
			}
		}
		return nil
	})
}

// verifyHere looks for the records in the nodes' own copies.
func (g *group) verifyHere(acked map[uint64]volume.Ref, ids ...string) {
	g.t.Helper()
	for _, id := range ids {
		for seed, ref := range acked {
			e, _ := g.dir.entry(ref.Volume)
			if !e.Holds(id) {
				continue
			}
			// What repair wrote is in the file before it is committed.
			eventually(g.t, fmt.Sprintf("message %d on %s", seed, id), 10*time.Second, func() error { return holds(g.at(id).set, ref) })
		}
	}
}

// TestLostKeyFile: a copy whose key file is gone gets the keys from the other copy, and serves again.
func TestLostKeyFile(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	acked := g.at("a").putMany(5)
	g.at("b").kill()
	if err := os.Remove(filepath.Join(g.at("b").dir, acked[0].Volume.String()+".key")); err != nil {
		t.Fatal(err)
	}
	g.at("b").start(nil)
	eventually(t, "b has the keys again", 20*time.Second, func() error { return holds(g.at("b").set, acked[0]) })
	g.verifyHere(acked, "a", "b")
}

// TestDamagedHeader: a copy whose header block is damaged gets it from the other copy.
func TestDamagedHeader(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	acked := g.at("a").putMany(5)
	g.at("b").kill()
	path := filepath.Join(g.at("b").dir, acked[0].Volume.String()+".vol")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 30); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	g.at("b").start(nil)
	g.sealed(acked)
	g.identical(10 * time.Second)
	g.verifyHere(acked, "a", "b")
}
