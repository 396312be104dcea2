package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// How a comparison decides. Both must be passed: an effect that is large enough to matter, and samples that noise alone would rarely give.
const (
	MinEffect  = 0.05 // a smaller change of a figure, as a share of it, is never called one
	ErrorRate  = 0.05 // chance that a comparison of two runs of the same thing calls anything changed
	MinSamples = 5    // of each side, to tell noise from change
)

// Outcome of one metric's comparison.
type Outcome string

// Outcomes. Neither is for facts that are neither good nor bad, and that differ.
const (
	Improved   Outcome = "better"
	Worsened   Outcome = "worse"
	Neither    Outcome = "differs"
	Same       Outcome = "within the noise"
	CannotTell Outcome = "cannot tell" // too few samples
)

// Comparison sets two runs side by side.
type Comparison struct {
	A, B         *Report
	Differ       []Difference // of machine and settings: the first thing to look at
	Changes      []Change     // of the metrics of both
	OnlyA, OnlyB []string     // IDs of metrics that the other does not have
	Broken       []string     // what B violates, could not finish or misses, and A did not
}

// Difference is a circumstance that is not the same.
type Difference struct{ Name, A, B string }

// Change is one metric in both runs.
type Change struct {
	ID, Name, Unit string
	Better         Better
	A, B           float64
	Ratio          float64 // B to A; 0 when A is 0
	P              float64 // chance that noise alone gives such samples, for all comparisons of the run together; NaN without enough samples
	Outcome        Outcome
}

// Compare holds run b against the earlier run a.
//
// Each metric with samples on both sides is tested by Welch's t-test, on logarithms where all samples are above zero: the
// spread of times and rates grows with them. Rank tests were looked at and left: of five against five samples they can never give less
// than p = 0.008, which dozens of metrics tested at once make worthless. Holm's step-down correction keeps the chance that anything
// at all is called changed between two runs of the same thing under ErrorRate.
func Compare(a, b *Report) *Comparison {
	c := &Comparison{A: a, B: b, Differ: differences(a, b), Broken: broken(a, b)}
	for _, s := range a.Sections {
		for _, m := range s.Metrics {
			other := b.Find(m.ID)
			if other == nil {
				c.OnlyA = append(c.OnlyA, m.ID)
				continue
			}
			c.Changes = append(c.Changes, change(m, *other))
		}
	}
	for _, s := range b.Sections {
		for _, m := range s.Metrics {
			if a.Find(m.ID) == nil {
				c.OnlyB = append(c.OnlyB, m.ID)
			}
		}
	}
	correct(c.Changes)
	promised := zeroes(a, b)
	for i := range c.Changes {
		c.Changes[i].Outcome = c.Changes[i].outcome(promised[c.Changes[i].ID])
	}
	return c
}

// Worse tells whether anything got worse beyond the noise, or broke.
func (c *Comparison) Worse() bool {
	return len(c.Broken) > 0 || slices.ContainsFunc(c.Changes, func(x Change) bool { return x.Outcome == Worsened })
}

func change(a, b Metric) Change {
	c := Change{ID: a.ID, Name: b.Name, Unit: b.Unit, Better: b.Better, A: a.Value, B: b.Value, P: math.NaN()}
	if a.Unit != b.Unit {
		c.Name += " (in " + a.Unit + " before)"
		return c
	}
	if a.Value != 0 {
		c.Ratio = b.Value / a.Value
	}
	if len(a.Samples) >= MinSamples && len(b.Samples) >= MinSamples {
		c.P = welch(a.Samples, b.Samples)
		if (stats.Mean(b.Samples) > stats.Mean(a.Samples)) != (b.Value > a.Value) {
			c.P = 1 // the figure and its samples point different ways, so neither is to be trusted
		}
	}
	return c
}

// outcome decides. promisedZero says that an objective allows none at all of this: then one is one too many, and no statistics are needed.
func (c *Change) outcome(promisedZero bool) Outcome {
	switch {
	case promisedZero && c.B > c.A:
		return Worsened
	case promisedZero && c.B < c.A:
		return Improved
	case c.A == c.B || c.effect() < MinEffect:
		return Same
	case math.IsNaN(c.P):
		return CannotTell
	case c.P >= ErrorRate:
		return Same
	case c.Better == Info:
		return Neither
	case (c.B > c.A) == (c.Better == Higher):
		return Improved
	}
	return Worsened
}

// effect is the change as a share of the smaller figure, so that halving and doubling weigh the same.
func (c *Change) effect() float64 {
	small, large := min(math.Abs(c.A), math.Abs(c.B)), max(math.Abs(c.A), math.Abs(c.B))
	if small == 0 || (c.A < 0) != (c.B < 0) {
		return math.Inf(1)
	}
	return large/small - 1
}

// zeroes are the metrics of which an objective of either run allows none.
func zeroes(reports ...*Report) map[string]bool {
	out := make(map[string]bool)
	for _, r := range reports {
		for _, v := range r.Verdicts {
			if v.Better == Lower && v.Floor == 0 {
				out[v.Metric] = true
			}
		}
	}
	return out
}

func differences(a, b *Report) []Difference {
	var out []Difference
	was := make(map[string]string)
	for _, s := range circumstances(a) {
		was[s.Name] = s.Value
	}
	for _, s := range circumstances(b) {
		if before, ok := was[s.Name]; !ok || before != s.Value {
			out = append(out, Difference{s.Name, before, s.Value})
		}
		delete(was, s.Name)
	}
	for _, s := range circumstances(a) {
		if before, ok := was[s.Name]; ok {
			out = append(out, Difference{s.Name, before, ""})
		}
	}
	return out
}

// circumstances are what should be equal when figures are compared. The program's version is what a comparison is about; load and
// fsync are never quite equal and count when they differ by half.
func circumstances(r *Report) []Setting {
	var out []Setting
	for _, f := range r.facts() {
		switch f.Name {
		case "Program", "One fsync, median", "Load before the run":
		default:
			out = append(out, f)
		}
	}
	if v := r.Machine.FsyncSecs; v > 0 {
		out = append(out, Setting{"One fsync, about", fmt.Sprintf("%.2g ms", 1000*math.Pow(2, math.Round(math.Log2(v))))})
	}
	if r.Machine.LoadBefore > 1 {
		out = append(out, Setting{"Load before the run", fmt.Sprintf("over %.0f", math.Pow(2, math.Floor(math.Log2(r.Machine.LoadBefore))))})
	}
	for _, s := range r.Sections {
		for _, x := range s.Settings {
			out = append(out, Setting{s.Title + ": " + x.Name, x.Value})
		}
	}
	return out
}

func broken(a, b *Report) []string {
	var out []string
	for _, s := range b.Sections {
		var before Section
		if i := slices.IndexFunc(a.Sections, func(o Section) bool { return o.Scenario == s.Scenario }); i >= 0 {
			before = a.Sections[i]
		}
		if n := len(s.Violations); n > len(before.Violations) {
			out = append(out, fmt.Sprintf("%s: %s of what is promised, %d before", s.Title, plural(n, "violation"), len(before.Violations)))
		}
		if s.Failed != "" && before.Failed == "" {
			out = append(out, s.Title+": not finished: "+s.Failed)
		}
	}
	for _, v := range b.Verdicts {
		held := func(o Verdict) bool { return o.Metric == v.Metric && (o.Result == Held || o.Result == Excelled) }
		if v.Result == Missed && slices.ContainsFunc(a.Verdicts, held) {
			out = append(out, fmt.Sprintf("%s: %s, promised %s; it held before", v.Name, v.value(), v.bound(v.Floor)))
		}
	}
	return out
}
