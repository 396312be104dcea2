package textsearch

import "github.com/prometheus/client_golang/prometheus"

// metrics of a Service.
type metrics struct {
	messages, bytes, merges, failures, rebuilds prometheus.Counter
	searches                                    *prometheus.CounterVec
	seconds                                     prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hongyan_textsearch_" + name, Help: help})
	}
	return &metrics{
		messages: counter("messages_total", "Messages taken into this node's full-text index."),
		bytes:    counter("text_bytes_total", "Bytes of text that these had."),
		merges:   counter("merges_total", "Merges of segments."),
		failures: counter("failures_total", "Times that a mailbox was not indexed, merged or searched for an error; all but searches are tried again."),
		rebuilds: counter("rebuilds_total", "Times that the index was thrown away and begun anew."),
		searches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_textsearch_searches_total",
			Help: "Texts that sessions of this node searched for, by what answered: index, or none, and then messages were read."}, []string{"answer"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hongyan_textsearch_seconds", Help: "What searches in this node's index took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
	}
}

// Metrics are the service's; of a node without an index only what it asked.
func (s *Service) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	m := s.metrics
	r.MustRegister(m.searches)
	if s.cfg.DB == nil {
		return r
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_textsearch_" + name, Help: help}, value)
	}
	r.MustRegister(m.messages, m.bytes, m.merges, m.failures, m.rebuilds, m.seconds,
		gauge("waiting", "Mailboxes of which something is not indexed yet.", func() float64 { n, _ := s.lag(); return float64(n) }),
		gauge("lag_seconds", "How long the oldest delivery waits that is not indexed yet.", func() float64 { _, lag := s.lag(); return lag }),
		gauge("disk_bytes", "Size of the full-text index on disk.", func() float64 { return float64(s.cfg.DB.DiskBytes()) }))
	return r
}
