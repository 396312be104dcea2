package replica

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/policy"
)

// TestCrew: to which nodes mail may go. A word is name:region, behind - if it is drained, ! if it is lost, 0 if it weighs nothing, and ? if it cannot be used.
func TestCrew(t *testing.T) {
	south := policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"south"}}
	thrice := policy.Policy{Copies: 3, Survive: policy.Region}
	for _, c := range []struct {
		what  string
		rule  policy.Policy
		peers string
		want  string
		rank  int
	}{
		{"who takes mail, as long as two can", policy.Default(), "a:south b:north 0c:sea -d:sea", "a b", willing},
		{"also in one region", policy.Default(), "a:south b:south 0c:sea", "a b", willing},
		{"one fails: who weighs nothing is called, and the one that fails stays", policy.Default(), "a:south ?b:north 0c:sea -d:sea", "a b c", weightless},
		{"or who leaves, if nobody else is there", policy.Default(), "a:south ?b:north -c:sea", "a b c", leaving},
		{"or cannot be used", policy.Default(), "a:south ?b:north ?0c:sea -d:sea", "a b c d", leaving},
		{"only one weighs anything", policy.Default(), "a:south 0b:north 0c:sea", "a b c", weightless},
		{"none does", policy.Default(), "0a:south 0b:north -c:sea", "a b", weightless},
		{"a drain of one of two", policy.Default(), "a:south -b:north", "a b", leaving},
		{"all leave", policy.Default(), "-a:south -b:north", "a b", leaving},
		{"the lost are not called", policy.Default(), "a:south !b:north", "a", leaving},
		{"not enough, whoever is called", policy.Default(), "a:south ?b:north ?0c:sea", "a b c", leaving},
		{"a third copy", thrice, "a:south b:north 0c:sea", "a b c", weightless},
		{"not outside the policy's regions", south, "a:south ?b:south 0c:north -d:sea", "a b", leaving},
		{"its own region's node that leaves, for that policy", south, "a:south b:north c:sea -d:south", "a d", leaving},
		{"and for no other", policy.Default(), "a:south b:north c:sea -d:south", "a b c", willing},
	} {
		down := make(map[string]bool)
		var peers []Peer
		for _, word := range strings.Fields(c.peers) {
			name := strings.TrimLeft(word, "-!0?")
			p := peersIn(name)[0]
			marks := strings.TrimSuffix(word, name)
			down[p.ID] = strings.Contains(marks, "?")
			p.Lost = strings.Contains(marks, "!")
			p.Leaving = p.Lost || strings.Contains(marks, "-")
			if strings.Contains(marks, "0") {
				p.Weight = 0
			}
			peers = append(peers, p)
		}
		crew, rank := crewOf(c.rule, peers, func(node string) bool { return !down[node] })
		got := slices.Sorted(slices.Values(ids(crew)))
		if strings.Join(got, " ") != c.want || rank != c.rank {
			t.Errorf("%s: %v down to rank %d, expected %s down to %d", c.what, got, rank, c.want, c.rank)
		}
	}
}

// only waits until a node has open volumes with some others, and with nobody else.
func (g *group) only(id string, others ...string) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%s has volumes with %v only", id, others), 20*time.Second, func() error {
		have := g.partnersOf(id)
		for _, other := range others {
			if !have[other] {
				return fmt.Errorf("with %v", have)
			}
		}
		if len(have) > len(others) {
			return fmt.Errorf("with %v", have)
		}
		return nil
	})
}

// TestReserve has one of the two nodes that take mail fail, while the third weighs nothing or is being drained: mail goes on with that one, and without it
// when the other is back.
func TestReserve(t *testing.T) {
	for what, set := range map[string]func(g *group){
		"weight 0": func(g *group) { g.set("c", 0, false) },
		"drained":  func(g *group) { g.set("c", 10, true) },
	} {
		t.Run(what, func(t *testing.T) {
			g := newGroup(t, three()...)
			g.ready("a", "b", "c")
			set(g)
			g.only("a", "b")
			g.only("b", "a")
			g.only("c")
			eventually(t, "a may miss others", 5*time.Second, func() error {
				if since := time.Since(g.at("a").m.began); since < reserveAfter {
					return fmt.Errorf("it was started %v ago", since)
				}
				return nil
			})
			yields := func(want bool) {
				t.Helper()
				eventually(t, fmt.Sprint("c leaves mail to others: ", want), 10*time.Second, func() error {
					if got := g.at("c").m.yields(policy.Default()); got != want {
						return fmt.Errorf("%v", got)
					}
					return nil
				})
			}
			yields(true)
			w := g.write(3, "a", "c")
			g.at("b").kill()
			g.openWith("a", "c")
			yields(false)
			time.Sleep(300 * time.Millisecond) // of mail
			g.at("b").start(nil)
			yields(true)
			g.only("a", "b")
			g.only("b", "a")
			g.only("c")
			acked := w.end()
			w.stalls(t, 700*time.Millisecond)
			if what == "drained" {
				g.left("c", true)
			}
			g.identical(20 * time.Second)
			g.verifyAll(acked, "a", "b", "c")
		})
	}
}

// TestReserveLost: a node that was given up as lost takes no mail, however few others do.
func TestReserveLost(t *testing.T) {
	g := newGroup(t, three()...)
	g.ready("a", "b", "c")
	g.peersMu.Lock()
	g.peers[2].Leaving, g.peers[2].Lost = true, true
	g.peersMu.Unlock()
	g.only("a", "b")
	g.only("c")
	g.at("b").kill()
	g.only("a")
	eventually(t, "a misses a partner", 10*time.Second, func() error {
		if crew, rank := g.at("a").m.crew(policy.Default(), time.Now()); rank != leaving || slices.Contains(ids(crew), "c") {
			return fmt.Errorf("%v down to %d", ids(crew), rank)
		}
		return nil
	})
	if _, err := g.at("c").m.serveOffer(t.Context(), "a", &offerRequest{Last: true}); err == nil {
		t.Error("the lost node takes a volume")
	}
	if p := g.partnersOf("a"); len(p) > 0 {
		t.Errorf("a has volumes with %v", p)
	}
}

// TestReserveFull has the disk of one of the two nodes that take mail run full: mail goes to the one that weighs nothing until there is room.
func TestReserveFull(t *testing.T) {
	disk := newFull()
	places := three()
	g := newGroup(t, places[0], place{id: "b", region: "north", fs: disk}, places[2])
	g.at("b").kill()
	g.at("b").dir = filepath.Join(g.home, "b2")
	g.at("b").start(nil)
	g.ready("a", "b", "c")
	g.set("c", 0, false)
	g.only("a", "b")
	w := g.write(3, "a", "b", "c")
	disk.on.Store(true)
	g.openWith("a", "c")
	time.Sleep(300 * time.Millisecond) // of mail
	disk.on.Store(false)
	g.only("a", "b")
	g.only("c")
	acked := w.end()
	w.stalls(t, 1500*time.Millisecond)
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

// TestReserveOnly has one node alone take mail: the others are called, for copies and, when that one dies, to take mail between them.
func TestReserveOnly(t *testing.T) {
	g := newGroup(t, three()...)
	g.ready("a", "b", "c")
	g.set("b", 0, false)
	g.set("c", 0, false)
	w := g.write(3, "c")
	g.at("b").kill() // the volumes that were open before end
	g.at("b").start(nil)
	g.openWith("a", "b")
	g.openWith("a", "c")
	g.at("a").kill()
	g.openWith("b", "c")
	g.openWith("c", "b")
	g.at("a").start(nil)
	g.ready("a", "b", "c")
	acked := w.end()
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

// TestPlacesUp: what a policy's reasons count are nodes that answer and take mail, and those that do so under it as a last resort.
func TestPlacesUp(t *testing.T) {
	peers := peersIn("a:south/x b:south/y c:south/z d:north")
	peers[1].Leaving = true
	south := policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"south"}}
	for _, c := range []struct {
		down string
		want string
	}{{"", "x z  "}, {"c", "x y  "}, {"b", "x z  "}, {"a c", "y  "}} {
		places := PlacesUp(south, peers, func(node string) bool { return !strings.Contains(c.down, node) })
		got := ""
		for _, at := range places {
			got += at.Zone + " "
		}
		if got != c.want { // d is counted too, and has no zone
			t.Errorf("down %q: %q, expected %q", c.down, got, c.want)
		}
	}
}
