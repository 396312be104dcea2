package load

import (
	"hongyan/bench/report"
)

// RateChart shows successes a second over the section's time, and failures a second where there were any. Marks of the first recorder are in it.
func RateChart(title string, recorders ...*Recorder) report.Chart {
	c := report.Chart{Title: title, Unit: "1/s"}
	for _, r := range recorders {
		ok, failed := report.Line{Name: r.name}, report.Line{Name: r.name + ", failed"}
		any := false
		all, width := r.shown()
		for i, s := range all {
			at := (float64(i) + 0.5) * width.Seconds()
			ok.At, ok.Value = append(ok.At, at), append(ok.Value, float64(s.successes)/width.Seconds())
			failed.At, failed.Value = append(failed.At, at), append(failed.Value, float64(s.failures)/width.Seconds())
			any = any || s.failures > 0
		}
		c.Lines = append(c.Lines, ok)
		if any {
			c.Lines = append(c.Lines, failed)
		}
	}
	c.Marks = marksOf(recorders)
	return c
}

// LatencyChart shows the median and the 99th percentile over the section's time, on a logarithmic scale; slices without a success have no point.
func LatencyChart(title string, recorders ...*Recorder) report.Chart {
	c := report.Chart{Title: title, Unit: "s", Log: true}
	for _, r := range recorders {
		p50, p99 := report.Line{Name: r.name + ", median"}, report.Line{Name: r.name + ", 99th percentile"}
		all, width := r.shown()
		for i, s := range all {
			if s.successes == 0 {
				continue
			}
			at := (float64(i) + 0.5) * width.Seconds()
			p50.At, p50.Value = append(p50.At, at), append(p50.Value, s.p50.Seconds())
			p99.At, p99.Value = append(p99.At, at), append(p99.Value, s.p99.Seconds())
		}
		c.Lines = append(c.Lines, p50, p99)
	}
	c.Marks = marksOf(recorders)
	return c
}

// marksOf are the first recorder's marks, each until the first success that was started after it.
func marksOf(recorders []*Recorder) []report.Mark {
	if len(recorders) == 0 {
		return nil
	}
	var marks []report.Mark
	for _, m := range recorders[0].Figures().Marks {
		shown := report.Mark{At: m.At.Sub(recorders[0].began).Seconds(), Label: m.Label}
		if !m.First.IsZero() {
			shown.Until = m.First.Sub(recorders[0].began).Seconds()
		}
		marks = append(marks, shown)
	}
	return marks
}
