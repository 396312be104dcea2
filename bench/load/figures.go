package load

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"hongyan/bench/report"
)

// Figures is what a recorder knows at one moment.
type Figures struct {
	Name                string
	Successes, Failures int64
	Errors              map[Class]int64  // their sum is Failures
	Examples            map[Class]string // the first error of each class
	Waiting             int              // operations that have begun and not ended
	First, Last         time.Time        // success; zero without
	Elapsed             time.Duration    // from the first demand to the last outcome
	Stall               Stall            // the longest, including one that still lasts
	Mean, P50, P90      time.Duration    // latencies of successes from their scheduled time, as all that follow
	P99, P999, Max      time.Duration
	Marks               []Mark
}

// Rate is the successes a second while there was something to do.
func (f Figures) Rate() float64 {
	if f.Elapsed <= 0 {
		return 0
	}
	return float64(f.Successes) / f.Elapsed.Seconds()
}

// ErrorShare is the part of all operations that failed, from 0 to 1; 0 when there was none.
func (f Figures) ErrorShare() float64 {
	if f.Successes+f.Failures == 0 {
		return 0
	}
	return float64(f.Failures) / float64(f.Successes+f.Failures)
}

// Figures gives what the recorder knows now.
func (r *Recorder) Figures() Figures {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	f := Figures{Name: r.name, Successes: r.whole.TotalCount(), Errors: maps.Clone(r.failures), Examples: maps.Clone(r.examples), Waiting: r.waiting,
		First: r.success[0], Last: r.success[1], Stall: r.stall, Marks: slices.Clone(r.marks)}
	for _, n := range f.Errors {
		f.Failures += n
	}
	if !r.last.IsZero() {
		f.Elapsed = r.last.Sub(r.first)
	}
	// Without an operation on its way, demand that was never met lasts until the last outcome, not until somebody looks.
	until := now
	if r.waiting == 0 {
		until = r.last
	}
	if !r.since.IsZero() && until.Sub(r.since) > f.Stall.For {
		f.Stall = Stall{Began: r.since, For: until.Sub(r.since)}
	}
	if n := len(f.Marks); n > 0 && !r.since.IsZero() {
		f.Marks[n-1].Stall = max(f.Marks[n-1].Stall, until.Sub(later(r.since, f.Marks[n-1].At)))
	}
	if f.Successes > 0 {
		f.Mean, f.Max = time.Duration(r.whole.Mean()*1000), quantile(r.whole, 100)
		f.P50, f.P90, f.P99, f.P999 = quantile(r.whole, 50), quantile(r.whole, 90), quantile(r.whole, 99), quantile(r.whole, 99.9)
	}
	return f
}

// Live is what a terminal shows while a run is under way: of the last slice that is over.
type Live struct {
	Rate     float64 // successes a second
	Errors   float64 // failures a second
	P50, P99 time.Duration
	Waiting  int
}

// Live gives the figures of the last slice that is over. Before one is, they are zero.
func (r *Recorder) Live() Live {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	l := Live{Waiting: r.waiting}
	if now.Before(r.began) {
		return l
	}
	r.slices.at(now.Sub(r.began)) // what is over is over, also when nothing came since
	if n := len(r.slices.slices); n > 1 {
		s := r.slices.slices[n-2]
		l.Rate, l.Errors = float64(s.successes)/r.slices.width.Seconds(), float64(s.failures)/r.slices.width.Seconds()
		l.P50, l.P99 = s.p50, s.p99
	}
	return l
}

// Latency is the distribution of all successes' times from when they were scheduled.
func (r *Recorder) Latency(id, name string) report.Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := report.Latency{ID: id, Name: name, Count: r.whole.TotalCount(), Points: []report.Percentile{}}
	if l.Count == 0 {
		return l
	}
	l.Mean, l.Max = r.whole.Mean()/1e6, quantile(r.whole, 100).Seconds()
	for _, p := range []float64{0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 98, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100} {
		l.Points = append(l.Points, report.Percentile{Percent: p, Seconds: quantile(r.whole, p).Seconds()})
	}
	return l
}

// Metrics are the recorder's figures under IDs that begin with prefix, such as delivery.lmtp.c8:
//
//	.rate         successes a second while there was something to do; samples: of each slice but the first and the last
//	.p50 .p99     latency of successes from their scheduled time, s; samples: of each such slice
//	.p999 .max    the same without samples
//	.stall        longest time without success under demand, s
//	.errors       part of all operations that failed, %
//	.errors.4xx   and so on: how many failed of each class that occurred
func (r *Recorder) Metrics(prefix string) []report.Metric {
	f := r.Figures()
	rates, p50, p99 := r.samples()
	m := func(id, what string, value float64, unit string, better report.Better, samples []float64) report.Metric {
		return report.Metric{ID: prefix + "." + id, Name: r.name + ", " + what, Value: value, Unit: unit, Better: better, Samples: samples}
	}
	all := []report.Metric{
		m("rate", "a second", f.Rate(), "1/s", report.Higher, rates),
		m("p50", "median", f.P50.Seconds(), "s", report.Lower, p50),
		m("p99", "99th percentile", f.P99.Seconds(), "s", report.Lower, p99),
		m("p999", "99.9th percentile", f.P999.Seconds(), "s", report.Lower, nil),
		m("max", "longest", f.Max.Seconds(), "s", report.Lower, nil),
		m("stall", "longest stall", f.Stall.For.Seconds(), "s", report.Lower, nil),
		m("errors", "failed", 100*f.ErrorShare(), "%", report.Lower, nil),
	}
	if f.Successes == 0 { // a latency of nothing is not a good one
		all = []report.Metric{all[0], all[5], all[6]}
	}
	for _, c := range Classes() {
		if n := f.Errors[c]; n > 0 {
			all = append(all, m("errors."+string(c), fmt.Sprintf("failed (%s)", c), float64(n), "operations", report.Info, nil))
		}
	}
	return all
}

// maxSamples is how many slices a metric or a line shows; more are merged.
const maxSamples = 300

// samples are of the slices between the first and the last that had an outcome, both left out: they are not whole.
func (r *Recorder) samples() (rates, p50, p99 []float64) {
	all, width := r.shown()
	busy := func(s slice) bool { return s.successes+s.failures > 0 }
	first := slices.IndexFunc(all, busy)
	last := len(all) - 1
	for ; last >= 0 && !busy(all[last]); last-- {
	}
	for i := first + 1; first >= 0 && i < last; i++ {
		rates = append(rates, float64(all[i].successes)/width.Seconds())
		if all[i].successes > 0 {
			p50, p99 = append(p50, all[i].p50.Seconds()), append(p99, all[i].p99.Seconds())
		}
	}
	return rates, p50, p99
}

// shown are the slices, merged until they are few enough to show.
func (r *Recorder) shown() ([]slice, time.Duration) {
	r.mu.Lock()
	all, width := r.slices.closed(), r.slices.width
	r.mu.Unlock()
	for len(all) > maxSamples {
		all, width = pairs(all), 2*width
	}
	return all, width
}
