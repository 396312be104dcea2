package cluster

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of the node itself, its index, shards, volumes and peers.
func (n *Node) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	r.MustRegister(n.host.Metrics(), n.volumes.Metrics(), newPeers(n),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_node_ready", Help: "1 if the node takes and serves mail; /readyz says why not."},
			func() float64 {
				if len(n.Ready()) > 0 {
					return 0
				}
				return 1
			}))
	if n.store != nil {
		r.MustRegister(n.store.Index.Metrics(), n.cold.Metrics(), n.checkpoints, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_disk_free_bytes",
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

// peers looks at the connections to the other nodes.
type peers struct {
	node    *Node
	up, rtt *prometheus.Desc
}

func newPeers(n *Node) *peers {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_peer_"+name, help, []string{"peer", "region"}, nil)
	}
	return &peers{
		node: n,
		up:   describe("up", "1 if the node answers this one."),
		rtt:  describe("rtt_seconds", "Smoothed round-trip time to the node; absent while it is down."),
	}
}

// Describe implements prometheus.Collector.
func (p *peers) Describe(out chan<- *prometheus.Desc) {
	out <- p.up
	out <- p.rtt
}

// Collect implements prometheus.Collector.
func (p *peers) Collect(out chan<- prometheus.Metric) {
	for _, peer := range p.node.cfg.Peers {
		rtt, up := p.node.net.RTT(peer.ID)
		if !up {
			out <- prometheus.MustNewConstMetric(p.up, prometheus.GaugeValue, 0, peer.ID, peer.Region)
			continue
		}
		out <- prometheus.MustNewConstMetric(p.up, prometheus.GaugeValue, 1, peer.ID, peer.Region)
		out <- prometheus.MustNewConstMetric(p.rtt, prometheus.GaugeValue, rtt.Seconds(), peer.ID, peer.Region)
	}
}
