package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hongyan/bench/report/units"
)

// counts are the verdicts by their result.
func (r *Report) counts() map[Result]int {
	n := make(map[Result]int)
	for _, v := range r.Verdicts {
		n[v.Result]++
	}
	return n
}

// headline is the verdict in one line.
func (r *Report) headline() string {
	n := r.counts()
	checked := n[Missed] + n[Held] + n[Excelled]
	if r.Passed {
		switch checked {
		case 0:
			return "Passed: nothing failed, no objective was checked"
		case 1:
			return "Passed: the one objective that was checked holds"
		}
		return fmt.Sprintf("Passed: all %d objectives that were checked hold", checked)
	}
	var failed, violations int
	for _, s := range r.Sections {
		violations += len(s.Violations)
		if s.Failed != "" {
			failed++
		}
	}
	var parts []string
	if n[Missed] > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s missed", n[Missed], plural(checked, "objective")))
	}
	if violations > 0 {
		parts = append(parts, plural(violations, "violation"))
	}
	if failed > 0 {
		parts = append(parts, plural(failed, "section")+" not finished")
	}
	if len(parts) == 0 {
		return "Not passed"
	}
	return "Not passed: " + strings.Join(parts, ", ")
}

// reasons say, one line each, why the report did not pass.
func (r *Report) reasons() []string {
	var out []string
	for _, v := range r.Verdicts {
		switch {
		case v.Result != Missed:
		case v.Note != "":
			out = append(out, v.Name+": "+v.Note)
		default:
			out = append(out, fmt.Sprintf("%s: %s, promised %s", v.Name, units.Format(v.Value, v.Unit), v.bound(v.Floor)))
		}
	}
	for _, s := range r.Sections {
		if len(s.Violations) > 0 {
			out = append(out, s.Title+": "+plural(len(s.Violations), "violation")+" of what is promised")
		}
		if s.Failed != "" {
			out = append(out, s.Title+": not finished: "+s.Failed)
		}
	}
	return out
}

// bound is a floor or aim with its direction: at most 3 s.
func (v Verdict) bound(b float64) string {
	switch {
	case v.Better == Higher:
		return "at least " + units.Format(b, v.Unit)
	case b == 0:
		return units.Format(b, v.Unit)
	}
	return "at most " + units.Format(b, v.Unit)
}

func (v Verdict) value() string {
	if v.Result == Unchecked || v.Note != "" {
		return "–"
	}
	return units.Format(v.Value, v.Unit)
}

func (v Verdict) aim() string {
	if v.Aim == 0 {
		return "–"
	}
	return v.bound(v.Aim)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return units.Number(float64(n)) + " " + noun + "s"
}

// facts are what the figures depend on: first the machine, then the settings of the run.
func (r *Report) facts() []Setting {
	m := r.Machine
	var out []Setting
	add := func(name, value string) {
		if value != "" {
			out = append(out, Setting{name, value})
		}
	}
	add("Program", r.Version)
	add("System", strings.TrimSpace(m.OS+" "+m.Kernel))
	add("Processor", m.CPU)
	if m.Cores > 0 {
		add("Cores", strconv.Itoa(m.Cores))
	}
	if m.MemoryBytes > 0 {
		add("Memory", units.Format(float64(m.MemoryBytes), "B"))
	}
	add("File system of the data", m.Filesystem)
	if m.FsyncSecs > 0 {
		add("One fsync, median", units.Seconds(m.FsyncSecs))
	}
	if m.OS != "" { // else nothing is known of the machine
		add("Load before the run", units.Number(m.LoadBefore))
	}
	return append(out, r.Settings...)
}

// when says when the run began and how long it took.
func when(started time.Time, seconds float64) string {
	var parts []string
	if !started.IsZero() {
		parts = append(parts, started.UTC().Format("2 January 2006, 15:04 UTC"))
	}
	if seconds > 0 {
		parts = append(parts, "took "+units.Seconds(seconds))
	}
	return strings.Join(parts, "; ")
}

// shownPercents are the columns of tables of latencies.
func shownPercents() []float64 { return []float64{50, 90, 99, 99.9} }

// At gives the time that the percent of all times did not exceed: of the first percentile at or above it. Times of which only
// the largest is known give that. The second result is false when there are none.
func (l *Latency) At(percent float64) (float64, bool) {
	for _, p := range l.Points {
		if p.Percent >= percent-1e-9 {
			return p.Seconds, true
		}
	}
	return l.Max, l.Count > 0
}

// latencyCells are a row of the table of latencies.
func (l *Latency) latencyCells() []string {
	out := make([]string, 0, 8)
	for _, p := range shownPercents() {
		if v, ok := l.At(p); ok {
			out = append(out, units.Seconds(v))
		} else {
			out = append(out, "–")
		}
	}
	return append(out, units.Seconds(l.Max), units.Seconds(l.Mean), units.Number(float64(l.Count)))
}
