package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/pause"
)

// Turn is one piece of the work.
type Turn struct {
	Worker int // 0 to Workers-1; one does one piece at a time, with what belongs to it, such as a connection
	N      int // of the piece, from 0
	Due    time.Time
}

// Operation does one piece of the work. When ctx ends, it must return soon.
type Operation func(ctx context.Context, t Turn) error

// Open is an open loop: operations are due at their times, whether the server keeps up or not, as with users who do not know of each other.
type Open struct {
	Rate    float64 // operations a second
	Poisson bool    // arrivals at random, with that mean rate; else evenly
	Seed    uint64  // of the arrivals
	Workers int     // limit; what is due while all are busy is refused, and recorded as such
	// The run ends with the first of these that is set. One must be.
	For   time.Duration
	Count int
	// Grace is how long operations may still take that were begun; then their context ends. Ten seconds when zero.
	Grace time.Duration
}

// Bounds against mistyped settings.
const (
	maxRate    = 1e6
	maxWorkers = 100_000
)

// Run does operations until the end of the schedule or of ctx. It returns when all have ended.
func (o Open) Run(ctx context.Context, rec *Recorder, op Operation) error {
	if !(o.Rate > 0 && o.Rate <= maxRate) || o.Workers < 1 || o.Workers > maxWorkers || o.For <= 0 && o.Count <= 0 {
		return fmt.Errorf("open loop of %g operations a second by %d workers for %v or %d operations: want a rate and workers, at most %g and %d, and an end",
			o.Rate, o.Workers, o.For, o.Count, float64(maxRate), maxWorkers)
	}
	schedule, end := context.WithCancel(ctx)
	defer end()
	work, free := WithGrace(schedule, o.Grace)
	defer free()
	idle := make(chan Turn)
	var wg sync.WaitGroup
	workers := 0
	o.schedule(schedule, func(t Turn) {
		select {
		case idle <- t:
			return
		default:
		}
		if workers == o.Workers {
			rec.Refuse(t.Due)
			return
		}
		w := workers
		workers++
		wg.Go(func() {
			for ok := true; ok; t, ok = <-idle {
				t.Worker = w
				begun := rec.Begin(t.Due)
				begun.End(op(work, t))
			}
		})
	})
	close(idle)
	end()
	wg.Wait()
	return nil
}

// schedule calls do at each operation's time. After a delay of our own it catches up, and the times stay as they were due.
func (o Open) schedule(ctx context.Context, do func(Turn)) {
	rng := rand.New(rand.NewPCG(o.Seed, 0x61727269)) // "arri"
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	begin := time.Now()
	next := 0.0 // seconds since begin
	for n := 0; (o.Count <= 0 || n < o.Count) && ctx.Err() == nil; n++ {
		if o.Poisson {
			next += rng.ExpFloat64() / o.Rate
		} else {
			next = float64(n) / o.Rate
		}
		offset := time.Duration(next * float64(time.Second))
		if o.For > 0 && offset >= o.For {
			return
		}
		at := begin.Add(offset)
		if wait := time.Until(at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		do(Turn{N: n, Due: at})
	}
}

// Closed is a closed loop: each worker begins the next operation when the last one has ended, as a queue that is being emptied. It finds the
// throughput of a number of connections; the delay that users feel is the open loop's to tell.
type Closed struct {
	Workers int
	// The run ends with the first of these that is set. One must be.
	For   time.Duration
	Count int
	// Pause after a failure keeps a dead server from being asked in a spin. 20 ms when zero.
	Pause time.Duration
	Grace time.Duration // as in Open
}

// Run does operations until the end of the time, the count or ctx. It returns when all have ended.
func (c Closed) Run(ctx context.Context, rec *Recorder, op Operation) error {
	if c.Workers < 1 || c.Workers > maxWorkers || c.For <= 0 && c.Count <= 0 {
		return fmt.Errorf("closed loop of %d workers for %v or %d operations: want 1 to %d workers and an end", c.Workers, c.For, c.Count, maxWorkers)
	}
	if c.Pause <= 0 {
		c.Pause = 20 * time.Millisecond
	}
	begin := ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		begin, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	work, free := WithGrace(begin, c.Grace)
	defer free()
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range c.Workers {
		wg.Go(func() {
			for begin.Err() == nil {
				n := int(next.Add(1)) - 1
				if c.Count > 0 && n >= c.Count {
					return
				}
				t := Turn{Worker: w, N: n, Due: time.Now()}
				begun := rec.Begin(t.Due)
				err := op(work, t)
				begun.End(err)
				if err != nil {
					pause.For(begin, c.Pause)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// WithGrace gives a context for operations under way, which outlives ctx by that long (ten seconds when zero). Those that it ends count as unfinished. The
// function frees what it holds, and ends it at once.
func WithGrace(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	if wait <= 0 {
		wait = 10 * time.Second
	}
	outlives, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause.For(outlives, wait) {
			cancel()
		}
	})
	return outlives, func() {
		stop()
		cancel()
	}
}
