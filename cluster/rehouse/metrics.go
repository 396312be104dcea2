package rehouse

import "github.com/prometheus/client_golang/prometheus"

// metrics of a Rehouser.
type metrics struct{ messages, bytes, failures prometheus.Counter }

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hongyan_rehouse_" + name, Help: help})
	}
	return &metrics{
		messages: counter("messages_total", "Entries of stored messages that were changed to bytes under their domain's present policy."),
		bytes:    counter("bytes_total", "Bytes of messages that were put again for that."),
		failures: counter("failures_total", "Times that a message could not be put or entered for that; it is tried again."),
	}
}

// Metrics are the node's, for the shards that it leads.
func (r *Rehouser) Metrics() prometheus.Collector {
	reg := prometheus.NewRegistry()
	reg.MustRegister(r.metrics.messages, r.metrics.bytes, r.metrics.failures)
	return reg
}
