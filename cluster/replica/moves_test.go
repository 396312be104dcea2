package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// small has volumes end soon, so that there are many.
func small(places []place) []place {
	for i := range places {
		places[i].tune = func(c *Config) { c.MaxVolume = 256 << 10 }
	}
	return places
}

// holders counts the whole files of each sealed volume on all disks, whoever is named.
func (g *group) holders() map[volume.ID]int {
	out := make(map[volume.ID]int)
	list, _ := g.dir.Volumes(context.Background())
	for _, e := range list {
		if e.State != Sealed || e.Length == 0 {
			continue
		}
		out[e.ID] = 0
		for _, id := range g.order {
			if s, err := os.Stat(filepath.Join(g.at(id).dir, e.ID.String()+".vol")); err == nil && s.Size() >= e.Length {
				out[e.ID]++
			}
		}
	}
	return out
}

// neverFewer fails the test if a volume that was whole on two disks is not any more, until it is ended. With only, none but those count that are
// sealed now: the other copy of one that ends by a crash may be cut.
func (g *group) neverFewer(only bool) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	first := g.holders()
	go func() {
		defer close(done)
		twice := make(map[volume.ID]bool)
		for {
			for id, n := range g.holders() {
				if _, counts := first[id]; only && !counts {
					continue
				}
				if twice[id] && n < 2 {
					g.t.Errorf("volume %s has %d whole copies", id, n)
					return
				}
				twice[id] = twice[id] || n >= 2
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() { close(stop); <-done }
}

// on is what the directory has on a node, nil if that is nothing.
func (g *group) on(id string) *Holding {
	g.dir.mu.Lock()
	defer g.dir.mu.Unlock()
	h := make(Holdings)
	for _, e := range g.dir.volumes {
		h.Add(e)
	}
	return h[id]
}

// left waits until nothing is left on a node, by the directory; files says by its disk too.
func (g *group) left(id string, files bool) {
	g.t.Helper()
	eventually(g.t, "nothing is left on "+id, time.Minute, func() error {
		if h := g.on(id); h != nil {
			return fmt.Errorf("%d copies of %d bytes", h.Copies, h.Bytes)
		}
		for _, file := range g.at(id).set.List() {
			// An empty one whose entry was dropped while the node was dead is swept a minute later.
			if _, known := g.dir.entry(file); files && known {
				return fmt.Errorf("the file of volume %s is there", file)
			}
		}
		return nil
	})
}

// TestDrain: one of three nodes is emptied while mail comes to all of them.
func TestDrain(t *testing.T) {
	g := newGroup(t, small(three())...)
	g.ready("a", "b", "c")
	end := g.neverFewer(false)
	w := g.write(6, "a", "b", "c")
	eventually(t, "sealed volumes on c", 20*time.Second, func() error {
		if s := g.at("c").m.Stats(); s.SealedCopies < 4 {
			return fmt.Errorf("%d", s.SealedCopies)
		}
		return nil
	})
	g.set("c", 10, true)
	g.left("c", true)
	if err := g.at("c").m.Ready(); err != nil {
		t.Errorf("the drained node's frontends: %v", err)
	}
	acked := w.end() // which fails if one was refused
	end()
	t.Logf("%d messages, %d copies moved", len(acked), g.at("a").m.Stats().Moves+g.at("b").m.Stats().Moves)
	g.identical(20 * time.Second)
	g.verifyAll(acked, "b", "c")
	g.left("c", true)     // also what came later, if a or b was in doubt for a moment
	g.set("c", 10, false) // the operator thinks better of it
	g.openWith("a", "b", "c")
}

// TestLostNode: copies of a node that is given up are made again from the others, unless moves are paused. When it returns with its old disk that
// is emptied.
func TestLostNode(t *testing.T) {
	var paused atomic.Bool
	places := small(three())
	for i := range places {
		tune := places[i].tune
		places[i].tune = func(c *Config) { tune(c); c.Paused = paused.Load }
	}
	g := newGroup(t, places...)
	for _, id := range g.order {
		g.ready(id)
	}
	w := g.write(3, "a", "b", "c")
	time.Sleep(500 * time.Millisecond)
	acked := w.end()
	paused.Store(true)
	g.at("c").kill()
	g.set("c", 10, true)
	var added atomic.Int32
	g.dir.mu.Lock()
	g.dir.changed = func(Entry) { added.Add(1) }
	g.dir.mu.Unlock()
	eventually(t, "a sees that copies are to move", 10*time.Second, func() error {
		if len(g.at("a").m.driven())+len(g.at("b").m.driven()) == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	time.Sleep(2 * moveEvery)
	if added.Load() > 0 {
		t.Error("copies were entered while moves are paused")
	}
	paused.Store(false)
	end := g.neverFewer(false)
	g.left("c", false)
	end()
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a")
	g.at("c").start(nil)
	g.left("c", true)
	g.verifyAll(acked, "b", "c")
}

// TestMovesSurviveCrashes: of a drain's driver, source and target each dies when a copy is entered, while it is made, and when one is taken out.
func TestMovesSurviveCrashes(t *testing.T) {
	places := small(append(three(), place{id: "d", region: "sea"}))
	for i := range places {
		tune := places[i].tune
		places[i].tune = func(c *Config) { tune(c); c.RepairRate = 2 << 20 }
	}
	g := newGroup(t, places...)
	for _, id := range g.order {
		g.ready(id)
	}
	w := g.write(4, "a", "b", "c", "d")
	eventually(t, "sealed volumes on c", 20*time.Second, func() error {
		if s := g.at("c").m.Stats(); s.SealedCopies < 9 {
			return fmt.Errorf("%d", s.SealedCopies)
		}
		return nil
	})
	acked := w.end()
	g.identical(20 * time.Second)
	victims := []func(e Entry) string{
		func(e Entry) string { return e.Copies[0] },               // mostly the driver
		func(Entry) string { return "c" },                         // the source
		func(e Entry) string { return e.Copies[len(e.Copies)-1] }, // the target
	}
	type death struct {
		id   string
		wait time.Duration
	}
	deaths := make(chan death, 2*len(victims)) // each at a copy that was entered, and at one that was taken out
	var added, removed int
	g.dir.mu.Lock()
	g.dir.changed = func(e Entry) {
		count, wait := &removed, time.Duration(0)
		if len(e.Copies) > 2 {
			count, wait = &added, time.Duration(added%3)*100*time.Millisecond // into the copying
		}
		if n := *count; n%3 == 0 && n/3 < len(victims) {
			t.Logf("%s dies: volume %s, copies %v", victims[n/3](e), e.ID, e.Copies)
			deaths <- death{victims[n/3](e), wait}
		}
		*count++
	}
	g.dir.mu.Unlock()
	end := g.neverFewer(true)
	var work sync.WaitGroup
	work.Go(func() {
		for d := range deaths {
			time.Sleep(d.wait)
			g.at(d.id).kill()
			time.Sleep(50 * time.Millisecond)
			g.at(d.id).start(nil)
		}
	})
	g.set("c", 10, true)
	eventually(t, "the directory has nothing on c", time.Minute, func() error {
		list, _ := g.dir.Volumes(context.Background())
		if slices.ContainsFunc(list, func(e Entry) bool { return e.Holds("c") }) {
			return fmt.Errorf("copies are there")
		}
		return nil
	})
	g.dir.mu.Lock()
	g.dir.changed = nil
	g.dir.mu.Unlock()
	close(deaths)
	work.Wait()
	g.left("c", true)
	end()
	if added < 7 || removed < 7 {
		t.Errorf("only %d copies entered and %d taken out: not everybody died at both", added, removed)
	}
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "c")
}

// TestHomes: where a copy goes that has to leave.
func TestHomes(t *testing.T) {
	peers := []Peer{{"a1", "a", 10, false, "x", false}, {"a2", "a", 10, false, "y", false}, {"b1", "b", 10, false, "", false}, {"b2", "b", 10, false, "", false}, {"c1", "c", 10, false, "", false},
		{"c2", "c", 0, false, "", false}, {"c3", "c", 10, true, "", false}, {"a3", "a", 10, true, "z", false}}
	for _, c := range []struct {
		what  string
		stay  []string
		going []string
		down  string
		first []string // one of these comes first
		rule  policy.Policy
	}{
		{"the region that it leaves", []string{"a1"}, []string{"c3"}, "", []string{"c1"}, policy.Policy{}},
		{"another one than the other copy's", []string{"a1"}, []string{"c3"}, "c1", []string{"b1", "b2"}, policy.Policy{}},
		{"also when both were in one", []string{"c1"}, []string{"c3"}, "", []string{"a1", "a2", "b1", "b2"}, policy.Policy{}},
		{"nobody stays", nil, []string{"c3", "c2"}, "", []string{"c1"}, policy.Policy{}},
		{"where the policy allows", []string{"a1"}, []string{"c3"}, "", []string{"b1", "b2"}, policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"a", "b"}}},
		{"nowhere else", []string{"b1"}, []string{"b2"}, "", []string{"a1", "a2"}, policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"a", "b"}}},
		{"in another zone", []string{"a1"}, []string{"a3"}, "", []string{"a2"}, policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"a"}}},
		{"in a third region", []string{"a1", "b1"}, []string{"b2"}, "", []string{"c1"}, policy.Policy{Copies: 3, Survive: policy.Region}},
		{"nothing goes, one is missing", []string{"a1", "b1"}, nil, "", []string{"c1"}, policy.Policy{Copies: 3, Survive: policy.Region}},
	} {
		e := Entry{ID: 7, Copies: append(slices.Clone(c.stay), c.going...)}
		if c.rule.Copies > 0 {
			e.Policy = &c.rule
		}
		got := homesFor(moving{entry: e, stay: c.stay, going: c.going}, peers, func(node string) bool { return node != c.down })
		if len(got) == 0 || !slices.Contains(c.first, got[0].ID) {
			t.Errorf("%s: %v", c.what, got)
		}
		for _, p := range got {
			if e.Holds(p.ID) || !p.Takes() || p.ID == c.down || !e.MayLie(p) {
				t.Errorf("%s: %s may get it", c.what, p.ID)
			}
		}
	}
}

// TestMisplaced has a node that the table of nodes takes for one of another region than it is in, where a policy allows copies: it takes none that is offered, opens no
// volume, and does not make one that it is named for.
func TestMisplaced(t *testing.T) {
	g := newGroup(t, small(three())...)
	g.peersMu.Lock()
	g.peers[2].Region = "land"
	g.peersMu.Unlock()
	g.ready("a", "b", "c")
	c := g.at("c")
	if _, err := c.m.serveOffer(t.Context(), "a", &offerRequest{}); !errors.Is(err, wire.ErrDenied) || !strings.Contains(err.Error(), "region sea by its configuration") {
		t.Errorf("a copy is offered: %v", err)
	}
	w := g.write(3, "a", "b", "c")
	var named Entry
	eventually(t, "a sealed volume", 20*time.Second, func() error {
		g.dir.mu.Lock()
		defer g.dir.mu.Unlock()
		for _, e := range g.dir.volumes {
			if e.State == Sealed && e.movable(e.Epoch) == nil {
				named = e
				return nil
			}
		}
		return errors.New("none yet")
	})
	acked := w.end()
	if h := g.on("c"); h != nil {
		t.Fatalf("%d copies came to the node", h.Copies)
	}
	g.dir.mu.Lock()
	now := g.dir.volumes[named.ID]
	now.Policy = &policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"land", "north", "south"}}
	now, err := now.WithCopy("c", now.Epoch)
	g.dir.volumes[named.ID] = now
	g.dir.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node refuses its copy", 20*time.Second, func() error {
		if c.m.Stats().RepairFailures == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if slices.Contains(c.set.List(), named.ID) {
		t.Errorf("volume %s (%s) lies in region sea", named.ID, now.Policy)
	}
	g.verifyAll(acked, "a", "b")
}
