package plot

import (
	"math"
	"strconv"

	"hongyan/bench/report/units"
)

// axis maps values to 0…1.
type axis struct {
	from, to float64 // of the values; logarithms of them when log
	log      bool
	ticks    []tick
}

type tick struct {
	at    float64
	label string
}

// at clamps: nothing is drawn outside the frame, and what has no logarithm lies at the bottom.
func (a *axis) at(v float64) float64 {
	if a.log {
		if v <= 0 {
			return 0
		}
		v = math.Log10(v)
	}
	if a.to <= a.from {
		return 0
	}
	return min(max((v-a.from)/(a.to-a.from), 0), 1)
}

// linear starts at zero unless values are negative, and ends at a round figure.
func linear(lo, hi float64, unit string, ticks int) axis {
	lo = min(lo, 0)
	if hi <= lo {
		hi = lo + 1
	}
	step := roundStep((hi - lo) / float64(ticks))
	a := axis{from: math.Floor(lo/step) * step, to: math.Ceil(hi/step-1e-9) * step}
	for i := 0; i <= 4*ticks; i++ {
		v := a.from + float64(i)*step
		if v > a.to+step/2 {
			break
		}
		if math.Abs(v) < step/1e6 {
			v = 0
		}
		a.ticks = append(a.ticks, tick{v, units.Format(v, unit)})
	}
	return a
}

// roundStep is the next of 1, 2 and 5 times a power of ten.
func roundStep(v float64) float64 {
	p := math.Pow10(int(math.Floor(math.Log10(v))))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// logarithmic ends at 1, 2 or 5 times powers of ten outside the values, and labels those when there are few decades.
func logarithmic(lo, hi float64, unit string) axis {
	if lo <= 0 || hi <= 0 || lo > hi {
		lo, hi = 1, 10
	}
	if hi < lo*4 {
		lo, hi = lo/2, hi*2
	}
	lo, hi = max(lo, hi/1e12), min(hi, 1e300) // as many decades as can be told apart
	lowest, highest := roundDown(lo), roundStep(hi)
	a := axis{log: true, from: math.Log10(lowest), to: math.Log10(highest)}
	decades := a.to - a.from
	every := int(math.Ceil(decades / 6))
	for e := int(math.Floor(a.from)); e <= int(math.Ceil(a.to)); e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow10(e)
			l := math.Log10(v)
			if l < a.from-1e-9 || l > a.to+1e-9 || m != 1 && decades > 3.2 {
				continue
			}
			t := tick{at: v}
			if m == 1 && e%every == 0 || m != 1 && decades < 3.2 {
				t.label = units.Format(v, unit)
			}
			a.ticks = append(a.ticks, t)
		}
	}
	return a
}

func roundDown(v float64) float64 {
	p := math.Pow10(int(math.Floor(math.Log10(v) + 1e-9)))
	for _, m := range []float64{5, 2} {
		if m*p <= v*(1+1e-9) {
			return m * p
		}
	}
	return p
}

// timeAxis runs from 0 to the end in the unit that suits it.
func timeAxis(seconds float64, ticks int) axis {
	unit, size := "s", 1.0
	switch {
	case seconds > 3*3600:
		unit, size = "h", 3600
	case seconds > 180:
		unit, size = "min", 60
	}
	if seconds <= 0 {
		seconds = 1
	}
	a := axis{to: seconds}
	step := roundStep(seconds / size / float64(ticks))
	for v := 0.0; v <= seconds/size*(1+1e-9); v += step {
		a.ticks = append(a.ticks, tick{v * size, units.Number(v) + " " + unit})
	}
	return a
}

// percentAxis is the scale of HDR histograms: each step to the right cuts the share that is slower to a tenth.
func percentAxis(nines float64) axis {
	a := axis{to: nines}
	for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999} {
		if at := nine(p); at <= nines+1e-9 {
			a.ticks = append(a.ticks, tick{at, "p" + strconv.FormatFloat(p, 'f', -1, 64)})
		}
	}
	a.ticks[0].label = "fastest"
	return a
}

// nine counts a percentile's nines: 90 → 1, 99.9 → 3.
func nine(percent float64) float64 { return math.Log10(100 / (100 - percent)) }
