package index

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// figure is one of pebble's metrics under our name.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*pebble.Metrics) float64
}

// collector turns pebble's metrics into Prometheus'.
type collector struct {
	db      *DB
	figures []figure
}

// Metrics are those of the database. They are not to be collected after Close.
func (db *DB) Metrics() prometheus.Collector {
	c := &collector{db: db}
	add := func(kind prometheus.ValueType, name, help string, value func(*pebble.Metrics) float64) {
		c.figures = append(c.figures, figure{prometheus.NewDesc("hongyan_index_"+name, help, nil, nil), kind, value})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "disk_bytes", "Size of the index on disk.", func(m *pebble.Metrics) float64 { return float64(m.DiskSpaceUsage()) })
	add(gauge, "memtable_bytes", "Committed and not flushed yet.", func(m *pebble.Metrics) float64 { return float64(m.MemTable.Size) })
	add(gauge, "read_amplification", "Tables that a read may have to look into.", func(m *pebble.Metrics) float64 { return float64(m.ReadAmp()) })
	add(gauge, "compaction_debt_bytes", "Bytes that compactions still have to move.", func(m *pebble.Metrics) float64 { return float64(m.Compact.EstimatedDebt) })
	add(counter, "compactions_total", "Compactions that ended.", func(m *pebble.Metrics) float64 { return float64(m.Compact.Count) })
	add(counter, "flushes_total", "Flushes of memtables.", func(m *pebble.Metrics) float64 { return float64(m.Flush.Count) })
	add(counter, "written_bytes_total", "Bytes written by flushes and compactions.", written)
	add(counter, "cache_hits_total", "Blocks found in the cache.", func(m *pebble.Metrics) float64 { return float64(m.BlockCache.Hits) })
	add(counter, "cache_misses_total", "Blocks read from disk.", func(m *pebble.Metrics) float64 { return float64(m.BlockCache.Misses) })
	return c
}

func written(m *pebble.Metrics) float64 {
	var bytes uint64
	for _, l := range m.Levels {
		bytes += l.TableBytesFlushed + l.TableBytesCompacted
	}
	return float64(bytes)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	m := c.db.p.Metrics()
	for _, f := range c.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(m))
	}
}
