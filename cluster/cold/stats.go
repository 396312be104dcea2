package cold

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/replica"
	"hongyan/engine/cold"
)

// counters are what happened since the start, and what the last round saw.
type counters struct {
	conversions, convertedBytes, dropped           atomic.Uint64
	rebuilds, rebuiltBytes, verified, mendedBlocks atomic.Uint64
	reads, degraded, remoteBlocks, served          atomic.Uint64
	damagedReads, failures, thaws, moves           atomic.Uint64
	volumes, volumeBytes, fragments, bytes, lost   atomic.Int64
}

// count notes what this node should have, and has.
func (m *Manager) count(entries []replica.Entry) {
	var volumes, volumeBytes, fragments, bytes, lost int64
	for _, e := range entries {
		if e.Cold == nil {
			continue
		}
		volumes++
		volumeBytes += e.Length
		for i, node := range e.Cold.Nodes {
			if node != m.cfg.ID {
				continue
			}
			if !m.cfg.Fragments.Has(cold.Name{Volume: e.ID, Generation: e.Generation, Index: i}) {
				lost++
				continue
			}
			fragments++
			bytes += layout(e).FileSize()
		}
	}
	s := &m.stats
	s.volumes.Store(volumes)
	s.volumeBytes.Store(volumeBytes)
	s.fragments.Store(fragments)
	s.bytes.Store(bytes)
	s.lost.Store(lost)
}

// sortByDistance puts fragments in the order of their nodes' round trip times.
func (m *Manager) sortByDistance(fragments []int, nodes []string) {
	slices.SortStableFunc(fragments, func(a, b int) int {
		x, _ := m.cfg.Net.RTT(nodes[a])
		y, _ := m.cfg.Net.RTT(nodes[b])
		return cmp.Compare(x, y)
	})
}

// Metrics are those of the cold tier on this node.
func (m *Manager) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_cold_" + name, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	counter := func(name, help string, v *atomic.Uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hongyan_cold_" + name, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	s := &m.stats
	gauge("volumes", "Cold volumes of the cluster.", &s.volumes)
	gauge("volume_bytes", "Their bytes, once.", &s.volumeBytes)
	gauge("fragments", "Fragments on this node.", &s.fragments)
	gauge("fragment_bytes", "Their bytes.", &s.bytes)
	gauge("fragments_lost", "Fragments that this node should have and has not; they are being rebuilt.", &s.lost)
	counter("conversions_total", "Volumes that this node turned cold.", &s.conversions)
	counter("converted_bytes_total", "Their bytes.", &s.convertedBytes)
	counter("copies_dropped_total", "Whole copies of cold volumes removed from this node.", &s.dropped)
	counter("thaws_total", "Cold volumes that this node had made whole again, to be compacted.", &s.thaws)
	counter("moves_total", "Fragments that have moved from nodes that leave, driven by this node.", &s.moves)
	counter("rebuilds_total", "Fragments computed from others because they were lost here.", &s.rebuilds)
	counter("rebuilt_bytes_total", "Their bytes.", &s.rebuiltBytes)
	counter("verified_total", "Fragments read through in search of damage.", &s.verified)
	counter("mended_blocks_total", "Damaged blocks computed from other fragments.", &s.mendedBlocks)
	counter("damaged_reads_total", "Reads that met a damaged block here.", &s.damagedReads)
	counter("reads_total", "Reads of messages in cold volumes.", &s.reads)
	counter("degraded_reads_total", "Of these, reads with a fragment missing or damaged.", &s.degraded)
	counter("remote_blocks_total", "Blocks that other nodes gave.", &s.remoteBlocks)
	counter("served_total", "Reads of blocks that other nodes asked for.", &s.served)
	counter("failures_total", "Conversions, rebuilds and the like that failed; they are made again.", &s.failures)
	return r
}
