package plot

import (
	"fmt"
	"math"

	"hongyan/bench/report/units"
)

// Span is a time in which something was done to the system: shaded, with its label above or, where there is no room, its number.
type Span struct {
	From, To float64 // To at or before From: a moment
	Label    string
}

// Time shows values over time.
type Time struct {
	ID, Title string // ID is unique in the page
	Unit      string
	Log       bool
	Series    []Series
	Spans     []Span
}

const lanes = 3 // of labels above the plot

// SVG draws it so many pixels wide.
func (p *Time) SVG(width float64) string {
	lo, hi, end := p.bounds()
	f := &frame{width: width, height: 260, left: 64, top: 12, right: 14, bottom: 26}
	ticks := 8
	if width < 500 {
		f.left, f.height, ticks = 58, 220, 4
	}
	f.x = timeAxis(end, ticks)
	if p.Log {
		f.y = logarithmic(lo, hi, p.Unit)
	} else {
		f.y = linear(lo, hi, p.Unit, 4)
	}
	labels, used := p.place(f)
	f.top += 16 * float64(used)
	f.height += 16 * float64(used)
	var c canvas
	c.open(f.width, f.height, p.ID, p.Title, p.describe(lo, hi, end), "plot")
	for _, s := range p.Spans {
		x, to := f.px(s.From), f.px(max(s.To, s.From))
		if to-x >= 1 {
			c.addf(`<rect class="span" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, x, f.top, to-x, f.height-f.bottom-f.top)
		}
		c.addf(`<line class="mark" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, f.top, f.height-f.bottom)
	}
	c.axes(f)
	for i, s := range p.Series {
		c.line(f, s, i)
	}
	for _, l := range labels {
		c.text(l.x, f.top-16*float64(l.lane)-5, l.anchor, "marklabel", l.text)
	}
	return c.close()
}

// bounds are the lowest and highest value (the lowest above zero on a logarithmic scale) and the last time.
func (p *Time) bounds() (lo, hi, end float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, s := range p.Series {
		for i := range min(len(s.X), len(s.Y)) {
			if !finite(s.X[i]) || !finite(s.Y[i]) {
				continue
			}
			end = max(end, s.X[i])
			if !p.Log || s.Y[i] > 0 {
				lo, hi = min(lo, s.Y[i]), max(hi, s.Y[i])
			}
		}
	}
	if hi < lo {
		lo, hi = 0, 0
	}
	for _, s := range p.Spans {
		end = max(end, s.From, s.To)
	}
	return lo, hi, end
}

func (p *Time) describe(lo, hi, end float64) string {
	return fmt.Sprintf("%d lines over %s, values from %s to %s, %d marks.",
		len(p.Series), units.Seconds(end), units.Format(lo, p.Unit), units.Format(hi, p.Unit), len(p.Spans))
}

type placed struct {
	x            float64
	lane         int
	text, anchor string
}

// place finds each label a lane in which it touches no other. When one finds none, all are numbers, and of those that would still touch the
// later one is left out.
func (p *Time) place(f *frame) ([]placed, int) {
	var full [lanes]float64
	out := make([]placed, 0, len(p.Spans))
	used := 0
	for _, s := range p.Spans {
		l := placed{x: f.px(s.From), text: s.Label, anchor: "start"}
		from, to := l.x, l.x+textWidth(s.Label)
		if to > f.width {
			l.anchor, from, to = "end", l.x-textWidth(s.Label), l.x
		}
		for l.lane < lanes && from < full[l.lane] {
			l.lane++
		}
		if l.lane == lanes || from < 0 {
			return p.numbers(f)
		}
		full[l.lane] = to + 10
		used = max(used, l.lane+1)
		out = append(out, l)
	}
	return out, used
}

func (p *Time) numbers(f *frame) ([]placed, int) {
	var out []placed
	free := 0.0
	for i, s := range p.Spans {
		text := fmt.Sprint(i + 1)
		x := f.px(s.From)
		if x-textWidth(text)/2 < free {
			continue
		}
		free = x + textWidth(text)/2 + 3
		out = append(out, placed{x: x, text: text, anchor: "middle"})
	}
	return out, 1
}
