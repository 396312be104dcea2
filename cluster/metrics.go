package cluster

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/certfile"
	"hongyan/cluster/feature"
	"hongyan/cluster/shard"
)

// Metrics are those of the node itself, its index, shards, volumes and peers.
func (n *Node) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	r.MustRegister(n.host.Metrics(), n.volumes.Metrics(), n.scrub.Metrics(), n.reconcile.Metrics(), n.dictionaries, n.text.Metrics(), newPeers(n),
		certfile.Expiry("peer", func() time.Duration { return n.net.CertificateEnd().Sub(n.clock.Now()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_node_ready", Help: "1 if the node takes and serves mail; /readyz says why not."},
			func() float64 {
				if len(n.Ready()) > 0 {
					return 0
				}
				return 1
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_feature_level", Help: "The cluster's feature level, as this node knows it."},
			func() float64 { return float64(n.directory.Level()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_feature_level_known", Help: "The highest feature level that this node's program knows."},
			func() float64 { return float64(feature.Newest()) }))
	if n.logs != nil {
		r.MustRegister(newJournal(n.logs))
	}
	if n.store != nil {
		r.MustRegister(n.collector.Metrics(), n.rehouser.Metrics(), n.cold.Metrics(), n.store.Index.Metrics(), n.checkpoints, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_disk_free_bytes",
			Help: "Free for volumes, beyond the reserve that is kept for logs and index; NaN if unknown."}, n.freeBytes),
			newVolumeFiles(n.store.Volumes))
	}
	return r
}

func (n *Node) freeBytes() float64 {
	free, err := n.store.Volumes.FreeBytes()
	if err != nil {
		return math.NaN()
	}
	return float64(free)
}

// peers looks at the connections to the other nodes, but those that were given up for ever.
type peers struct {
	node           *Node
	up, doubt, rtt *prometheus.Desc
}

func newPeers(n *Node) *peers {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_peer_"+name, help, []string{"peer", "region"}, nil)
	}
	return &peers{
		node:  n,
		up:    describe("up", "1 if the node answers this one."),
		doubt: describe("in_doubt", "1 if the node is down, answers late, or says that it ails: others lead and are asked in its place."),
		rtt:   describe("rtt_seconds", "Smoothed round-trip time to the node; absent while it is down."),
	}
}

// Describe implements prometheus.Collector.
func (p *peers) Describe(out chan<- *prometheus.Desc) {
	out <- p.up
	out <- p.doubt
	out <- p.rtt
}

// Collect implements prometheus.Collector.
func (p *peers) Collect(out chan<- prometheus.Metric) {
	t := p.node.topology.Load()
	for _, peer := range p.node.net.Peers() {
		if known, _ := t.Node(peer.ID); known.Fenced() { // it is among the peers to be told so if it comes back
			continue
		}
		doubt := 0.0
		if p.node.net.InDoubt(peer.ID) {
			doubt = 1
		}
		out <- prometheus.MustNewConstMetric(p.doubt, prometheus.GaugeValue, doubt, peer.ID, peer.Region)
		rtt, up := p.node.net.RTT(peer.ID)
		if !up {
			out <- prometheus.MustNewConstMetric(p.up, prometheus.GaugeValue, 0, peer.ID, peer.Region)
			continue
		}
		out <- prometheus.MustNewConstMetric(p.up, prometheus.GaugeValue, 1, peer.ID, peer.Region)
		out <- prometheus.MustNewConstMetric(p.rtt, prometheus.GaugeValue, rtt.Seconds(), peer.ID, peer.Region)
	}
}

// journalMetrics looks at the journal of this node's shards.
type journalMetrics struct {
	logs                                            *shard.Logs
	frames, entries, bytes, moved, segments, onDisk *prometheus.Desc
	busy                                            *prometheus.Desc
}

func newJournal(l *shard.Logs) *journalMetrics {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_journal_"+name, help, nil, nil)
	}
	return &journalMetrics{
		logs:     l,
		frames:   describe("frames_total", "Writes, each with one fsync. Entries by frames is how many shards share one."),
		busy:     describe("busy_seconds_total", "Time spent in these writes. By frames, it is what the disk takes for one."),
		entries:  describe("entries_total", "Raft entries written."),
		bytes:    describe("written_bytes_total", "Bytes written in frames."),
		moved:    describe("moved_total", "Old entries that were written anew so that their segment could be used again."),
		segments: describe("segments", "Files that hold entries."),
		onDisk:   describe("bytes", "Size of these files."),
	}
}

// Describe implements prometheus.Collector.
func (l *journalMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, out) }

// Collect implements prometheus.Collector.
func (l *journalMetrics) Collect(out chan<- prometheus.Metric) {
	s := l.logs.Journal()
	count := func(d *prometheus.Desc, n uint64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	count(l.frames, s.Frames)
	out <- prometheus.MustNewConstMetric(l.busy, prometheus.CounterValue, s.Busy.Seconds())
	count(l.entries, s.Entries)
	count(l.bytes, s.Bytes)
	count(l.moved, s.Moved)
	out <- prometheus.MustNewConstMetric(l.segments, prometheus.GaugeValue, float64(s.Segments))
	out <- prometheus.MustNewConstMetric(l.onDisk, prometheus.GaugeValue, float64(s.Size))
}
