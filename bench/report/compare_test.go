package report

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/engine/effort"
)

// run makes up a report of so many metrics whose samples scatter around 100 times the factor that a metric has.
func run(metrics, samples int, noise func() float64, factor func(int) float64) *Report {
	r := &Report{Sections: []Section{{Scenario: "x", Title: "x"}}}
	for i := range metrics {
		m := Metric{ID: fmt.Sprintf("m%d", i), Unit: "s", Better: Lower}
		for range samples {
			m.Samples = append(m.Samples, 100*factor(i)*math.Exp(noise()))
			m.Value += m.Samples[len(m.Samples)-1] / float64(samples)
		}
		r.Sections[0].Metrics = append(r.Sections[0].Metrics, m)
	}
	return r
}

func unchanged(int) float64 { return 1 }

// TestNoiseIsNotChange compares runs of the same thing, many times, with several kinds of noise: at most 5 % of the comparisons may find
// anything changed. Limits leave room for three standard deviations of the trial itself.
func TestNoiseIsNotChange(t *testing.T) {
	const metrics = 40
	trials := effort.Of(150, 150, 3000)
	rng := rand.New(rand.NewPCG(7, 7))
	normal := func() float64 { return 0.1 * rng.NormFloat64() }
	for name, c := range map[string]struct {
		samples int
		noise   func() float64
	}{
		"log-normal, 5 samples":  {5, normal},
		"log-normal, 10 samples": {10, normal},
		"much noise, 8 samples":  {8, func() float64 { return 0.5 * rng.NormFloat64() }},
		"exponential tail, 8":    {8, func() float64 { return 0.2 * rng.ExpFloat64() }},
		"now and then a stall":   {8, func() float64 { return 0.05*rng.NormFloat64() + map[bool]float64{true: 0.7}[rng.IntN(10) == 0] }},
		"two modes":              {6, func() float64 { return 0.2*float64(rng.IntN(2)) + 0.02*rng.NormFloat64() }},
	} {
		wrong := 0
		for range trials {
			for _, x := range Compare(run(metrics, c.samples, c.noise, unchanged), run(metrics, c.samples, c.noise, unchanged)).Changes {
				if x.Outcome != Same && x.Outcome != CannotTell {
					wrong++
					break
				}
			}
		}
		share := float64(wrong) / float64(trials)
		t.Logf("%s: %.1f %% of the comparisons of %d metrics found a change", name, 100*share, metrics)
		if share > ErrorRate+3*math.Sqrt(ErrorRate*(1-ErrorRate)/float64(trials)) {
			t.Errorf("%s: %.1f %% of the comparisons took noise for change", name, 100*share)
		}
	}
}

// TestChangeIsFound makes one of forty metrics worse and another better.
func TestChangeIsFound(t *testing.T) {
	const trials, metrics = 40, 40
	rng := rand.New(rand.NewPCG(8, 8))
	for _, c := range []struct {
		samples       int
		noise, factor float64
		want          float64 // share that is found
	}{
		{5, 0.02, 1.2, 0.95}, {8, 0.05, 1.25, 0.95}, {10, 0.10, 1.5, 0.95}, {5, 0.10, 3, 0.95},
	} {
		noise := func() float64 { return c.noise * rng.NormFloat64() }
		factor := func(i int) float64 {
			switch i {
			case 3:
				return c.factor
			case 4:
				return 1 / c.factor
			}
			return 1
		}
		found := 0
		for range trials {
			got := Compare(run(metrics, c.samples, noise, unchanged), run(metrics, c.samples, noise, factor))
			if got.Worse() && got.Changes[3].Outcome == Worsened && got.Changes[4].Outcome == Improved {
				found++
			}
		}
		share := float64(found) / trials
		t.Logf("%d samples, noise %g %%, factor %g: found in %.1f %%", c.samples, 100*c.noise, c.factor, 100*share)
		if share < c.want {
			t.Errorf("%d samples, noise %g %%, factor %g: found in %.1f %% only", c.samples, 100*c.noise, c.factor, 100*share)
		}
	}
}

func TestOutcomes(t *testing.T) {
	many := func(v float64) []float64 { return []float64{v, v * 1.01, v * 0.99, v * 1.005, v * 0.995} }
	for name, c := range map[string]struct {
		a, b     Metric
		verdicts []Verdict
		want     Outcome
		worse    bool
	}{
		"lower is better, higher":   {Metric{Value: 1, Samples: many(1), Better: Lower}, Metric{Value: 2, Samples: many(2), Better: Lower}, nil, Worsened, true},
		"lower is better, lower":    {Metric{Value: 2, Samples: many(2), Better: Lower}, Metric{Value: 1, Samples: many(1), Better: Lower}, nil, Improved, false},
		"higher is better, lower":   {Metric{Value: 2, Samples: many(2), Better: Higher}, Metric{Value: 1, Samples: many(1), Better: Higher}, nil, Worsened, true},
		"a fact":                    {Metric{Value: 2, Samples: many(2)}, Metric{Value: 1, Samples: many(1)}, nil, Neither, false},
		"certain, but small":        {Metric{Value: 1, Samples: []float64{1, 1, 1, 1, 1}, Better: Lower}, Metric{Value: 1.04, Samples: []float64{1.04, 1.04, 1.04, 1.04, 1.04}, Better: Lower}, nil, Same, false},
		"certain, no spread":        {Metric{Value: 1, Samples: []float64{1, 1, 1, 1, 1}, Better: Lower}, Metric{Value: 2, Samples: []float64{2, 2, 2, 2, 2}, Better: Lower}, nil, Worsened, true},
		"no samples":                {Metric{Value: 1, Better: Lower}, Metric{Value: 2, Better: Lower}, nil, CannotTell, false},
		"few samples":               {Metric{Value: 1, Samples: many(1)[:4], Better: Lower}, Metric{Value: 2, Samples: many(2), Better: Lower}, nil, CannotTell, false},
		"other unit":                {Metric{Value: 1, Unit: "s"}, Metric{Value: 2, Unit: "B"}, nil, CannotTell, false},
		"equal":                     {Metric{Value: 1}, Metric{Value: 1}, nil, Same, false},
		"samples that say contrary": {Metric{Value: 1, Samples: many(2), Better: Lower}, Metric{Value: 2, Samples: many(1), Better: Lower}, nil, Same, false},
		"the first lost message":    {Metric{Value: 0, Better: Lower}, Metric{Value: 1, Better: Lower}, []Verdict{{Metric: "m", Better: Lower, Result: Unchecked}}, Worsened, true},
		"none lost any more":        {Metric{Value: 1, Better: Lower}, Metric{Value: 0, Better: Lower}, []Verdict{{Metric: "m", Better: Lower, Result: Held}}, Improved, false},
	} {
		c.a.ID, c.b.ID = "m", "m"
		got := Compare(&Report{Sections: []Section{{Metrics: []Metric{c.a}}}}, &Report{Sections: []Section{{Metrics: []Metric{c.b}}}, Verdicts: c.verdicts})
		if x := got.Changes[0]; x.Outcome != c.want || got.Worse() != c.worse {
			t.Errorf("%s: %s, worse %v; want %s, %v", name, x.Outcome, got.Worse(), c.want, c.worse)
		}
	}
}

// TestHolm holds the correction against an example worked by hand.
func TestHolm(t *testing.T) {
	changes := []Change{{P: 0.04}, {P: math.NaN()}, {P: 0.01}, {P: 0.03}, {P: 0.9}}
	correct(changes)
	for i, want := range []float64{0.09, math.NaN(), 0.04, 0.09, 0.9} {
		if got := changes[i].P; math.Abs(got-want) > 1e-12 || math.IsNaN(got) != math.IsNaN(want) {
			t.Errorf("p of %d: %g, want %g", i, got, want)
		}
	}
}

// later is the sample after a change that made one thing slower, another faster, broke a third, on another machine.
func later(t *testing.T) *Report {
	t.Helper()
	r := sample(t)
	r.Version, r.Started = "v0.5", r.Started.Add(24*time.Hour)
	r.Machine.Cores = 4
	s := &r.Sections[0]
	for i := range s.Metrics {
		switch m := &s.Metrics[i]; m.ID {
		case "delivery.lmtp.c64.rate":
			scale(m, 0.8)
		case "delivery.smtp.c1.rate":
			scale(m, 1.3)
		case "delivery.peer.ratio":
			m.ID = "delivery.peer.share"
		}
	}
	r.Sections[0].Settings[0].Value = "30"
	r.Sections[2].Violations = []string{"a message came twice"}
	r.Sections[2].Metrics[2].Value = 45
	objectives, err := DefaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	if err := Judge(r, objectives, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func scale(m *Metric, by float64) {
	m.Value *= by
	for i := range m.Samples {
		m.Samples[i] *= by
	}
}

// TestComparisonGolden shows one comparison as people see it. HONGYAN_GOLDEN=write writes the files anew.
func TestComparisonGolden(t *testing.T) {
	c := Compare(sample(t), later(t))
	if !c.Worse() {
		t.Error("not worse")
	}
	golden(t, "compare.txt", []byte(c.Text()))
	golden(t, "compare.md", c.Markdown())
	page, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Circumstances that differ", "<td>Cores</td>", "Only in A: delivery.peer.ratio", `class="mark missed">worse`, "restart of a node: 45 s, promised at most 30 s; it held before"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if keep := keepDir(); keep != "" {
		if err := os.WriteFile(filepath.Join(keep, "compare.html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text := Compare(&Report{}, &Report{}).Text(); !strings.HasPrefix(text, "Nothing got worse: the runs have no figure in common\n") {
		t.Errorf("of nothing: %s", text)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("HONGYAN_GOLDEN") == "write" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what came out (HONGYAN_GOLDEN=write go test writes it anew):\n%s", path, got)
	}
}
