package pop3

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hongyan/frontends/listen"
)

// metrics count what a Server did.
type metrics struct {
	prometheus.Collector // of all

	sessions                                                         prometheus.Gauge
	commands, bad, failures, panics, tlsFailures, retrieved, removed prometheus.Counter
	inUse, retrievedBytes                                            prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	r := prometheus.NewRegistry()
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "hongyan", Subsystem: "pop3", Name: name, Help: help})
	}
	listen.Measure(r, s.open)
	return &metrics{
		Collector:   r,
		sessions:    f.NewGauge(prometheus.GaugeOpts{Name: "hongyan_pop3_sessions", Help: "Sessions that are logged in."}),
		commands:    counter("commands_total", "Commands received."),
		bad:         counter("bad_commands_total", "Commands not understood."),
		failures:    counter("failures_total", "Commands that failed for trouble of the cluster's."),
		panics:      counter("panics_total", "Sessions that ended by a fault of ours."),
		tlsFailures: counter("tls_failures_total", "TLS handshakes that failed."),
		retrieved:   counter("retrieved_total", "Messages sent by RETR and TOP."),
		inUse:       counter("in_use_total", "Logins refused because another session had the maildrop open."),
		removed:     counter("removed_total", "Messages removed at QUIT."),

		retrievedBytes: counter("retrieved_bytes_total", "Bytes of messages read for RETR and TOP."),
	}
}

// Metrics are the server's; a registry that takes several servers' needs a label for each.
func (s *Server) Metrics() prometheus.Collector { return s.metrics }

// open are the listeners that were given to Serve.
func (s *Server) open() []*listen.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listeners)
}
