package checkpoint

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
)

type metrics struct {
	results *prometheus.CounterVec
	bytes   prometheus.Counter
	seconds prometheus.Histogram
	taken   *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_checkpoints_total",
			Help: "Checkpoints of shards that this node led: ok or failed."}, []string{"result"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "hongyan_checkpoint_bytes_total",
			Help: "Bytes of saved states that this node put into volumes."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hongyan_checkpoint_seconds",
			Help: "Time that a checkpoint took.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
		taken: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hongyan_checkpoint_age_seconds",
			Help: "Age of a shard's last checkpoint, whoever wrote it. A shard that does not change keeps its last one."}, []string{"shard"}),
	}
}

// note remembers how old the last checkpoints are.
func (m *metrics) note(last map[uint32]directory.Checkpoint, c *clock.Clock) {
	for shard, made := range last {
		m.taken.WithLabelValues(fmt.Sprint(shard)).Set(c.Since(time.Unix(made.Taken, 0)).Seconds())
	}
}

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(k, out) }

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(out chan<- prometheus.Metric) {
	k.metrics.results.Collect(out)
	k.metrics.bytes.Collect(out)
	k.metrics.seconds.Collect(out)
	k.metrics.taken.Collect(out)
}
