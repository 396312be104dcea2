// Package plot draws the pictures of a report as SVG text.
//
// A picture is made for one width in CSS pixels and is not meant to be scaled: text in it keeps its size, so a page holds one for wide
// and one for narrow screens. Colours and fonts come from the page's style sheet by class: s0 to s7 for series, grid, axis, span,
// good, track, tick. Every picture has a title and a description for those who hear it. Text that comes from outside is escaped, points
// that are no finite numbers are passed over, and a line never has more points than its pixels can show: of many, the lowest and
// the highest stay.
package plot

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Styles is how many series look different from each other; the page's style sheet has so many classes.
const Styles = 8

// Series is one line.
type Series struct {
	Name string
	X, Y []float64 // of the same length, X ascending
}

// frame is the rectangle that data is drawn in, and what surrounds it.
type frame struct {
	width, height            float64
	left, top, right, bottom float64 // margins
	x, y                     axis
}

func (f *frame) px(v float64) float64 {
	return f.left + f.x.at(v)*(f.width-f.left-f.right)
}

func (f *frame) py(v float64) float64 {
	return f.height - f.bottom - f.y.at(v)*(f.height-f.top-f.bottom)
}

// canvas collects SVG.
type canvas struct{ strings.Builder }

func (c *canvas) addf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

func (c *canvas) open(w, h float64, id, title, desc, class string) {
	c.addf(`<svg class="%s" role="img" width="%g" height="%g" viewBox="0 0 %g %g" aria-labelledby="%s-t %s-d">`, class, w, h, w, h, id, id)
	c.addf(`<title id="%s-t">%s</title><desc id="%s-d">%s</desc>`, id, html.EscapeString(title), id, html.EscapeString(desc))
}

func (c *canvas) close() string {
	c.WriteString("</svg>")
	return c.String()
}

func (c *canvas) text(x, y float64, anchor, class, s string) {
	c.addf(`<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(s))
}

// axes draws the grid with its labels. A label that would touch the one before is left out.
func (c *canvas) axes(f *frame) {
	for _, t := range f.y.ticks {
		y := f.py(t.at)
		c.addf(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, f.left, f.width-f.right, y, y)
		if t.label != "" {
			c.text(f.left-8, y+4, "end", "label", t.label)
		}
	}
	bottom := f.height - f.bottom
	free := math.Inf(-1)
	for _, t := range f.x.ticks {
		x := f.px(t.at)
		c.addf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, bottom, bottom+4)
		half := textWidth(t.label) / 2
		if x-half < free {
			continue
		}
		anchor, end := "middle", x+half
		if x+half > f.width {
			anchor, end = "end", x
		}
		c.text(x, bottom+18, anchor, "label", t.label)
		free = end + 8
	}
	c.addf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, f.left, f.width-f.right, bottom, bottom)
}

// line draws a series; one point alone becomes a dot.
func (c *canvas) line(f *frame, s Series, style int) {
	points := thin(f, s)
	if len(points) == 0 {
		return
	}
	if len(points) == 1 {
		c.addf(`<circle class="dot s%d" cx="%.1f" cy="%.1f" r="3"/>`, style%Styles, points[0][0], points[0][1])
		return
	}
	c.addf(`<polyline class="line s%d" points="`, style%Styles)
	for i, p := range points {
		if i > 0 {
			c.WriteByte(' ')
		}
		c.addf("%.1f,%.1f", p[0], p[1])
	}
	c.WriteString(`"/>`)
}

// thin turns values into pixels, at most four to a column of two pixels: the first, lowest, highest and last, in order.
func thin(f *frame, s Series) [][2]float64 {
	var out, column [][2]float64
	flush := func() {
		if len(column) > 4 {
			lowest, highest := 0, 0
			for i, p := range column {
				if p[1] > column[lowest][1] {
					lowest = i
				}
				if p[1] < column[highest][1] {
					highest = i
				}
			}
			keep := []int{0, lowest, highest, len(column) - 1}
			slices.Sort(keep)
			for _, i := range slices.Compact(keep) {
				out = append(out, column[i])
			}
		} else {
			out = append(out, column...)
		}
		column = column[:0]
	}
	for i := range min(len(s.X), len(s.Y)) {
		if !finite(s.X[i]) || !finite(s.Y[i]) {
			continue
		}
		p := [2]float64{f.px(s.X[i]), f.py(s.Y[i])}
		if len(column) > 0 && math.Floor(p[0]/2) != math.Floor(column[0][0]/2) {
			flush()
		}
		column = append(column, p)
	}
	flush()
	return out
}

// textWidth is about what a label of the page's small font takes.
func textWidth(s string) float64 { return 6.6 * float64(len([]rune(s))) }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
