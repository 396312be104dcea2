package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxSlices bounds a series. A run that is longer gets slices of twice the length, as often as it needs.
const maxSlices = 20_000

// slice is one piece of a recorder's time.
type slice struct {
	successes, failures int64
	p50, p99            time.Duration // of successes, from their scheduled time; set once the slice is over
}

// series is what a recorder saw, slice by slice. Only the newest slice has a histogram: outcomes come in the order of time, but for a few
// that a neighbour overtook on the way to the lock, and those count for the newest.
type series struct {
	width  time.Duration
	slices []slice // from the recorder's begin
	now    *hdrhistogram.Histogram
}

func newSeries(width time.Duration) series {
	return series{width: width, now: hdrhistogram.New(1, longestLatency.Microseconds(), 2)}
}

// at is the slice for an outcome at that time since the begin. It closes those before.
func (s *series) at(since time.Duration) *slice {
	for int(since/s.width) >= maxSlices {
		s.coarsen()
	}
	for len(s.slices) <= int(max(since, 0)/s.width) {
		s.close()
		s.slices = append(s.slices, slice{})
	}
	return &s.slices[len(s.slices)-1]
}

// took adds a latency to the newest slice, which at gave.
func (s *series) took(d time.Duration) {
	_ = s.now.RecordValue(d.Microseconds()) // fails only above longestLatency
}

// close settles the percentiles of the newest slice.
func (s *series) close() {
	if s.now.TotalCount() == 0 {
		return
	}
	last := &s.slices[len(s.slices)-1]
	last.p50, last.p99 = quantile(s.now, 50), quantile(s.now, 99)
	s.now.Reset()
}

// coarsen makes one slice of two.
func (s *series) coarsen() {
	s.close()
	s.slices = pairs(s.slices)
	s.width *= 2
}

// closed is a copy of all slices with their percentiles.
func (s *series) closed() []slice {
	all := append([]slice(nil), s.slices...)
	if s.now.TotalCount() > 0 {
		last := &all[len(all)-1]
		last.p50, last.p99 = quantile(s.now, 50), quantile(s.now, 99)
	}
	return all
}

// pairs merges neighbours. The merged median is the mean of both, weighted, and the merged 99th percentile the larger: an upper bound.
func pairs(in []slice) []slice {
	out := make([]slice, 0, (len(in)+1)/2)
	for i := 0; i < len(in); i += 2 {
		m := in[i]
		if i+1 < len(in) {
			b := in[i+1]
			if n := m.successes + b.successes; n > 0 {
				m.p50 = time.Duration((float64(m.p50)*float64(m.successes) + float64(b.p50)*float64(b.successes)) / float64(n))
			}
			m.p99 = max(m.p99, b.p99)
			m.successes += b.successes
			m.failures += b.failures
		}
		out = append(out, m)
	}
	return out
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	if h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.ValueAtPercentile(percent)) * time.Microsecond
}
