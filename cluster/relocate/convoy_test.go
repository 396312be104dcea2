package relocate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/shard"
)

// tasksOf is a convoy whose commits take a time and give back what they are to commit; each is noted.
func tasksOf(takes time.Duration) (c *convoy, commits func() [][]string) {
	var mu sync.Mutex
	var list [][]string
	c = &convoy{commit: func(tasks []*task) {
		var bodies []string
		for _, t := range tasks {
			bodies = append(bodies, string(t.body))
		}
		slices.Sort(bodies)
		mu.Lock()
		list = append(list, bodies)
		mu.Unlock()
		time.Sleep(takes)
		for _, t := range tasks {
			t.result, t.at, t.took = t.body, 7, takes
			close(t.done)
		}
	}}
	return c, func() [][]string {
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}

func (s *seat) say(t *testing.T, ctx context.Context, word string) {
	t.Helper()
	if result, at, err := s.ProposeLevel(ctx, 1, feature.Moves, []byte(word), shard.ForPeople); err != nil || string(result) != word || at != 7 {
		t.Errorf("%s: %q at %d: %v", word, result, at, err)
	}
}

// Members that come at different times have their steps committed together, and nobody waits for who has left.
func TestConvoyMeets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, commits := tasksOf(time.Millisecond)
		const pace = 20 * time.Millisecond // of the slowest, which has the most steps
		seats := []seat{c.join(), c.join(), c.join()}
		var work sync.WaitGroup
		for i := range seats {
			s := &seats[i]
			work.Go(func() {
				for step := range 2 + i {
					time.Sleep(time.Duration(i) * pace / 2)
					s.say(t, t.Context(), fmt.Sprint(step, i))
					if s.took != time.Millisecond {
						t.Errorf("a commit took %v", s.took)
					}
				}
				s.leave()
				s.leave()
				s.say(t, t.Context(), fmt.Sprint("alone ", i))
			})
		}
		work.Wait()
		var got []string
		for _, bodies := range commits() {
			got = append(got, fmt.Sprint(bodies))
		}
		slices.Sort(got)
		want := []string{"[0 0 0 1 0 2]", "[1 0 1 1 1 2]", "[2 1 2 2]", "[3 2]", "[alone 0]", "[alone 1]", "[alone 2]"}
		if !slices.Equal(got, want) {
			t.Errorf("committed %q", got)
		}
	})
}

// One that does not come holds up the others for a moment at each step; when it does come it is one of them again. What nobody waits for any more is not committed.
func TestConvoyDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, commits := tasksOf(0)
		a, b := c.join(), c.join()
		began := time.Now()
		a.say(t, t.Context(), "1")
		a.say(t, t.Context(), "2")
		if took := time.Since(began); took != 2*meetWait {
			t.Fatalf("it took %v", took)
		}
		a.short, began = true, time.Now()
		if a.say(t, t.Context(), "3"); time.Since(began) != frozenWait {
			t.Fatalf("with a frozen account it took %v", time.Since(began))
		}
		a.short = false
		go b.say(t, t.Context(), "b")
		synctest.Wait()
		began = time.Now()
		if a.say(t, t.Context(), "4"); time.Since(began) != 0 {
			t.Error("they have not met")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := a.ProposeLevel(ctx, 1, feature.Moves, []byte("not"), shard.ForPeople); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Millisecond {
			t.Errorf("it waits for longer than anybody is interested: %v", err)
		}
		b.leave()
		if a.say(t, t.Context(), "5"); time.Since(began) != time.Millisecond {
			t.Error("it waits for one that has left")
		}
		if got := fmt.Sprint(commits()); got != "[[1] [2] [3] [4 b] [5]]" {
			t.Errorf("committed %s", got)
		}
	})
}

// Whatever members do, no step waits for longer than it may, each is committed once, and nobody waits for ever.
func TestConvoyAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			c, commits := tasksOf(0)
			var work sync.WaitGroup
			seats := make([]seat, 1+rnd.IntN(8))
			for i := range seats {
				seats[i] = c.join()
			}
			var mu sync.Mutex
			said := make(map[string]bool)
			for i := range seats {
				s, own := &seats[i], rand.New(rand.NewPCG(seed, rnd.Uint64()))
				work.Go(func() {
					defer s.leave()
					for step := range own.IntN(8) {
						time.Sleep(time.Duration(own.IntN(own.IntN(300)+1)) * time.Millisecond)
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(own.IntN(400))*time.Millisecond)
						began, word := time.Now(), fmt.Sprint(i, step)
						_, _, err := s.ProposeLevel(ctx, 1, feature.Moves, []byte(word), shard.ForPeople)
						cancel()
						if took := time.Since(began); took > meetWait {
							t.Errorf("seed %d: it took %v", seed, took)
						}
						mu.Lock()
						said[word] = err == nil
						mu.Unlock()
					}
				})
			}
			work.Wait()
			for _, bodies := range commits() {
				for _, word := range bodies {
					if _, ok := said[word]; !ok {
						t.Errorf("seed %d: %s is committed twice, or was never said", seed, word)
					}
					delete(said, word)
				}
			}
			for word, ok := range said {
				if ok {
					t.Errorf("seed %d: %s was never committed", seed, word)
				}
			}
			if c.members != 0 || len(c.waiting) != 0 {
				t.Errorf("seed %d: %d members, %d wait", seed, c.members, len(c.waiting))
			}
		})
	}
}

// What goes into one log entry is of one shard and class, and fits.
func TestBundles(t *testing.T) {
	large := shard.MaxCommand - 2*shard.BundleHeader - 3
	var tasks []*task
	for _, one := range []task{
		{shard: 1, body: make([]byte, 3)},
		{shard: 2, body: make([]byte, 3)},
		{shard: 1, body: make([]byte, large)},
		{shard: 1, body: make([]byte, 1)},
		{shard: 2, body: make([]byte, 3), class: shard.Background},
		{shard: 1, body: make([]byte, 2)},
	} {
		tasks = append(tasks, &one)
	}
	for range shard.MaxBundle + 1 {
		tasks = append(tasks, &task{shard: 3})
	}
	var got []string
	for _, b := range bundles(tasks) {
		size := 0
		for _, m := range b {
			if size += len(m.body) + shard.BundleHeader; m.shard != b[0].shard || m.class != b[0].class {
				t.Errorf("shard %d class %d beside shard %d class %d", m.shard, m.class, b[0].shard, b[0].class)
			}
		}
		if size > shard.MaxCommand {
			t.Errorf("%d bytes", size)
		}
		got = append(got, fmt.Sprintf("%d:%d", b[0].shard, len(b)))
	}
	if want := []string{"1:2", "2:1", "1:2", "2:1", "3:256", "3:1"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
