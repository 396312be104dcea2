package relocate

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1, 0)
	p := pace{begun: now}
	if p.begin(now, 0) != 1 {
		t.Errorf("at first %d", p.most())
	}
	for _, c := range []struct {
		what string
		took time.Duration
		n    int
		most int
	}{
		{"quiet", 4 * ms, 60, atOnce},
		{"one slow commit", 40 * ms, 1, atOnce * 3 / 4},
		{"quiet again", 4 * ms, 40, atOnce},
		{"busy", 40 * ms, 20, 1},
		{"a little slower than quiet", 7 * ms, 60, atOnce},
		{"far away for good", 200 * ms, 2000, atOnce},
		{"near", 4 * ms, 1, atOnce * 3 / 4},
	} {
		for range c.n {
			p.note(c.took)
		}
		if p.most() != c.most {
			t.Errorf("%s: %d at once: %+v", c.what, p.most(), p)
		}
	}
	for range 20 {
		p.note(time.Second)
	}
	for _, c := range []struct {
		after  time.Duration
		active int
		begin  int
	}{
		{0, 0, 1},
		{0, 1, 0},
		{often - ms, 1, 0},
		{often, 1, 1},
		{often, atOnce - 1, 1},
		{time.Minute, atOnce, 0},
	} {
		if n := p.begin(now.Add(c.after), c.active); n != c.begin {
			t.Errorf("%v after the last began, beside %d: %d begin", c.after, c.active, n)
		}
	}
	if p.rest(30*ms) != slowRests*30*ms || p.rest(time.Minute) != longestRest {
		t.Errorf("rests of %v, %v", p.rest(30*ms), p.rest(time.Minute))
	}
	for range 60 {
		p.note(4 * ms)
	}
	if p.rest(30*ms) != rests*30*ms {
		t.Errorf("in quiet times a rest of %v", p.rest(30*ms))
	}
}
