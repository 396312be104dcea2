package relocate

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Members that come at different times go on at the same one, and nobody waits for who has left.
func TestConvoyMeets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := newConvoy(), time.Now()
		const pace = 20 * time.Millisecond // of the slowest, which has the most steps
		seats := []seat{c.join(), c.join(), c.join()}
		var work sync.WaitGroup
		for i := range seats {
			s := &seats[i]
			work.Go(func() {
				for step := range time.Duration(2 + i) {
					time.Sleep(time.Duration(i) * pace / 2)
					s.meet(t.Context())
					if now := time.Since(began); now != (step+1)*pace {
						t.Errorf("member %d goes on at %v from step %d", i, now, step)
					}
				}
				s.leave()
				s.leave()
				before := time.Now()
				if s.meet(t.Context()); time.Since(before) != 0 {
					t.Error("one that has left waits")
				}
			})
		}
		work.Wait()
	})
}

// One that does not come holds up the others for a moment at each step; when it does come it is one of them again.
func TestConvoyDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConvoy()
		a, b := c.join(), c.join()
		began := time.Now()
		a.meet(t.Context())
		a.meet(t.Context())
		if took := time.Since(began); took != 2*meetWait {
			t.Fatalf("it took %v", took)
		}
		a.short, began = true, time.Now()
		if a.meet(t.Context()); time.Since(began) != frozenWait {
			t.Fatalf("with a frozen account it took %v", time.Since(began))
		}
		a.short = false
		go b.meet(t.Context())
		synctest.Wait()
		began = time.Now()
		if a.meet(t.Context()); time.Since(began) != 0 {
			t.Error("they have not met")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if a.meet(ctx); time.Since(began) != time.Millisecond {
			t.Error("it waits for longer than anybody is interested")
		}
		b.leave()
		if a.meet(t.Context()); time.Since(began) != time.Millisecond {
			t.Error("it waits for one that has left")
		}
	})
}

// Whatever members do, no step waits for longer than it may, and nobody for ever.
func TestConvoyAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			c := newConvoy()
			var work sync.WaitGroup
			seats := make([]seat, 1+rnd.IntN(8))
			for i := range seats {
				seats[i] = c.join()
			}
			for i := range seats {
				s, own := &seats[i], rand.New(rand.NewPCG(seed, rnd.Uint64()))
				work.Go(func() {
					defer s.leave()
					for range own.IntN(8) {
						time.Sleep(time.Duration(own.IntN(own.IntN(300)+1)) * time.Millisecond)
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(own.IntN(400))*time.Millisecond)
						began := time.Now()
						s.meet(ctx)
						cancel()
						if took := time.Since(began); took > meetWait {
							t.Errorf("seed %d: it took %v", seed, took)
						}
					}
				})
			}
			work.Wait()
			if c.members != 0 || c.waiting != 0 {
				t.Errorf("seed %d: %d members, %d wait", seed, c.members, c.waiting)
			}
		})
	}
}
