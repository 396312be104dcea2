package shard

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hongyan/cluster/wire"
)

// metrics count what this node's replicas were asked as leaders. How the replicas stand is looked up at each scrape.
type metrics struct {
	prometheus.Collector // of all

	proposals *prometheus.CounterVec // result
	seconds   prometheus.Histogram
	reads     *prometheus.CounterVec // result
}

func newMetrics(h *Host) *metrics {
	r := prometheus.NewRegistry()
	f := promauto.With(r)
	r.MustRegister(newReplicas(h))
	m := &metrics{
		Collector: r,
		proposals: f.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_shard_proposals_total",
			Help: "Commands proposed to this node: applied, sent to another leader, or failed (which may be applied yet)."}, []string{"result"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{Name: "hongyan_shard_proposal_seconds", Help: "From proposal to applied, at the leader.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}}),
		reads: f.NewCounterVec(prometheus.CounterOpts{Name: "hongyan_shard_read_indexes_total",
			Help: "Read indexes asked of this node: given, sent to another leader, or failed."}, []string{"result"}),
	}
	for _, of := range []string{resultOK, resultElsewhere, resultFailed} {
		m.proposals.WithLabelValues(of)
		m.reads.WithLabelValues(of)
	}
	return m
}

// What a request may come to.
const (
	resultOK        = "ok"
	resultElsewhere = "not leader"
	resultFailed    = "failed"
)

func (m *metrics) proposed(began time.Time, err error) {
	m.proposals.WithLabelValues(result(err)).Inc()
	if err == nil {
		m.seconds.Observe(time.Since(began).Seconds())
	}
}

func result(err error) string {
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, wire.ErrNotLeader):
		return resultElsewhere
	}
	return resultFailed
}

// Metrics are those of all replicas of this node.
func (h *Host) Metrics() prometheus.Collector { return h.metrics }

// replicas looks at every group.
type replicas struct {
	host                                  *Host
	leader, known, term, applied, stopped *prometheus.Desc
}

func newReplicas(h *Host) *replicas {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_shard_"+name, help, []string{"shard"}, nil)
	}
	return &replicas{
		host:    h,
		leader:  describe("leader", "1 if this node leads the shard."),
		known:   describe("leader_known", "1 if this replica knows a leader."),
		term:    describe("term", "Term of the replica; it grows with each election."),
		applied: describe("applied_index", "Last log entry that this replica's state holds."),
		stopped: describe("stopped", "1 if the replica no longer applies entries, since its store failed."),
	}
}

// Describe implements prometheus.Collector.
func (r *replicas) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{r.leader, r.known, r.term, r.applied, r.stopped} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (r *replicas) Collect(out chan<- prometheus.Metric) {
	yes := map[bool]float64{true: 1}
	for _, g := range r.host.Groups() {
		shard := strconv.FormatUint(uint64(g.Shard()), 10)
		for d, v := range map[*prometheus.Desc]float64{
			r.leader: yes[g.IsLeader()], r.known: yes[g.Leader() != ""], r.stopped: yes[g.Err() != nil],
			r.term: float64(g.raft.CurrentTerm()), r.applied: float64(g.Applied()),
		} {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, shard)
		}
	}
}
