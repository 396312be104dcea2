package report

import (
	"math"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	low := Objective{Metric: "a.delay", Name: "delay", Better: Lower, Unit: "s", Floor: 3, Aim: 0.5}
	high := Objective{Metric: "a.rate", Name: "rate", Better: Higher, Unit: "1/s", Floor: 100}
	for name, c := range map[string]struct {
		o      Objective
		m      Metric
		want   Result
		passed bool
	}{
		"below the aim":            {low, Metric{ID: "a.delay", Value: 0.4, Unit: "s"}, Excelled, true},
		"at the floor":             {low, Metric{ID: "a.delay", Value: 3, Unit: "s"}, Held, true},
		"a hair above the floor":   {low, Metric{ID: "a.delay", Value: 3 * (1 + 1e-15), Unit: "s"}, Held, true},
		"above the floor":          {low, Metric{ID: "a.delay", Value: 3.01, Unit: "s"}, Missed, false},
		"in another unit":          {low, Metric{ID: "a.delay", Value: 0.4, Unit: "ratio"}, Missed, false},
		"not a number":             {low, Metric{ID: "a.delay", Value: math.NaN(), Unit: "s"}, Missed, false},
		"higher, enough":           {high, Metric{ID: "a.rate", Value: 100, Unit: "1/s"}, Held, true},
		"higher, too little":       {high, Metric{ID: "a.rate", Value: 99, Unit: "1/s"}, Missed, false},
		"not measured":             {low, Metric{ID: "a.other", Value: 9, Unit: "s"}, Unchecked, true},
		"nouns need not be equal":  {Objective{Metric: "lost", Better: Lower, Unit: "messages"}, Metric{ID: "lost", Unit: "mails"}, Held, true},
		"a floor of nothing":       {Objective{Metric: "lost", Better: Lower, Unit: "messages"}, Metric{ID: "lost", Value: 1, Unit: "messages"}, Missed, false},
		"one * is not two parts":   {Objective{Metric: "a.*", Better: Lower, Unit: "s"}, Metric{ID: "a.b.c", Value: 9, Unit: "s"}, Unchecked, true},
		"* inside a part":          {Objective{Metric: "a.c*.p99", Better: Lower, Unit: "s", Floor: 1}, Metric{ID: "a.c64.p99", Value: 9, Unit: "s"}, Missed, false},
		"* does not cross a point": {Objective{Metric: "a*p99", Better: Lower, Unit: "s", Floor: 1}, Metric{ID: "a.p99", Value: 9, Unit: "s"}, Unchecked, true},
	} {
		r := &Report{Sections: []Section{{Metrics: []Metric{c.m}}}}
		if err := Judge(r, []Objective{c.o}, nil); err != nil {
			t.Fatal(err)
		}
		if got := r.Verdicts[0]; got.Result != c.want || r.Passed != c.passed {
			t.Errorf("%s: %+v, passed %v; want %s, %v", name, got, r.Passed, c.want, c.passed)
		}
	}
}

func TestWhatFailsAReport(t *testing.T) {
	for name, s := range map[string]Section{"a violation": {Violations: []string{"lost"}}, "not finished": {Failed: "why"}} {
		r := &Report{Sections: []Section{{}, s}}
		if err := Judge(r, nil, nil); err != nil || r.Passed {
			t.Errorf("%s: passed %v, %v", name, r.Passed, err)
		}
	}
	r := &Report{}
	if err := Judge(r, nil, nil); err != nil || !r.Passed {
		t.Errorf("nothing at all: passed %v, %v", r.Passed, err)
	}
}

func TestRequired(t *testing.T) {
	objectives := []Objective{
		{Metric: "failover.*.max", Name: "longest stall", Better: Lower, Unit: "s", Floor: 3}, {Metric: "idle.notice", Name: "notice", Better: Lower, Unit: "s", Floor: 1},
		{Metric: "chaos.lost", Name: "lost", Better: Lower, Unit: "messages"},
	}
	for name, c := range map[string]struct {
		required []string
		missed   string // metrics
		err      string
	}{
		"nothing":                          {nil, "", ""},
		"what was measured":                {[]string{"failover.node.max"}, "", ""},
		"a pattern of which one was":       {[]string{"failover.*.max"}, "", ""},
		"one of a pattern, not measured":   {[]string{"failover.link.max"}, "failover.link.max", ""},
		"an objective, not measured":       {[]string{"idle.notice", "chaos.lost"}, "idle.notice chaos.lost", ""},
		"a pattern over several":           {[]string{"*.lost"}, "chaos.lost", ""},
		"what no objective is about":       {[]string{"idle.notice", "idle.nonsense"}, "idle.notice", `no objective is called "idle.nonsense"`},
		"a star where none of it matches:": {[]string{"soak.*"}, "", `no objective is called "soak.*"`},
	} {
		r := &Report{Sections: []Section{{Metrics: []Metric{{ID: "failover.node.max", Value: 1, Unit: "s"}}}}}
		err := Judge(r, objectives, c.required)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		var missed []string
		for _, v := range r.Verdicts {
			if v.Result == Missed {
				missed = append(missed, v.Metric)
			}
		}
		if got := strings.Join(missed, " "); got != c.missed || r.Passed != (c.missed == "" && c.err == "") {
			t.Errorf("%s: missed %q, passed %v; want %q", name, got, r.Passed, c.missed)
		}
	}
}

func TestVerdictOfAPatternSaysWhich(t *testing.T) {
	r := &Report{Sections: []Section{{Metrics: []Metric{{ID: "delivery.lmtp.c8.rate", Value: 9, Unit: "1/s"}}}}}
	if err := Judge(r, []Objective{{Metric: "delivery.*.c*.rate", Name: "rate", Better: Higher, Unit: "1/s", Floor: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	if got := r.Verdicts[0].Name; got != "rate (lmtp, c8)" {
		t.Errorf("called %q", got)
	}
}

func TestDefaultObjectives(t *testing.T) {
	all, err := DefaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Errorf("only %d objectives", len(all))
	}
	for _, want := range []struct {
		id    string
		floor float64
	}{{"delivery.delay.mean", 60}, {"delivery.late.share", 0.005}, {"failover.region.stall.max", 3}, {"chaos.lost", 0}, {"storage.cold.bytes_per_byte", 1.6}, {"recovery.restart", 30}} {
		o := objectiveFor(all, want.id)
		if o == nil || o.Floor != want.floor {
			t.Errorf("%s: %+v, want the floor %g", want.id, o, want.floor)
		}
	}
}

func TestMistakesInObjectives(t *testing.T) {
	const good = "- {metric: a.b, name: x, better: lower, unit: s, floor: 3}\n"
	for in, want := range map[string]string{
		"":                                      "f.yaml:1: expected a list",
		"a: 1":                                  "f.yaml:1: expected a list",
		"- 3":                                   "f.yaml:1: expected an objective: keys and values",
		good + "- {metric: a.c, nam: x}":        "f.yaml:2: unknown field \"nam\"",
		good + good:                             "f.yaml:2: a.b has an objective on line 1 already",
		good + "- {metric: A B}":                "f.yaml:2: metric \"A B\": expected an ID",
		good + "\n- metric: a.c":                "f.yaml:3: a.c: expected a name",
		"- {metric: a, name: x}":                "better \"\": expected lower or higher",
		"- {metric: a, name: x, better: lower}": "a: expected a unit",
		"- {metric: a, name: x, better: lower, unit: s}":                          "a: expected a floor",
		"- {metric: a, name: x, better: lower, unit: s, floor: many}":             "f.yaml:1: ",
		"- {metric: a, name: x, better: lower, unit: s, floor: .nan}":             "a: expected finite numbers",
		"- {metric: a, name: x, better: lower, unit: s, floor: 1, aim: 2}":        "the aim 2 is easier to reach than the floor 1",
		"- {metric: a, name: x, better: higher, unit: s, floor: 2, aim: 1}":       "the aim 1 is easier to reach than the floor 2",
		"---\n" + good + "---\n" + good:                                           "expected one YAML document",
		"- {metric: a":                                                            "f.yaml:1: ",
		"- {metric: a.b, metric: a.c, name: x, better: lower, unit: s, floor: 3}": "f.yaml:1: ",
		strings.Repeat("#", maxObjectives+1):                                      "larger than",
	} {
		if _, err := ParseObjectives("f.yaml", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: want %q, got %v", in, want, err)
		}
	}
	both := "- {metric: A, name: x}\n- {metric: b}\n"
	if _, err := ParseObjectives("f.yaml", []byte(both)); err == nil || !strings.Contains(err.Error(), "f.yaml:1: ") || !strings.Contains(err.Error(), "f.yaml:2: ") {
		t.Errorf("of two mistakes: %v", err)
	}
}

func FuzzParseObjectives(f *testing.F) {
	f.Add(defaultObjectives)
	f.Add([]byte("- &a {metric: a}\n- *a\n- <<: *a\n-\n- [1]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseObjectives("f", b)
		if err != nil {
			return
		}
		for _, o := range all {
			if o.Metric == "" || o.Unit == "" || !isFinite(o.Floor) {
				t.Errorf("took %+v", o)
			}
		}
	})
}
