package load

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestOverAndSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder("x", RecorderOptions{Slice: 100 * time.Millisecond})
		if r.Silent(time.Second) != 0 || r.Over(0) != 0 {
			t.Error("a recorder without successes has none over a time, and no silence")
		}
		for range 20 { // two seconds with a success in each slice
			time.Sleep(100 * time.Millisecond)
			r.Begin(time.Now()).End(nil)
		}
		began := r.Begin(time.Now())
		time.Sleep(4 * time.Second) // three whole windows of a second without one
		began.End(nil)
		if got := r.Silent(time.Second); got < 2*time.Second || got > 4*time.Second {
			t.Errorf("silent for %v of four seconds without a success", got)
		}
		if n := r.Over(3 * time.Second); n != 1 {
			t.Errorf("%d over three seconds, expected the one that took four", n)
		}
	})
}
