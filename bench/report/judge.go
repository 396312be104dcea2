package report

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Objective is what a metric is held against. Its metric is an ID or a pattern in which * stands for anything within one dot-part:
// delivery.*.c*.rate. Each metric that fits a pattern gets a verdict of its own.
type Objective struct {
	Metric string  `yaml:"metric"`
	Name   string  `yaml:"name"`
	Row    string  `yaml:"row"` // of the requirements
	Better Better  `yaml:"better"`
	Unit   string  `yaml:"unit"`
	Floor  float64 `yaml:"floor"`
	Aim    float64 `yaml:"aim"` // 0: none
}

// Judge fills the report's verdicts and says whether it passed: every objective that could be checked holds, no section failed and
// nothing that was promised was violated. An objective without its metric is left unchecked, unless required names it, by ID or
// pattern; then it is missed. A required name that fits no objective is an error, and the report is judged all the same.
func Judge(r *Report, objectives []Objective, required []string) error {
	r.Verdicts = nil
	r.Passed = true
	for _, o := range objectives {
		found := 0
		for _, s := range r.Sections {
			for _, m := range s.Metrics {
				if matches(o.Metric, m.ID) {
					found++
					r.Verdicts = append(r.Verdicts, o.judge(m))
				}
			}
		}
		if found == 0 {
			r.Verdicts = append(r.Verdicts, o.absent(required))
		}
	}
	for _, id := range required {
		if !strings.Contains(id, "*") && r.Find(id) == nil && !slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.Metric == id }) {
			if o := objectiveFor(objectives, id); o != nil { // its pattern matched others, but not this one
				one := *o
				one.Metric = id
				r.Verdicts = append(r.Verdicts, one.absent(required))
			}
		}
	}
	for _, v := range r.Verdicts {
		r.Passed = r.Passed && v.Result != Missed
	}
	for _, s := range r.Sections {
		r.Passed = r.Passed && s.Failed == "" && len(s.Violations) == 0
	}
	err := CheckRequired(objectives, required)
	r.Passed = r.Passed && err == nil
	return err
}

// CheckRequired says which names of --require fit no objective.
func CheckRequired(objectives []Objective, required []string) error {
	var found []error
	for _, id := range required {
		if objectiveFor(objectives, id) == nil {
			found = append(found, fmt.Errorf("no objective is called %q: the file of objectives names those that can be required", id))
		}
	}
	return errors.Join(found...)
}

func objectiveFor(objectives []Objective, id string) *Objective {
	for i, o := range objectives {
		if o.Metric == id || matches(o.Metric, id) || matches(id, o.Metric) {
			return &objectives[i]
		}
	}
	return nil
}

func (o Objective) absent(required []string) Verdict {
	v := Verdict{Metric: o.Metric, Name: o.Name, Row: o.Row, Unit: o.Unit, Floor: o.Floor, Aim: o.Aim, Better: o.Better, Result: Unchecked}
	for _, id := range required {
		if o.Metric == id || matches(id, o.Metric) || matches(o.Metric, id) {
			v.Result, v.Note = Missed, "required, but not measured in this run"
		}
	}
	return v
}

func (o Objective) judge(m Metric) Verdict {
	v := Verdict{Metric: m.ID, Name: o.Name, Row: o.Row, Unit: o.Unit, Value: m.Value, Floor: o.Floor, Aim: o.Aim, Better: o.Better}
	if starred := stars(o.Metric, m.ID); starred != "" {
		v.Name += " (" + starred + ")"
	}
	switch {
	case !isFinite(m.Value):
		v.Value, v.Result, v.Note = 0, Missed, "measured, but no finite number came out"
	case conflict(o.Unit, m.Unit):
		v.Result, v.Note = Missed, fmt.Sprintf("the metric is in %q and the objective in %q: mend the file of objectives", m.Unit, o.Unit)
	case !o.holds(m.Value, o.Floor):
		v.Result = Missed
	case o.Aim != 0 && o.holds(m.Value, o.Aim):
		v.Result = Excelled
	default:
		v.Result = Held
	}
	return v
}

// holds compares with a hair's breadth for what decimal fractions lose in binary.
func (o Objective) holds(v, bound float64) bool {
	hair := 1e-12 * max(v, -v, bound, -bound)
	if o.Better == Higher {
		return v >= bound-hair
	}
	return v <= bound+hair
}

// conflict tells whether units differ. Nouns may: messages or mails.
func conflict(a, b string) bool {
	measured := []string{"s", "B", "1/s", "B/s", "B/h", "bit/s", "ratio", "%"}
	return a != b && (slices.Contains(measured, a) || slices.Contains(measured, b))
}

func firstPart(id string) string {
	first, _, _ := strings.Cut(id, ".")
	return first
}

func slashes(s string) string { return strings.ReplaceAll(s, ".", "/") }

// matches leaves the stars to path.Match, whose parts end at slashes.
func matches(pattern, id string) bool {
	ok, err := path.Match(slashes(pattern), slashes(id))
	return err == nil && ok
}

// stars are the parts of an ID that a pattern left open, such as "lmtp, c8".
func stars(pattern, id string) string {
	var out []string
	parts := strings.Split(id, ".")
	for i, p := range strings.Split(pattern, ".") {
		if strings.Contains(p, "*") && i < len(parts) {
			out = append(out, parts[i])
		}
	}
	return strings.Join(out, ", ")
}
