package replica

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/volume"
)

// checkers are what package scrub is to the nodes of a group: they verify a copy when they are asked to.
type checkers struct {
	g    atomic.Pointer[group]
	work sync.WaitGroup

	mu    sync.Mutex // guards known
	known map[string]map[volume.ID]Checked
}

func newChecked(t *testing.T, places ...place) (*group, *checkers) {
	t.Helper()
	k := &checkers{known: make(map[string]map[volume.ID]Checked)}
	for i := range places {
		id := places[i].id
		k.known[id] = make(map[volume.ID]Checked)
		places[i].tune = func(c *Config) {
			c.Verify = func(vol volume.ID) { k.work.Go(func() { k.verify(id, vol) }) }
			c.Checked = func(vol volume.ID, _ uint32) Checked {
				k.mu.Lock()
				defer k.mu.Unlock()
				return k.known[id][vol]
			}
			c.Damaged = func(vol volume.ID, _ uint64) {
				k.mu.Lock()
				k.known[id][vol] = Checked{Doubted: true}
				k.mu.Unlock()
				c.Verify(vol)
			}
		}
	}
	t.Cleanup(k.work.Wait)
	g := newGroup(t, places...)
	k.g.Store(g)
	return g, k
}

func (k *checkers) verify(id string, vol volume.ID) {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	n := k.g.Load().at(id)
	m := n.manager()
	if m == nil {
		return
	}
	e, _ := m.Entry(vol)
	nodes, files := m.Others(ctx, e)
	out, err := m.cfg.Volumes.Verify(vol, volume.Check{Others: files})
	if err != nil {
		return
	}
	c := Checked{Proved: out.Damaged == 0, Damaged: out.Damaged}
	for i, file := range files {
		if Answered(file) {
			c.Asked = append(c.Asked, nodes[i])
		}
	}
	for _, f := range out.Findings {
		if !f.Mended {
			c.Records = append(c.Records, f.Record)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[id][vol] = c
}

// beginDamaged has a volume on a and b of which a loses a record; or both lose that and the last one. b is to leave, and c has a copy that was filled from what was left.
func beginDamaged(t *testing.T, g *group, both, down bool) (e Entry, good []byte, acked map[uint64]volume.Ref) {
	t.Helper()
	e, acked = sealedOne(t, g, 10)
	good, err := g.at("a").raw(e.ID, e.Length)
	if err != nil {
		t.Fatal(err)
	}
	g.rot("a", e, len(acked), 3)
	if both {
		g.rot("b", e, len(acked), 3)
		g.rot("a", e, len(acked), len(acked)-1)
		g.rot("b", e, len(acked), len(acked)-1)
	}
	if down {
		g.at("b").kill()
	}
	g.set("b", 10, true)
	eventually(t, "c has a copy with damage", time.Minute, func() error {
		e, _ = g.dir.entry(e.ID)
		if r := g.at("c").m.askWhole("c", e, wholeRequest{}); !e.Holds("c") || !r.Complete {
			return fmt.Errorf("copies %v, %+v", e.Copies, r)
		}
		return nil
	})
	return e, good, acked
}

func (g *group) has(id string, vol volume.ID) bool {
	return slices.Contains(g.at(id).set.List(), vol)
}

func (g *group) same(e Entry, good []byte, ids ...string) error {
	for _, id := range ids {
		if got, err := g.at(id).raw(e.ID, e.Length); err != nil || !bytes.Equal(got, good) {
			return fmt.Errorf("%s has other bytes than there were: %v", id, err)
		}
	}
	return nil
}

// TestLastGoodCopyStays: b, which has the only good copy of a record, is given up while it is down, and c is filled from a's rotten copy. When b
// returns, named or not any more, the others are mended from its file before that goes.
func TestLastGoodCopyStays(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named %v", named), func(t *testing.T) {
			t.Parallel()
			g, _ := newChecked(t, three()...)
			e, good, _ := beginDamaged(t, g, false, true)
			if r := g.at("c").m.askWhole("c", e, wholeRequest{}); !r.Damaged || r.Whole || r.Proved || g.at("a").m.WholeOn("c", e) || !g.at("a").m.CompleteOn("c", e) {
				t.Errorf("a copy that was filled with damage says %+v", r)
			}
			if !named { // 30 minutes later
				for _, id := range []string{"a", "c"} {
					m := g.at(id).m
					m.mu.Lock()
					m.downSince["b"] = time.Now().Add(-lostFor)
					m.mu.Unlock()
				}
				eventually(t, "b is taken out of the entry", time.Minute, func() error {
					if e, _ = g.dir.entry(e.ID); e.Holds("b") {
						return fmt.Errorf("it is named: %v", e.Copies)
					}
					return nil
				})
			} else {
				driver := g.at("a").m
				eventually(t, "the driver sees damage", 20*time.Second, func() error {
					if driver.stats.moveFailures.Load() == 0 {
						return fmt.Errorf("no step has failed")
					}
					return nil
				})
				if e, _ = g.dir.entry(e.ID); !e.Holds("b") {
					t.Fatal("b was taken out of the entry while it was down for a moment")
				}
			}
			g.at("b").start(nil)
			eventually(t, "b has given up its file", time.Minute, func() error {
				if g.has("b", e.ID) {
					return fmt.Errorf("it is there")
				}
				return nil
			})
			if err := g.same(e, good, "a", "c"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrainEndsThoughARecordIsLost: where every copy has lost the same records, of which one is the last, there is nothing to wait for.
func TestDrainEndsThoughARecordIsLost(t *testing.T) {
	t.Parallel() // it mostly waits
	g, k := newChecked(t, three()...)
	e, _, acked := beginDamaged(t, g, true, false)
	eventually(t, "b has given up its file", time.Minute, func() error {
		if g.has("b", e.ID) {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	k.mu.Lock()
	if c := k.known["a"][e.ID]; c.Damaged != 2 || !slices.Contains(c.Asked, "b") {
		t.Errorf("b's file is gone, and a knows %+v", c)
	}
	k.mu.Unlock()
	lost := 0
	for _, ref := range acked {
		if r, err := g.at("c").m.Read(context.Background(), ref, 0, ref.Length); err != nil {
			lost++
		} else if _, err := io.Copy(io.Discard, r); err != nil {
			lost++
		}
	}
	if lost != 2 {
		t.Errorf("%d messages are lost, two were damaged", lost)
	}
}

// TestMoveWaitsForAProof: of the copies that stay none was ever verified, as after a restart. One is, and then the third goes.
func TestMoveWaitsForAProof(t *testing.T) {
	g, k := newChecked(t, three()...)
	e, _ := sealedOne(t, g, 3)
	m := g.at("a").m
	replies := map[string]wholeReply{"a": {Complete: true}, "b": {Complete: true}}
	if err := m.mayGo(e, "c", replies); err == nil {
		t.Fatal("the copy on c may go, and nobody knows whether others are good")
	}
	eventually(t, "a and b are verified", 20*time.Second, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.known["a"][e.ID].Proved || !k.known["b"][e.ID].Proved {
			return fmt.Errorf("%+v", k.known)
		}
		return nil
	})
	replies, _ = m.askAll(e)
	if err := m.mayGo(e, "c", replies); err != nil {
		t.Error(err)
	}
}

// TestManyUnreadablePlaces: b's disk does not give four records that a has lost. b has answered for each of them all the same, and a fifth is mended from it.
func TestManyUnreadablePlaces(t *testing.T) {
	var from, to atomic.Int64 // where b's disk has bad sectors
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".vol") && op.Offset >= from.Load() && op.Offset < to.Load() {
			return syscall.EIO
		}
		return nil
	}))
	g, k := newChecked(t, place{id: "a", region: "south"}, place{id: "b", region: "north", fs: disk})
	e, acked := sealedOne(t, g, 10)
	for _, record := range []int{1, 2, 3, 4, 7} {
		g.rot("a", e, len(acked), record)
	}
	size := (e.Length - 4096) / int64(len(acked))
	from.Store(4096 + size)
	to.Store(4096 + 5*size)
	k.verify("a", e.ID)
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.known["a"][e.ID]; !slices.Equal(c.Asked, []string{"b"}) || c.Damaged != 4 || !slices.Equal(c.Records, []uint64{2}) {
		t.Errorf("%+v", c)
	}
}

// TestFileThatEnds: b's file ends before a record that a has lost, and is not made longer. That is an answer, and what lies before it is mended from b, however near to the
// end and often.
func TestFileThatEnds(t *testing.T) {
	t.Parallel() // it mostly waits
	g, k := newChecked(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	e, acked := sealedOne(t, g, 10)
	for _, record := range []int{1, 2, 3, 4, 5, 6, 9} {
		g.rot("a", e, len(acked), record)
	}
	size := (e.Length - 4096) / int64(len(acked))
	b := g.at("b")
	if err := os.Truncate(filepath.Join(b.dir, e.ID.String()+".vol"), e.Length-size); err != nil {
		t.Fatal(err)
	}
	if _, err := b.set.Recheck(e.ID); err != nil {
		t.Fatal(err)
	}
	k.verify("a", e.ID)
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.known["a"][e.ID]; !slices.Equal(c.Asked, []string{"b"}) || c.Damaged != 1 || !slices.Equal(c.Records, []uint64{10}) {
		t.Errorf("%+v", c)
	}
	e.Generation++
	for _, named := range []bool{true, false} {
		if !named {
			e.Copies = []string{"a"}
		}
		file := &otherCopy{m: g.at("a").m, ctx: t.Context(), entry: e, node: "b"}
		if _, err := file.ReadAt(make([]byte, 16), 4096); err == nil || Answered(file) == named { // who is named is about to switch
			t.Errorf("b has another generation, named %v: %v, answered %v", named, err, Answered(file))
		}
	}
}
