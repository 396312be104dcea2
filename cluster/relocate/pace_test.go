package relocate

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1, 0)
	p := pace{begun: now}
	rest := func(took time.Duration) time.Duration {
		p.resting = time.Time{}
		p.ended(now, took)
		return max(0, p.resting.Sub(now))
	}
	if p.begin(now, 0) != 1 || rest(ms) != 0 {
		t.Errorf("at first %d, rest %v", p.most(), rest(ms))
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
		if p.most() != c.most || rest(100*ms) != c.rest {
			t.Errorf("%s: %d at once, rest %v: %+v", c.what, p.most(), rest(100*ms), p)
		}
	}
	for range 20 {
		p.note(time.Second)
	}
	if rest(time.Minute) != longRest {
		t.Errorf("rest of %v", rest(time.Minute))
	}
	for _, c := range []struct {
		after  time.Duration
		active int
		begin  int
	}{
		{0, 0, 0}, // resting
		{often - ms, 0, 0},
		{often, 0, 1},
		{often, atOnce - 1, 1},
		{time.Minute, atOnce, 0},
		{longRest, 0, 1},
	} {
		if n := p.begin(now.Add(c.after), c.active); n != c.begin {
			t.Errorf("%v after the last began, beside %d: %d begin", c.after, c.active, n)
		}
	}
}
