package dictionary

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator sees of a Keeper.
type metrics struct {
	newest  prometheus.Gauge
	results *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		newest: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hongyan_dictionary_newest",
			Help: "Number of the dictionary that this node compresses small messages with; 0 is none."}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_dictionary_trainings_total",
			Help: "Dictionaries that this node trained: entered for all nodes to use, no_gain against the present one, or failed."}, []string{"result"}),
	}
}

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(k, out) }

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(out chan<- prometheus.Metric) {
	k.metrics.newest.Collect(out)
	k.metrics.results.Collect(out)
}
