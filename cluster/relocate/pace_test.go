package relocate

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	var p pace
	if p.most() != 1 || p.rest(ms) != 0 {
		t.Errorf("at first %d, rest %v", p.most(), p.rest(ms))
	}
	for _, c := range []struct {
		what string
		took time.Duration
		n    int
		most int
		rest time.Duration // after a move of 100 ms
	}{
		{"quiet", 4 * ms, 60, atOnce, 0},
		{"one slow commit", 40 * ms, 1, atOnce * 3 / 4, 0},
		{"quiet again", 4 * ms, 40, atOnce, 0},
		{"busy", 40 * ms, 20, 1, 100 * ms},
		{"a little slower than quiet", 7 * ms, 60, atOnce, 0},
		{"far away for good", 200 * ms, 2000, atOnce, 0},
		{"near", 4 * ms, 1, atOnce - 2, 0},
	} {
		for range c.n {
			p.note(c.took)
		}
		if p.most() != c.most || p.rest(100*ms) != c.rest {
			t.Errorf("%s: %d at once, rest %v: %+v", c.what, p.most(), p.rest(100*ms), p)
		}
	}
	for range 20 {
		p.note(time.Second)
	}
	if p.rest(time.Minute) != longRest {
		t.Errorf("rest of %v", p.rest(time.Minute))
	}
}
