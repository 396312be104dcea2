package shard

import (
	"testing"
	"time"
)

// Elections that follow each other wait longer and longer, up to a bound; a leader that lasts takes that back.
func TestElectionsAreSpaced(t *testing.T) {
	c := &calm{}
	now := time.Unix(1_700_000_000, 0)
	term := uint64(7)
	c.note(term, true, now)
	for _, want := range []time.Duration{0, 200, 400, 800, 1600, 3200, 6400, 12_800, 12_800} {
		if got := c.wait(now); got != want*time.Millisecond {
			t.Fatalf("term %d: waits %v, expected %v", term, got, want*time.Millisecond)
		}
		now = now.Add(want * time.Millisecond)
		if got := c.wait(now); got > 0 {
			t.Fatalf("term %d: still waits %v", term, got)
		}
		term++
		c.note(term, false, now)
	}
	c.note(term, true, now)
	for range 2 * int(calmAfter/lookEvery) { // two tries are forgotten
		now = now.Add(lookEvery)
		c.note(term, true, now)
	}
	if c.tries != mostTries-2 {
		t.Errorf("%d tries count after two quiet times, expected %d", c.tries, mostTries-2)
	}
	for range 10 * int(calmAfter/lookEvery) {
		now = now.Add(lookEvery)
		c.note(term, true, now)
	}
	if got := c.wait(now); c.tries != 0 || got != 0 {
		t.Errorf("%d tries count and %v is waited after a long quiet time", c.tries, got)
	}
}
