package load

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/pause"
)

// stalling is a server in virtual time: it answers in a millisecond, but for the second that begins at five, through which nothing is answered.
func stalling(begin time.Time) Operation {
	from, to := begin.Add(5*time.Second), begin.Add(6*time.Second)
	return func(ctx context.Context, _ Turn) error {
		pause.For(ctx, time.Millisecond)
		if now := time.Now(); now.After(from) && now.Before(to) {
			pause.For(ctx, time.Until(to))
		}
		return ctx.Err()
	}
}

// TestAStallShowsInTheOpenLoop: the same stall is in the 99th percentile of those who come when they come, and in none of a loop that waits.
func TestAStallShowsInTheOpenLoop(t *testing.T) {
	const span = 10 * time.Second
	for _, c := range []struct {
		name     string
		run      func(context.Context, *Recorder, Operation) error
		min, max time.Duration // of the 99th percentile
		refused  bool
	}{
		{"closed", Closed{Workers: 4, For: span}.Run, time.Millisecond, 2 * time.Millisecond, false},
		{"open, even", Open{Rate: 100, Workers: 500, For: span}.Run, 850 * time.Millisecond, time.Second, false},
		{"open, Poisson", Open{Rate: 100, Poisson: true, Seed: 7, Workers: 500, For: span}.Run, 850 * time.Millisecond, time.Second, false},
		{"open, few workers", Open{Rate: 100, Workers: 10, For: span}.Run, time.Millisecond, time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				rec := NewRecorder(c.name, RecorderOptions{Slice: 100 * time.Millisecond})
				if err := c.run(t.Context(), rec, stalling(begin)); err != nil {
					t.Fatal(err)
				}
				f := rec.Figures()
				if f.P99 < c.min || f.P99 > c.max {
					t.Errorf("p99 is %v, want %v to %v", f.P99, c.min, c.max)
				}
				if f.Stall.For < 990*time.Millisecond || f.Stall.For > 1020*time.Millisecond {
					t.Errorf("longest stall %v, want a second", f.Stall.For)
				}
				if at := f.Stall.Began.Sub(begin); at < 4900*time.Millisecond || at > 5010*time.Millisecond {
					t.Errorf("the stall began at %v, want 5 s", at)
				}
				if (f.Errors[Refused] > 0) != c.refused {
					t.Errorf("%d were refused", f.Errors[Refused])
				}
				if c.refused && (f.Errors[Refused] < 88 || f.Errors[Refused] > 91) { // a hundred fell into it, and ten waited
					t.Errorf("%d were refused, want 90", f.Errors[Refused])
				}
				if c.name != "closed" && c.name != "open, Poisson" && f.Successes+f.Failures != 1000 {
					t.Errorf("%d successes and %d failures are not the 1000 that were due", f.Successes, f.Failures)
				}
				if f.Waiting != 0 {
					t.Errorf("%d still wait", f.Waiting)
				}
				for _, s := range rec.slices.closed()[51:59] { // in the stall
					if s.successes > 0 {
						t.Errorf("a slice of the stall has %d successes", s.successes)
					}
				}
			})
		})
	}
}

func TestOpenLoopEnds(t *testing.T) {
	stuck := func(ctx context.Context, _ Turn) error { <-ctx.Done(); return ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		begin, rec := time.Now(), NewRecorder("stuck", RecorderOptions{})
		if err := (Open{Rate: 10, Workers: 100, Count: 20, Grace: 3 * time.Second}).Run(t.Context(), rec, stuck); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 1900*time.Millisecond+3*time.Second {
			t.Errorf("it took %v, want the schedule and the grace", took)
		}
		if f := rec.Figures(); f.Errors[Unfinished] != 20 || f.Successes != 0 || f.Stall.For != 4900*time.Millisecond {
			t.Errorf("figures: %+v", f)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the caller's end comes first
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rec := NewRecorder("cut", RecorderOptions{})
		if err := (Open{Rate: 10, Workers: 100, For: time.Hour, Grace: time.Second}).Run(ctx, rec, stuck); err != nil {
			t.Fatal(err)
		}
		if f := rec.Figures(); f.Errors[Unfinished] < 10 || f.Errors[Unfinished] > 11 {
			t.Errorf("figures: %+v", f)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec, begin := NewRecorder("dead", RecorderOptions{}), time.Now()
		if err := (Closed{Workers: 2, Count: 100, Pause: 10 * time.Millisecond}).Run(t.Context(), rec, func(context.Context, Turn) error { return io.EOF }); err != nil {
			t.Fatal(err)
		}
		if f := rec.Figures(); f.Errors[Connection] != 100 || time.Since(begin) != 500*time.Millisecond {
			t.Errorf("after %v: %+v", time.Since(begin), f)
		}
	})
	rec := NewRecorder("", RecorderOptions{})
	if (Closed{Workers: 1}).Run(t.Context(), rec, nil) == nil || (Open{Workers: 1, Rate: 1}).Run(t.Context(), rec, nil) == nil {
		t.Error("a loop without an end was taken")
	}
}

// TestMarks follows a failure: the time to the first success that was started after it, which is not the first success after it.
func TestMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := NewRecorder("probe", RecorderOptions{Slice: 100 * time.Millisecond})
		ok := rec.Begin(time.Now())
		time.Sleep(time.Second)
		ok.End(nil)
		early := rec.Begin(time.Now())
		rec.Mark("kill")
		time.Sleep(50 * time.Millisecond)
		early.End(nil) // was under way already
		time.Sleep(100 * time.Millisecond)
		failed := rec.Begin(time.Now())
		time.Sleep(200 * time.Millisecond)
		failed.End(errors.New("down"))
		time.Sleep(100 * time.Millisecond) // nobody asks, but somebody still wants
		again := rec.Begin(time.Now())
		time.Sleep(300 * time.Millisecond)
		again.End(nil)
		time.Sleep(5 * time.Second) // nobody wants anything: no stall
		last := rec.Begin(time.Now())
		time.Sleep(10 * time.Millisecond)
		last.End(nil)
		f := rec.Figures()
		if len(f.Marks) != 1 {
			t.Fatalf("marks: %+v", f.Marks)
		}
		if d, ok := f.Marks[0].ToFirst(); !ok || d != 750*time.Millisecond {
			t.Errorf("first success after %v, want 750 ms", d)
		}
		if d := f.Marks[0].Stall; d != 600*time.Millisecond {
			t.Errorf("stall after the mark %v, want 600 ms", d)
		}
		if f.Stall.For != time.Second || f.Errors[Other] != 1 || f.Examples[Other] != "down" {
			t.Errorf("figures: %+v", f)
		}
	})
}
