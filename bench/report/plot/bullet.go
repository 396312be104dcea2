package plot

import (
	"fmt"
	"math"

	"hongyan/bench/report/units"
)

// Bullet is one figure as a bar against the floor that it must reach and the aim that it should; the side of the floor that is good is
// tinted. When the three are far apart the scale is logarithmic.
type Bullet struct {
	ID, Title         string
	Unit              string
	Value, Floor, Aim float64 // Aim 0: none
	Higher            bool    // more is better
	Class             string  // of the bar
}

// SVG draws it so many pixels wide and 26 high.
func (b *Bullet) SVG(width float64) string {
	const height, top, thick = 26.0, 5.0, 16.0
	f := &frame{width: width, height: height, left: 1, right: 1, x: b.scale()}
	floor := f.px(b.Floor)
	good := [2]float64{0, floor}
	if b.Higher {
		good = [2]float64{floor, width}
	}
	var c canvas
	c.open(width, height, b.ID, b.Title, b.describe(f.x.log), "bullet")
	c.addf(`<rect class="track" x="0" y="%g" width="%g" height="%g" rx="3"/>`, top, width, thick)
	c.addf(`<rect class="good" x="%.1f" y="%g" width="%.1f" height="%g" rx="3"/>`, good[0], top, max(good[1]-good[0], 3), thick)
	c.addf(`<rect class="bar %s" x="0" y="%g" width="%.1f" height="%g" rx="2"/>`, b.Class, top+4, max(f.px(b.Value), 3), thick-8)
	if b.Aim != 0 {
		x := f.px(b.Aim)
		c.addf(`<line class="aimtick" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, x, x, top-1, top+thick+1)
	}
	c.addf(`<line class="floortick" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, floor, floor, top-4, top+thick+4)
	return c.close()
}

// scale leaves some room behind the largest figure.
func (b *Bullet) scale() axis {
	lo, hi := math.Inf(1), 0.0
	for _, v := range []float64{b.Value, b.Floor, b.Aim} {
		if v > 0 && finite(v) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	switch {
	case hi == 0:
		return axis{to: 1}
	case hi/lo > 15:
		return axis{log: true, from: math.Log10(lo) - 0.6, to: math.Log10(hi) + 0.3}
	}
	return axis{to: hi * 1.15}
}

func (b *Bullet) describe(log bool) string {
	s := fmt.Sprintf("%s; the floor is %s", units.Format(b.Value, b.Unit), units.Format(b.Floor, b.Unit))
	if b.Aim != 0 {
		s += ", the aim " + units.Format(b.Aim, b.Unit)
	}
	if log {
		s += "; logarithmic scale"
	}
	return s + "."
}
