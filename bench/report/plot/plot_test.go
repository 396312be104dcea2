package plot

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func labels(a axis) string {
	var out []string
	for _, t := range a.ticks {
		if t.label != "" {
			out = append(out, t.label)
		}
	}
	return strings.Join(out, " | ")
}

func TestAxes(t *testing.T) {
	for name, c := range map[string]struct {
		a    axis
		want string
	}{
		"rates":            {linear(200, 1630, "1/s", 4), "0/s | 500/s | 1,000/s | 1,500/s | 2,000/s"},
		"small":            {linear(0, 0.00031, "s", 4), "0 s | 100 µs | 200 µs | 300 µs | 400 µs"},
		"negative":         {linear(-30, 10, "B", 4), "-30 B | -20 B | -10 B | 0 B | 10 B"},
		"nothing":          {linear(0, 0, "1/s", 4), "0/s | 0.5/s | 1/s"},
		"three decades":    {logarithmic(0.002, 0.4, "s"), "2 ms | 5 ms | 10 ms | 20 ms | 50 ms | 100 ms | 200 ms | 500 ms"},
		"six decades":      {logarithmic(1e-6, 0.9, "s"), "1 µs | 10 µs | 100 µs | 1 ms | 10 ms | 100 ms | 1 s"},
		"a line":           {logarithmic(1, 1, "s"), "500 ms | 1 s | 2 s"},
		"no logarithm":     {logarithmic(math.Inf(1), math.Inf(-1), "s"), "1 s | 2 s | 5 s | 10 s"},
		"minutes":          {timeAxis(612, 8), "0 min | 2 min | 4 min | 6 min | 8 min | 10 min"},
		"hours":            {timeAxis(86400, 8), "0 h | 5 h | 10 h | 15 h | 20 h"},
		"no time":          {timeAxis(0, 4), "0 s | 0.5 s | 1 s"},
		"percentiles to 4": {percentAxis(4), "fastest | p50 | p90 | p99 | p99.9 | p99.99"},
	} {
		if got := labels(c.a); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestThinKeepsExtremes draws many points into few pixels.
func TestThinKeepsExtremes(t *testing.T) {
	s := Series{}
	for i := range 100_000 {
		s.X, s.Y = append(s.X, float64(i)), append(s.Y, 50)
	}
	s.Y[777], s.Y[55_555] = 0, 100
	f := &frame{width: 320, height: 100, x: axis{to: 100_000}, y: axis{to: 100}}
	got := thin(f, s)
	if len(got) > 4*161 {
		t.Errorf("%d points in 320 pixels", len(got))
	}
	if !slices.ContainsFunc(got, func(p [2]float64) bool { return p[1] == 100 }) || !slices.ContainsFunc(got, func(p [2]float64) bool { return p[1] == 0 }) {
		t.Error("lost the lowest or the highest")
	}
	if !slices.IsSortedFunc(got, func(a, b [2]float64) int { return int(math.Floor(a[0]) - math.Floor(b[0])) }) {
		t.Error("out of order")
	}
}

// TestLabelsDoNotTouch places labels of many marks.
func TestLabelsDoNotTouch(t *testing.T) {
	for _, n := range []int{1, 3, 8, 200} {
		p := Time{}
		for i := range n {
			p.Spans = append(p.Spans, Span{From: float64(i) * 300 / float64(n), Label: fmt.Sprintf("fault number %d", i)})
		}
		f := &frame{width: 820, left: 64, right: 14, x: timeAxis(300, 8)}
		got, used := p.place(f)
		if used > lanes || len(got) == 0 {
			t.Errorf("%d labels of %d in %d lanes", len(got), n, used)
		}
		for i, a := range got {
			for _, b := range got[i+1:] {
				if a.lane == b.lane && left(a)+textWidth(a.text) > left(b) && left(b)+textWidth(b.text) > left(a) {
					t.Errorf("of %d, %q and %q touch", n, a.text, b.text)
				}
			}
		}
	}
}

func left(l placed) float64 {
	switch l.anchor {
	case "end":
		return l.x - textWidth(l.text)
	case "middle":
		return l.x - textWidth(l.text)/2
	}
	return l.x
}

func TestBulletScale(t *testing.T) {
	if b := (&Bullet{Value: 2, Floor: 3, Aim: 1}); b.scale().log {
		t.Error("logarithmic for figures that are near each other")
	}
	if b := (&Bullet{Value: 0.04, Floor: 60, Aim: 0.05}); !b.scale().log {
		t.Error("linear for figures that are far apart")
	}
	if svg := (&Bullet{}).SVG(200); strings.Contains(svg, "NaN") {
		t.Error(svg)
	}
}
