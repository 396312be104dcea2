package scrub

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector turns Report into metrics.
type collector struct {
	report  func() Report
	figures []figure
}

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Report) float64
}

// Metrics are those of the health of this node's copies.
func (s *Scrubber) Metrics() prometheus.Collector {
	c := &collector{report: s.Report}
	add := func(kind prometheus.ValueType, name, help string, of func(*Report) float64) {
		c.figures = append(c.figures, figure{prometheus.NewDesc("hongyan_scrub_"+name, help, nil, nil), kind, of})
	}
	counter := func(name, help string, of func(*Totals) uint64) {
		add(prometheus.CounterValue, name, help, func(r *Report) float64 { return float64(of(&r.Totals)) })
	}
	add(prometheus.GaugeValue, "copies", "Whole sealed copies of this node.", func(r *Report) float64 { return float64(r.Copies) })
	add(prometheus.GaugeValue, "copies_checked", "Of these, verified within the last period.", func(r *Report) float64 { return float64(r.Current) })
	add(prometheus.GaugeValue, "oldest_check_seconds", "Age of the oldest check; since 1970 while a copy was never verified.",
		func(r *Report) float64 { return float64(s.cfg.Clock.Now().Unix() - r.Oldest) })
	add(prometheus.GaugeValue, "damaged_records", "Records of this node's copies that no other copy could mend yet.", func(r *Report) float64 {
		n := uint64(0)
		for _, d := range r.Damaged {
			n += d.Records
		}
		return float64(n)
	})
	counter("checks_total", "Copies verified to the end.", func(t *Totals) uint64 { return t.Copies })
	counter("read_bytes_total", "Bytes read to verify copies.", func(t *Totals) uint64 { return t.Bytes })
	counter("damage_total", "Records found damaged.", func(t *Totals) uint64 { return t.Found })
	counter("mended_total", "Records made whole from other copies.", func(t *Totals) uint64 { return t.Mended })
	counter("mended_bytes_total", "Bytes written for that.", func(t *Totals) uint64 { return t.Written })
	counter("compared_total", "Comparisons with another copy's digest.", func(t *Totals) uint64 { return t.Compared })
	counter("mismatches_total", "Whole copies that differed from another whole copy.", func(t *Totals) uint64 { return t.Mismatches })
	counter("missing_files_total", "Files of copies that were gone, cut or replaced.", func(t *Totals) uint64 { return t.Missing })
	counter("failures_total", "Checks that did not come to their end; they are made again.", func(t *Totals) uint64 { return t.Failures })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := c.report()
	for _, f := range c.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&r))
	}
}
