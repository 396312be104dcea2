// Package units writes figures for people: three significant digits, the prefix that suits the size, the unit behind it.
//
// A figure goes in in the base unit (seconds, bytes) and comes out as 123 µs or 12.3 kB; prefixes are decimal. What comes out is short
// enough for a table's cell and the same on each machine. The package keeps nothing.
package units

import (
	"math"
	"strconv"
	"strings"
)

// Format gives a value with its unit, one of: s, B, 1/s, B/s, B/h, bit/s, ratio, %, nothing, or a noun such as messages.
func Format(v float64, unit string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	switch unit {
	case "s":
		return Seconds(v)
	case "B", "B/s", "B/h", "bit/s":
		return prefixed(v) + unit
	case "1/s":
		return Number(v) + "/s"
	case "ratio", "":
		return Number(v)
	case "%":
		return Number(v) + " %"
	}
	if v == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	return Number(v) + " " + unit
}

// Seconds gives a time as people say it: in ns, µs, ms and s up to two minutes, then in minutes, hours and days.
func Seconds(v float64) string {
	a := math.Abs(v)
	switch {
	case a == 0:
		return "0 s"
	case a < 999.5e-9:
		return digits(v*1e9) + " ns"
	case a < 999.5e-6:
		return digits(v*1e6) + " µs"
	case a < 0.9995:
		return digits(v*1e3) + " ms"
	case a < 120:
		return digits(v) + " s"
	case a < 2*3600:
		return digits(v/60) + " min"
	case a < 48*3600:
		return digits(v/3600) + " h"
	}
	return Number(v/86400) + " days"
}

// Number gives three significant digits, all digits of a larger whole part with commas between thousands, and the power of ten
// of what is under a hundred-thousandth.
func Number(v float64) string {
	if a := math.Abs(v); a != 0 && (a < 1e-5 || a >= 1e15) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return digits(v)
}

// digits rounds to three significant digits, or to whole numbers where there are more, and drops zeros behind the point.
func digits(v float64) string {
	a := math.Abs(v)
	if a >= 99.95 || a == 0 {
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	}
	decimals := 2 - int(math.Floor(math.Log10(a)))
	if rounded := math.Round(a*math.Pow10(decimals)) / math.Pow10(decimals); rounded >= math.Pow10(3-decimals) {
		decimals-- // 9.996 became 10.00
	}
	s := strconv.FormatFloat(v, 'f', max(decimals, 0), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// prefixed gives a number and its decimal prefix, with the space that stands before a unit.
func prefixed(v float64) string {
	for _, p := range []struct {
		size float64
		name string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= p.size*0.9995 {
			return digits(v/p.size) + " " + p.name
		}
	}
	return Number(v) + " "
}

func thousands(s string) string {
	sign, whole := "", s
	if strings.HasPrefix(s, "-") {
		sign, whole = "-", s[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if whole == "0" {
		return whole
	}
	return sign + whole
}
