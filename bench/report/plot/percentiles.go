package plot

import (
	"fmt"
	"math"

	"hongyan/bench/report/units"
)

// Distribution is one set of times: X are percents, Y seconds.
type Distribution struct {
	Series
	Count int64
}

// Percentiles shows distributions of times, both axes logarithmic.
type Percentiles struct {
	ID, Title     string
	Distributions []Distribution
}

const maxNines = 6

// SVG draws it so many pixels wide.
func (p *Percentiles) SVG(width float64) string {
	lo, hi, nines := math.Inf(1), math.Inf(-1), 2.0
	drawn := make([]Series, len(p.Distributions))
	for i, d := range p.Distributions {
		drawn[i] = d.scaled()
		for j, x := range drawn[i].X {
			nines = max(nines, x)
			if y := drawn[i].Y[j]; y > 0 {
				lo, hi = min(lo, y), max(hi, y)
			}
		}
	}
	f := &frame{width: width, height: 280, left: 64, top: 12, right: 18, bottom: 26}
	if width < 500 {
		f.left, f.height = 58, 240
	}
	f.x, f.y = percentAxis(nines), logarithmic(lo, hi, "s")
	var c canvas
	desc := fmt.Sprintf("%d distributions on logarithmic scales; the same figures are in the table below.", len(p.Distributions))
	if hi >= lo {
		desc = fmt.Sprintf("%d distributions on logarithmic scales, from %s to %s; the same figures are in the table below.", len(p.Distributions), units.Seconds(lo), units.Seconds(hi))
	}
	c.open(f.width, f.height, p.ID, p.Title, desc, "plot")
	for _, t := range f.x.ticks {
		x := f.px(t.at)
		c.addf(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, f.top, f.height-f.bottom)
	}
	c.axes(f)
	for i, s := range drawn {
		c.line(f, s, i)
	}
	return c.close()
}

// scaled turns percents into nines. The slowest of n times is drawn where one of n is slower.
func (d *Distribution) scaled() Series {
	last := min(math.Log10(float64(max(d.Count, 10))), maxNines)
	s := Series{Name: d.Name}
	for i := range min(len(d.X), len(d.Y)) {
		if !finite(d.X[i]) || !finite(d.Y[i]) || d.X[i] < 0 || d.X[i] > 100 {
			continue
		}
		at := last
		if d.X[i] < 100 {
			if at = nine(d.X[i]); at >= last {
				continue // so few times say nothing of it
			}
		}
		s.X, s.Y = append(s.X, at), append(s.Y, d.Y[i])
	}
	return s
}
