package replica

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"hongyan/engine/effort"
	"hongyan/engine/volume"
)

func TestPutAndReadEverywhere(t *testing.T) {
	g := newGroup(t, three()...)
	g.ready("a", "b", "c")
	sizes := []int{0, 1, 300, 10 << 10, 256 << 10, 300<<10 + 7, 3 << 20, effort.Of(5<<20, 12<<20, 12<<20)}
	for i, size := range sizes {
		for _, id := range g.order {
			ref := g.at(id).mustPut(uint64(i), size)
			for _, reader := range g.order {
				if err := g.at(reader).verify(ref, uint64(i)); err != nil {
					t.Errorf("%d bytes put at %s, read at %s: %v", size, id, reader, err)
				}
			}
		}
	}
	ref := g.at("a").mustPut(99, 2<<20)
	for _, reader := range g.order {
		if err := g.at(reader).verify(ref, 99); err != nil {
			t.Error(err)
		}
	}
}

// writers put concurrently until told to stop, and note what was acknowledged.
type writers struct {
	mu    sync.Mutex
	acked map[uint64]volume.Ref
	worst time.Duration // longest stall of a put
	pause time.Duration // longest time that this process did not run
	wg    sync.WaitGroup
	stop  chan struct{}
}

// putEvery is a writer's rest: a fast disk would use up the volumes of a test, whose key files are short.
const putEvery = 4 * time.Millisecond

func (g *group) write(n int, ids ...string) *writers {
	w := &writers{acked: make(map[uint64]volume.Ref), stop: make(chan struct{})}
	w.wg.Add(1)
	go w.watch()
	for i := range n {
		from := g.at(ids[i%len(ids)])
		w.wg.Add(1)
		go func() {
			defer w.wg.Done()
			for k := 0; ; k++ {
				select {
				case <-w.stop:
					return
				default:
				}
				time.Sleep(putEvery)
				seed := uint64(i)<<32 | uint64(k)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				began := time.Now()
				ref, err := from.put(ctx, seed, 100+k*997%9000)
				cancel()
				w.mu.Lock()
				if err != nil {
					g.t.Errorf("put at %s: %v", from.id, err)
				} else {
					w.acked[seed] = ref
				}
				w.worst = max(w.worst, time.Since(began))
				w.mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
	return w
}

// watch notes how much of a stall is the machine's.
func (w *writers) watch() {
	defer w.wg.Done()
	const step = 5 * time.Millisecond
	for before := time.Now(); ; {
		select {
		case <-w.stop:
			return
		case <-time.After(step):
		}
		now := time.Now()
		w.mu.Lock()
		w.pause = max(w.pause, now.Sub(before)-step)
		w.mu.Unlock()
		before = now
	}
}

// stalls fails the test if a put took longer, apart from what a busy machine may have added.
func (w *writers) stalls(t *testing.T, most time.Duration) {
	t.Helper()
	t.Logf("%d acknowledged, longest stall %s, longest pause of the machine %s", len(w.acked), w.worst, w.pause)
	if w.worst > most+10*w.pause {
		t.Errorf("longest stall %s, expected at most %s", w.worst, most)
	}
}

func (w *writers) end() map[uint64]volume.Ref {
	close(w.stop)
	w.wg.Wait()
	return w.acked
}

func (g *group) verifyAll(acked map[uint64]volume.Ref, ids ...string) {
	g.t.Helper()
	const most = 500 // of each node's reads; a map gives them in random order
	for _, id := range ids {
		bad, done := 0, 0
		for seed, ref := range acked {
			if done++; done > most {
				break
			}
			if err := g.at(id).verify(ref, seed); err != nil {
				bad++
				if bad < 5 {
					g.t.Errorf("read at %s: %v", id, err)
				}
			}
		}
	}
}

func TestNodeDiesUnderLoad(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	g.openWith("c", "a", "b")
	w := g.write(8, "a", "c")
	time.Sleep(300 * time.Millisecond)
	g.at("b").kill()
	time.Sleep(1500 * time.Millisecond) // longer than PeerDown: b's own volumes are sealed by the others
	acked := w.end()
	w.stalls(t, 700*time.Millisecond)
	g.verifyAll(acked, "a", "c")
	g.at("b").start(nil)
	g.ready("b")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "b")
}

func TestBlackHole(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	w := g.write(4, "a")
	time.Sleep(200 * time.Millisecond)
	for _, other := range []string{"a", "c"} {
		g.cut("b", other, true)
	}
	time.Sleep(3 * time.Second)
	for _, other := range []string{"a", "c"} {
		g.cut("b", other, false)
	}
	time.Sleep(500 * time.Millisecond)
	acked := w.end()
	w.stalls(t, time.Second)
	g.ready("a", "b", "c")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

func TestRestartSealsAndDropsEmpty(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	ref := g.at("a").mustPut(1, 5000)
	g.at("a").kill()
	g.at("a").start(nil)
	g.ready("a")
	eventually(t, "seal", 5*time.Second, func() error {
		if e, _ := g.dir.entry(ref.Volume); e.State != Sealed {
			return fmt.Errorf("volume %s is %s", ref.Volume, e.State)
		}
		return nil
	})
	g.identical(10 * time.Second)
	for _, id := range g.order {
		if err := g.at(id).verify(ref, 1); err != nil {
			t.Errorf("read at %s: %v", id, err)
		}
	}
}

func TestCloseSealsWithinContext(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	ref := g.at("a").mustPut(1, 5000)
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if err := g.at("a").m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if e, _ := g.dir.entry(ref.Volume); e.State != Sealed {
		t.Errorf("volume %s is %s after a graceful stop", ref.Volume, e.State)
	}
}
