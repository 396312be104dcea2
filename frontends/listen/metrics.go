package listen

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Counts are connections: at the moment, and since the start.
type Counts struct {
	Open              int
	Accepted, Refused uint64
}

// Counts reads the counters.
func (l *Listener) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{Open: len(l.conns), Accepted: l.accepted, Refused: l.allRefused}
}

// Measure registers the connections of a server's listeners, taken together. Whoever registers several servers in one
// place gives each a label.
func Measure(r prometheus.Registerer, listeners func() []*Listener) {
	sum := func(of func(Counts) float64) func() float64 {
		return func() (n float64) {
			for _, l := range listeners() {
				n += of(l.Counts())
			}
			return n
		}
	}
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_connections", Help: "Connections that are open."},
		sum(func(c Counts) float64 { return float64(c.Open) }))
	f.NewCounterFunc(prometheus.CounterOpts{Name: "hongyan_connections_accepted_total", Help: "Connections let in."},
		sum(func(c Counts) float64 { return float64(c.Accepted) }))
	f.NewCounterFunc(prometheus.CounterOpts{Name: "hongyan_connections_refused_total", Help: "Connections over a limit, or from a network that may not connect."},
		sum(func(c Counts) float64 { return float64(c.Refused) }))
}
