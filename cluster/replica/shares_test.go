package replica

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"hongyan/engine/volume"
)

// fill stores messages at nodes, so many at each, all nodes at the same time.
func (g *group) fill(messages, size int, ids ...string) {
	g.t.Helper()
	var work sync.WaitGroup
	for i, id := range ids {
		for k := range 4 {
			work.Go(func() {
				for n := k; n < messages; n += 4 {
					if _, err := g.at(id).put(g.t.Context(), uint64(i<<32|n), size); err != nil {
						g.t.Error(err)
						return
					}
				}
			})
		}
	}
	work.Wait()
}

// bytesOn is how much each node stores.
func (g *group) bytesOn() map[string]float64 {
	out := make(map[string]float64)
	for _, id := range g.order {
		out[id] = float64(g.at(id).set.Stats().Bytes)
	}
	return out
}

// agree waits until all nodes know the table of nodes as it is now.
func (g *group) agree() {
	g.t.Helper()
	var s shares
	s.reset(g.table())
	for _, id := range g.order {
		eventually(g.t, id+" knows the weights", 10*time.Second, func() error {
			o := &g.at(id).m.shares
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.key != s.key {
				return fmt.Errorf("another set of nodes")
			}
			return nil
		})
	}
}

// spread gives how the mail of work was spread, as shares of all of it.
func (g *group) spread(work func()) map[string]float64 {
	before := g.bytesOn()
	work()
	after, sum := g.bytesOn(), 0.0
	for id := range after {
		after[id] -= before[id]
		sum += after[id]
	}
	for id := range after {
		after[id] /= sum
	}
	return after
}

// expect checks such shares.
func (g *group) expect(got map[string]float64, within float64, want map[string]float64) {
	g.t.Helper()
	for id, share := range want {
		g.t.Logf("%s: %.1f %%, wanted %.1f", id, 100*got[id], 100*share)
		if math.Abs(got[id]-share) > within {
			g.t.Errorf("%s has %.1f %% of the new mail, expected %.1f", id, 100*got[id], 100*share)
		}
	}
}

// split checks how the mail of work was spread.
func (g *group) split(work func(), within float64, want map[string]float64) {
	g.t.Helper()
	g.expect(g.spread(work), within, want)
}

// avoids says whether a node has put nothing at another one for a while, as after a moment of doubt.
func (g *group) avoids(id, other string) bool {
	m := g.at(id).m
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.avoided[other])
}

// even has nothing but weights tell nodes apart, however busy the machine is: no distance, and nobody is slow.
func even(places ...place) []place {
	for i := range places {
		places[i].tune = func(c *Config) {
			c.AckTimeout = 20 * time.Second
			c.rtt = func(string) (time.Duration, bool) { return 0, true }
		}
	}
	return places
}

// lastOn is the latest volume that has a copy on a node, of those that are left.
func (g *group) lastOn(id string) (last volume.ID) {
	g.dir.mu.Lock()
	defer g.dir.mu.Unlock()
	for _, e := range g.dir.volumes {
		if e.Holds(id) {
			last = max(last, e.ID)
		}
	}
	return last
}

// TestWeights: two nodes have equal shares; with a third that joins at run time new mail follows 5:5:10.
func TestWeights(t *testing.T) {
	g := newGroup(t, even(three()...)...)
	g.set("c", 0, false)
	g.agree()
	g.openWith("a", "b")
	g.openWith("b", "a")
	// Where the machine is so busy that a or b was in doubt, c was called for the moment: then once more.
	eventually(t, "mail at a and b alone", time.Minute, func() error {
		g.only("a", "b")
		g.only("b", "a")
		g.only("c")
		before := g.lastOn("c")
		got := g.spread(func() { g.fill(60, 40<<10, g.order...) })
		if g.lastOn("c") > before {
			return fmt.Errorf("c was called, and has %.1f %%", 100*got["c"])
		}
		g.expect(got, 0.001, map[string]float64{"a": 0.5, "b": 0.5, "c": 0})
		return nil
	})
	g.set("a", 5, false)
	g.set("b", 5, false)
	g.set("c", 10, false)
	g.agree()
	g.openWith("a", "b", "c")
	g.openWith("b", "a", "c")
	g.openWith("c", "a", "b")
	g.fill(100, 40<<10, g.order...) // what nodes hear of each other is some messages behind; on a fast disk that is many at first
	g.split(func() { g.fill(300, 40<<10, g.order...) }, 0.025, map[string]float64{"a": 0.25, "b": 0.25, "c": 0.5})
}

// TestWeightsInARegion: mail that comes to one node of a region is shared with a near one.
func TestWeightsInARegion(t *testing.T) {
	g := newGroup(t, even(place{id: "a", region: "south"}, place{id: "b", region: "south"}, place{id: "c", region: "north"})...)
	g.agree()
	g.openWith("a", "c")
	g.openWith("b", "c")
	g.fill(1, 40<<10, "a") // has it ask the others; until they have answered it keeps everything
	eventually(t, "a knows that b stores", 10*time.Second, func() error {
		if !g.at("a").m.shares.anyStores([]string{"b"}) {
			return errors.New("it has not said so")
		}
		return nil
	})
	work := func() { g.fill(400, 40<<10, "a") } // quicker than anything that was avoided is asked again
	got := g.spread(work)
	for g.avoids("a", "b") { // a busy machine had it in doubt: once that is over it catches up
		eventually(t, "b is avoided", 10*time.Second, func() error {
			if g.avoids("a", "b") {
				return errors.New("it still is")
			}
			return nil
		})
		g.fill(1600, 40<<10, "a")
		got = g.spread(work)
	}
	g.expect(got, 0.03, map[string]float64{"a": 0.25, "b": 0.25, "c": 0.5})
}

// TestPartnersByWeight: of many nodes each keeps volumes with a few, and all together with each as its weight says.
func TestPartnersByWeight(t *testing.T) {
	const nodes = 300
	chosen := make(map[uint32]float64)
	for i := range nodes {
		var peers []Peer
		for k := range nodes {
			if k != i {
				peers = append(peers, Peer{ID: fmt.Sprintf("n%d", k), Weight: uint32(5 << (k % 3))})
			}
		}
		score := func(p Peer) float64 {
			h := fnv.New64a()
			_, _ = fmt.Fprintf(h, "n%d\x00%s", i, p.ID)
			return rendezvous(h.Sum64(), p.Weight)
		}
		slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(score(a), score(b)) })
		for _, p := range peers[:maxPartners] {
			chosen[p.Weight]++
		}
	}
	for weight, got := range chosen {
		want := float64(weight) / 35 * nodes * maxPartners
		t.Logf("weight %d: chosen %.0f times, %.0f wanted", weight, got, want)
		if math.Abs(got-want) > want/10 {
			t.Errorf("weight %d: chosen %.0f times, expected about %.0f", weight, got, want)
		}
	}
}

// TestTurns: one partner has its turn until it is a quantum above the lowest, whatever comes, and a set that changed begins anew.
func TestTurns(t *testing.T) {
	s := shares{lead: make(map[turn][]string)}
	peers := []Peer{{ID: "a", Weight: 10}, {ID: "b", Weight: 10}, {ID: "c", Weight: 20}, {ID: "d"}}
	s.reset(peers)
	nodes := []string{"b", "c", "d"}
	took := make(map[string]int)
	turns, before := 0, ""
	for range 4000 {
		for i, st := range s.standings(turn{}, nodes) {
			if !st.lead {
				continue
			}
			if nodes[i] != before {
				turns, before = turns+1, nodes[i]
			}
			took[nodes[i]] += 10 << 10
			s.count(nodes[i], 10<<10)
		}
	}
	t.Logf("%v in %d turns", took, turns)
	if ratio := float64(took["c"]) / float64(took["b"]); math.Abs(ratio-2) > 0.1 || took["d"] > 0 {
		t.Errorf("%v", took)
	}
	if most := 4000 * 10 << 10 / turnBytes; turns > most || turns < 10 {
		t.Errorf("%d turns, at most %d expected", turns, most)
	}
	s.told("b", shareReply{Key: s.key + 1, Taken: 1 << 40})
	if st := s.standings(turn{}, nodes); st[0].level > st[1].level*2 {
		t.Errorf("an answer for another set of nodes counts: %+v", st)
	}
	peers[0].Weight = 5
	s.reset(peers)
	if st := s.standings(turn{}, nodes); st[0].level != 0 || st[1].level != 0 {
		t.Errorf("what was before the change counts: %+v", st)
	}
}
