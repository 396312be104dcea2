package imap

import (
	"github.com/prometheus/client_golang/prometheus"

	"hongyan/frontends/imap/columns"
	"hongyan/frontends/imap/order"
)

// maxRemembered is the bytes of what searches and sorts remember, of all accounts together.
const maxRemembered = 128 << 20

// Memory is what searches and sorts remember (recall.go), for all servers of a node together. Safe for concurrent use.
type Memory struct {
	columns *columns.Cache
	hasher  *order.Hasher // of what is in columns
}

// NewMemory returns an empty one.
func NewMemory() *Memory { return newMemory(maxRemembered) }

func newMemory(bytes int64) *Memory {
	return &Memory{columns: columns.New(bytes), hasher: order.NewHasher()}
}

// Metrics say how large it is and how much use.
func (m *Memory) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	counter := func(name, help string, of func(columns.Stats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(m.columns.Stats())) }))
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_imap_columns_bytes", Help: "Memory of what searches and sorts remember of messages."},
		func() float64 { return float64(m.columns.Stats().Bytes) }))
	counter("hongyan_imap_columns_hits_total", "Values of messages that searches and sorts remembered.", func(s columns.Stats) uint64 { return s.Hits })
	counter("hongyan_imap_columns_misses_total", "Values that they had to find out.", func(s columns.Stats) uint64 { return s.Misses })
	return r
}
