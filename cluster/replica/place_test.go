package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"hongyan/cluster/policy"
	"hongyan/engine/volume"
)

// partnersOf lists with whom a node has open volumes.
func (g *group) partnersOf(id string) map[string]bool {
	out := make(map[string]bool)
	for _, c := range g.at(id).m.candidates(Anywhere(""), volume.ClassSmall) {
		out[c.p.partner] = true
	}
	return out
}

// TestRegionLost: two copies in one region will do while no other region has a node, and not longer.
func TestRegionLost(t *testing.T) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "south"}, place{id: "c", region: "north"})
	g.openWith("a", "c")
	eventually(t, "a has no volume with both copies in its region when another region has a node", 10*time.Second, func() error {
		if p := g.partnersOf("a"); p["b"] || !p["c"] {
			return fmt.Errorf("partners are %v", p)
		}
		return nil
	})
	w := g.write(4, "a")
	time.Sleep(100 * time.Millisecond)
	g.at("c").kill()
	g.openWith("a", "b")
	time.Sleep(100 * time.Millisecond)
	g.at("c").start(nil)
	g.openWith("a", "c")
	eventually(t, "the volume within the region is retired", 10*time.Second, func() error {
		if p := g.partnersOf("a"); p["b"] || !p["c"] {
			return fmt.Errorf("partners are %v", p)
		}
		return nil
	})
	acked := w.end()
	w.stalls(t, 1500*time.Millisecond)
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

// TestHome: one copy is in the recipient's region whichever node takes the message in.
func TestHome(t *testing.T) {
	g := newGroup(t, three()...)
	for _, id := range g.order {
		var others []string
		for _, other := range g.order {
			if other != id {
				others = append(others, other)
			}
		}
		g.openWith(id, others...)
	}
	for _, from := range g.order {
		for _, home := range g.order {
			n := g.at(from)
			blob := n.blob(message(1, 1000))
			ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
			ref, err := n.m.Put(ctx, Anywhere(g.at(home).region), volume.KindMessage, nil, blob)
			stop()
			if err != nil {
				t.Fatal(err)
			}
			if err := blob.Close(); err != nil {
				t.Fatal(err)
			}
			if e, _ := g.dir.entry(ref.Volume); !e.Holds(home) || len(e.Copies) != 2 || e.Copies[0] == e.Copies[1] {
				t.Errorf("put at %s for %s is on %v", from, home, e.Copies)
			}
		}
	}
}

// TestPutElsewhere: a node without volumes, and one that can open none, store with peers.
func TestPutElsewhere(t *testing.T) {
	places := append(three(), place{id: "f", region: "north"})
	places[3].tune = func(c *Config) { c.Volumes = nil }
	for i := range places[:3] {
		places[i].tune = func(c *Config) {
			c.Peers = func() []Peer {
				return []Peer{{ID: "a", Region: "south", Weight: 10}, {ID: "b", Region: "north", Weight: 10}, {ID: "c", Region: "sea", Weight: 10}}
			}
		}
	}
	f := places[3].tune
	places[3].tune = func(c *Config) { places[0].tune(c); f(c) }
	g := newGroup(t, places...)
	g.ready("a", "b", "c")
	for i, size := range []int{0, 5000, 3 << 20} {
		// Where the machine is so busy that b seems to ail, another node is right.
		eventually(t, "the primary is in the region of f", 30*time.Second, func() error {
			ref := g.at("f").mustPut(uint64(i), size)
			for _, id := range g.order {
				if err := g.at(id).verify(ref, uint64(i)); err != nil {
					t.Errorf("read at %s: %v", id, err)
				}
			}
			if e, _ := g.dir.entry(ref.Volume); e.Primary != "b" {
				return fmt.Errorf("it is %s", e.Primary)
			}
			return nil
		})
	}
}

// TestPutEnds: with nobody to store at, Put says so when its time is up.
func TestPutEnds(t *testing.T) {
	g := newGroup(t, three()...)
	g.ready("a")
	g.at("b").kill()
	g.at("c").kill()
	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	began := time.Now()
	_, err := g.at("a").put(ctx, 1, 1000)
	t.Log(err)
	if err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	eventually(t, "a is not ready", 3*time.Second, func() error {
		if g.at("a").m.Ready() == nil {
			return fmt.Errorf("ready without another node")
		}
		return nil
	})
}

// TestPolicyGivenUp has a put go on under the policy that took the place of the one that it began with, of which no volume is open any more.
func TestPolicyGivenUp(t *testing.T) {
	g := newGroup(t, three()...)
	g.ready("a", "b", "c")
	blob := g.at("a").blob(message(7, 3000))
	defer blob.Close()
	asked := 0
	to := Place{Home: "south", Policy: policy.Policy{Copies: 3, Survive: policy.Region}}
	to.Now = func(context.Context) (policy.Policy, error) {
		if asked++; asked < 2 {
			return policy.Policy{}, errors.New("not known now")
		}
		return policy.Default(), nil
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	ref, err := g.at("a").m.Put(ctx, to, volume.KindMessage, nil, blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.at("a").verify(ref, 7); err != nil || asked < 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
