package imap

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/frontends/listen"
)

// figure is one value of Stats under its name.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Stats) float64
}

// collector turns Stats into metrics.
type collector struct {
	stats   func() Stats
	figures []figure
}

// Metrics are the server's; a registry that takes several servers' needs a label for each.
func (s *Server) Metrics() prometheus.Collector {
	c := &collector{stats: s.Stats}
	gauge := func(name, help string, of func(*Stats) int64) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.GaugeValue, func(st *Stats) float64 { return float64(of(st)) }})
	}
	counter := func(name, help string, of func(*Stats) uint64) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.CounterValue, func(st *Stats) float64 { return float64(of(st)) }})
	}
	gauge("sessions", "Connections that are logged in.", func(st *Stats) int64 { return st.Sessions })
	gauge("idle_sessions", "Connections in IDLE.", func(st *Stats) int64 { return st.Idle })
	counter("commands_total", "Commands received.", func(st *Stats) uint64 { return st.Commands })
	counter("bad_commands_total", "Commands answered BAD.", func(st *Stats) uint64 { return st.Bad })
	counter("byes_total", "Connections that the server ended with BYE.", func(st *Stats) uint64 { return st.Byes })
	counter("unavailable_total", "Commands answered NO [UNAVAILABLE].", func(st *Stats) uint64 { return st.Unavailable })
	counter("internal_failures_total", "Commands that failed by a fault of ours.", func(st *Stats) uint64 { return st.InternalFailures })
	counter("panics_total", "Sessions that ended by a fault of ours.", func(st *Stats) uint64 { return st.Panics })
	counter("tls_failures_total", "TLS handshakes that failed.", func(st *Stats) uint64 { return st.TLSFailures })
	counter("appended_total", "Messages stored by APPEND.", func(st *Stats) uint64 { return st.Appended })
	counter("appended_bytes_total", "Their bytes.", func(st *Stats) uint64 { return st.AppendedBytes })
	counter("fetched_total", "Messages that FETCH answered for.", func(st *Stats) uint64 { return st.Fetched })
	counter("fetched_bytes_total", "Bytes of messages sent by FETCH.", func(st *Stats) uint64 { return st.FetchedBytes })
	counter("searches_total", "SEARCH commands.", func(st *Stats) uint64 { return st.Searches })
	counter("updates_total", "Times that a session was told of changes by others.", func(st *Stats) uint64 { return st.Updates })
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	listen.Measure(r, s.open)
	return r
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("hongyan_imap_"+name, help, nil, nil)
}

// open are the listeners that were given to Serve.
func (s *Server) open() []*listen.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listeners)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	st := c.stats()
	for _, f := range c.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&st))
	}
}
