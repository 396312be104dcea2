package cluster

import (
	"github.com/prometheus/client_golang/prometheus"

	"hongyan/engine/volume"
)

// volumeFiles looks at the files of a node's volumes.
type volumeFiles struct {
	set                                               *volume.Set
	files, bytes, open, rests, scans, saves, failures *prometheus.Desc
	mail, disk, ratio                                 *prometheus.Desc
}

func newVolumeFiles(set *volume.Set) *volumeFiles {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_volume_files"+name, help, nil, nil)
	}
	storage := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hongyan_storage"+name, help, nil, nil)
	}
	return &volumeFiles{
		set:      set,
		files:    describe("", "Volume files on this node's disk."),
		bytes:    describe("_bytes", "Their length."),
		open:     describe("_open", "Of them, those with an open file handle."),
		rests:    describe("_closed_idle_total", "Handles closed because others were needed."),
		scans:    describe("_scanned_total", "Volumes opened by reading through them, for want of an index file."),
		saves:    describe("_indexes_saved_total", "Index files written."),
		failures: describe("_index_failures_total", "Index files that could not be written: those volumes are scanned at the next start."),
		mail:     storage("_mail_bytes_total", "Bytes of mail that this node appended to volumes."),
		disk:     storage("_disk_bytes_total", "Bytes of volume that they take in one copy, with their metadata and dictionaries."),
		ratio:    storage("_disk_bytes_per_mail_byte", "The second by the first, since the start; NaN before any mail."),
	}
}

// Describe implements prometheus.Collector.
func (f *volumeFiles) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.files, f.bytes, f.open, f.rests, f.scans, f.saves, f.failures, f.mail, f.disk, f.ratio} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f *volumeFiles) Collect(out chan<- prometheus.Metric) {
	s := f.set.Stats()
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v uint64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(f.files, float64(s.Volumes))
	gauge(f.bytes, float64(s.Bytes))
	gauge(f.open, float64(s.Open))
	count(f.rests, s.Rests)
	count(f.scans, s.Scans)
	count(f.saves, s.Saves)
	count(f.failures, s.Unsaved)
	count(f.mail, s.Mail)
	count(f.disk, s.Disk)
	gauge(f.ratio, float64(s.Disk)/float64(s.Mail))
}
