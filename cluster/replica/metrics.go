package replica

import "github.com/prometheus/client_golang/prometheus"

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
	latency *prometheus.Desc
}

// Metrics are those of the volumes and their copies.
func (m *Manager) Metrics() prometheus.Collector {
	c := &collector{stats: m.Stats, latency: describe("append_seconds", "Time until every copy of a record was on disk.")}
	gauge := func(name, help string, of func(*Stats) int) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.GaugeValue, func(s *Stats) float64 { return float64(of(s)) }})
	}
	counter := func(name, help string, of func(*Stats) uint64) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.CounterValue, func(s *Stats) float64 { return float64(of(s)) }})
	}
	gauge("open_primaries", "Open volumes of which this node is the primary.", func(s *Stats) int { return s.OpenOwn })
	gauge("open_copies", "Open volumes of other primaries.", func(s *Stats) int { return s.OpenOthers })
	gauge("sealing", "Volumes that are closed and not entered as sealed yet.", func(s *Stats) int { return s.Sealing })
	gauge("sealed_copies", "Sealed volumes of which this node should have a copy.", func(s *Stats) int { return s.SealedCopies })
	gauge("sealed_bytes", "Bytes of sealed volumes of which this node should have a copy.", func(s *Stats) int { return int(s.SealedBytes) })
	gauge("copies_behind", "Sealed copies of this node that are not whole, and are being mended.", func(s *Stats) int { return s.Behind })
	gauge("orphans", "Files that the directory does not know.", func(s *Stats) int { return s.Orphans })
	gauge("moves_under_way", "Volumes of which a copy moves from a node that is drained or lost, driven by this node.", func(s *Stats) int { return s.Moving })
	counter("moves_total", "Copies that have moved, driven by this node.", func(s *Stats) uint64 { return s.Moves })
	counter("move_failures_total", "Steps of moves that failed; they are taken again.", func(s *Stats) uint64 { return s.MoveFailures })
	counter("appended_records_total", "Messages on disk on every copy.", func(s *Stats) uint64 { return s.Appends })
	counter("appended_bytes_total", "Their bytes.", func(s *Stats) uint64 { return s.AppendBytes })
	counter("append_retries_total", "Appends made again on another volume.", func(s *Stats) uint64 { return s.AppendRetries })
	counter("append_hedges_total", "Appends made on a second volume since the first was slow.", func(s *Stats) uint64 { return s.AppendHedges })
	counter("early_appends_total", "Appended records that were told of before every copy had them.", func(s *Stats) uint64 { return s.EarlyAppends })
	counter("append_failures_total", "Appends given up.", func(s *Stats) uint64 { return s.AppendFailures })
	counter("fences_total", "Copies that were told to take no more.", func(s *Stats) uint64 { return s.Fences })
	counter("seals_total", "Volumes sealed by this node.", func(s *Stats) uint64 { return s.Seals })
	counter("seal_failures_total", "Attempts to seal that failed; they are made again.", func(s *Stats) uint64 { return s.SealFailures })
	counter("open_failures_total", "Volumes that could not be opened for appending.", func(s *Stats) uint64 { return s.OpenFailures })
	counter("repairs_total", "Copies made whole.", func(s *Stats) uint64 { return s.Repairs })
	counter("repaired_bytes_total", "Bytes fetched from other copies to mend those here.", func(s *Stats) uint64 { return s.RepairedBytes })
	counter("cuts_total", "Copies cut to the length at which their volume was sealed.", func(s *Stats) uint64 { return s.Cuts })
	counter("repair_failures_total", "Attempts to mend that failed; they are made again.", func(s *Stats) uint64 { return s.RepairFailures })
	counter("corrupt_reads_total", "Reads that met damaged bytes.", func(s *Stats) uint64 { return s.CorruptReads })
	counter("remote_reads_total", "Reads from another node's copy.", func(s *Stats) uint64 { return s.RemoteReads })
	counter("read_failovers_total", "Reads continued on another copy.", func(s *Stats) uint64 { return s.ReadFailovers })
	counter("removed_total", "Copies removed.", func(s *Stats) uint64 { return s.Removed })
	counter("generations_prepared_total", "Compacted files made here.", func(s *Stats) uint64 { return s.Prepared })
	counter("generations_switched_total", "Copies switched to their compacted file.", func(s *Stats) uint64 { return s.Switches })
	counter("keys_erased_total", "Keys of dead records destroyed here.", func(s *Stats) uint64 { return s.Erased })
	return c
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("hongyan_volume_"+name, help, nil, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
	out <- c.latency
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.stats()
	for _, f := range c.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&s))
	}
	buckets := make(map[float64]uint64, len(s.Latency))
	var count uint64
	for _, b := range s.Latency {
		count += b.Count
		if b.Under > 0 {
			buckets[b.Under.Seconds()] = count
		}
	}
	out <- prometheus.MustNewConstHistogram(c.latency, count, s.LatencySum.Seconds(), buckets)
}
