package collect

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stats are what a collector has done since the start, and what its last round saw.
type stats struct {
	looks, asks, failures, compactions, reclaimed, rounds atomic.Uint64
	took, bytes, dead                                     atomic.Int64
}

func (s *stats) round(took time.Duration, bytes, dead int64) {
	s.rounds.Add(1)
	s.took.Store(int64(took))
	s.bytes.Store(bytes)
	s.dead.Store(dead)
}

// Metrics are those of the collection of garbage on this node.
func (c *Collector) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	counter := func(name, help string, v *atomic.Uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hongyan_collect_" + name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, v func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_collect_" + name, Help: help}, v))
	}
	s := &c.stats
	counter("rounds_total", "Rounds through the volumes whose garbage this node collects.", &s.rounds)
	counter("volumes_total", "Looks at a volume.", &s.looks)
	counter("asks_total", "Of these, all shards were asked about the volume; else one replica of each has said that there is nothing to do.", &s.asks)
	counter("failures_total", "Volumes that could not be collected; the log says why.", &s.failures)
	counter("compactions_total", "Volumes compacted, or dropped since nothing in them was live.", &s.compactions)
	counter("reclaimed_bytes_total", "Bytes that compaction took from each copy of those volumes.", &s.reclaimed)
	gauge("round_seconds", "How long the last round took.", func() float64 { return time.Duration(s.took.Load()).Seconds() })
	gauge("bytes", "Bytes of the volumes that the last round looked at, one copy.", func() float64 { return float64(s.bytes.Load()) })
	gauge("dead_bytes", "Of them, bytes that nothing refers to.", func() float64 { return float64(s.dead.Load()) })
	return r
}
