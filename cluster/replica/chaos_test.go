package replica

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hongyan/cluster/pause"
	"hongyan/engine/volume"
)

var chaos = flag.Uint64("chaos", 1, "TestChaos: how many seeds, from 1 on")

// TestChaos kills, starts, cuts, heals and fills at random under load. In the end every acknowledged message is
// readable at every node and all copies are equal.
func TestChaos(t *testing.T) {
	for seed := uint64(1); seed <= *chaos; seed++ {
		runChaos(t, seed)
	}
}

func runChaos(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	disk := newFull()
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"}, place{id: "c", region: "sea"},
		place{id: "d", region: "north"})
	g.at("d").kill()
	g.at("d").fs = disk
	g.at("d").start(nil)
	g.ready(g.order...)
	var mu sync.Mutex
	acked := make(map[uint64]volume.Ref)
	refused := 0
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range uint64(6) {
		n := g.at(g.order[i%4])
		wg.Go(func() {
			for k := uint64(0); ctx.Err() == nil; k++ {
				one, done := context.WithTimeout(ctx, 2*time.Second)
				ref, err := n.put(one, i<<32|k, int(100+k*997%20000))
				done()
				mu.Lock()
				if err == nil {
					acked[i<<32|k] = ref
				} else {
					refused++
				}
				mu.Unlock()
				if err != nil {
					pause.For(ctx, 10*time.Millisecond)
				}
			}
		})
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		g.trouble(rnd, disk)
		time.Sleep(time.Duration(50+rnd.IntN(400)) * time.Millisecond)
	}
	g.heal(disk)
	stop()
	wg.Wait()
	g.ready(g.order...)
	g.identical(30 * time.Second)
	t.Logf("seed %d: %d acknowledged, %d refused", seed, len(acked), refused)
	g.verifyAll(acked, g.order...)
	for _, id := range g.order {
		g.at(id).kill()
	}
}

// trouble does one random thing.
func (g *group) trouble(rnd *rand.Rand, disk *full) {
	a := g.order[rnd.IntN(len(g.order))]
	b := g.order[rnd.IntN(len(g.order))]
	switch rnd.IntN(6) {
	case 0:
		g.at(a).kill()
	case 1, 2:
		if g.at(a).manager() == nil {
			g.at(a).start(nil)
		}
	case 3:
		if a != b {
			g.cut(a, b, true)
		}
	case 4:
		for _, b := range g.order {
			if a != b {
				g.cut(a, b, false)
			}
		}
	case 5:
		disk.on.Store(!disk.on.Load())
	}
}

func (g *group) heal(disk *full) {
	disk.on.Store(false)
	for _, a := range g.order {
		for _, b := range g.order {
			if a != b {
				g.cut(a, b, false)
			}
		}
		if g.at(a).manager() == nil {
			g.at(a).start(nil)
		}
	}
}
