package volume

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkAppendBesideBare appends records of 10 KiB, and takes turns with what nobody can do without: writing as many bytes in as
// many groups, each followed by an fdatasync. The messages are encoded already. Each b.Loop is one turn; the ratio is the median.
func BenchmarkAppendBesideBare(b *testing.B) {
	for _, encrypted := range []bool{false, true} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("encrypted=%v/writers=%d", encrypted, writers), func(b *testing.B) {
				turns{writers: writers, each: max(200/writers, 20), encrypted: encrypted}.run(b)
			})
		}
	}
}

// turns is one comparison.
type turns struct {
	writers, each int // appends of each writer in a turn
	encrypted     bool
}

func (o turns) run(b *testing.B) {
	dir := b.TempDir()
	blob := newBlob(b, vfs.Default, dir, letter())
	defer blob.Close()
	h := testHeader
	h.Encrypted = o.encrypted
	bare, err := vfs.Default.Create(dir+"/bare", vfs.WriteCategoryUnspecified)
	must(b, err)
	defer bare.Close()
	var v *Volume
	renew := func() {
		if v != nil {
			must(b, v.Close())
			must(b, vfs.Default.Remove(dir+"/v"))
		}
		v, err = Create(vfs.Default, dir+"/v", h, Options{Keys: testKeys{}, Ahead: DefaultAhead})
		must(b, err)
	}
	renew()
	defer func() { must(b, v.Close()) }()
	var ours, theirs, ratios []time.Duration
	var records, fsyncs uint64
	for b.Loop() {
		if v.Stats().Bytes > 128<<20 {
			renew()
		}
		before := v.Stats()
		took := o.append(b, v, blob)
		after := v.Stats()
		groups := int(after.Fsyncs - before.Fsyncs)
		bareTook := bareGroups(b, bare, groups, int(after.Bytes-before.Bytes))
		ours, theirs = append(ours, took), append(theirs, bareTook)
		ratios = append(ratios, time.Duration(1000*float64(bareTook)/float64(took)))
		records, fsyncs = records+after.Records-before.Records, fsyncs+uint64(groups)
	}
	n := float64(o.writers * o.each)
	b.ReportMetric(n/median(ours).Seconds(), "records/s")
	b.ReportMetric(n/median(theirs).Seconds(), "bare/s")
	b.ReportMetric(float64(median(ratios))/1000, "of-bare")
	b.ReportMetric(float64(records)/float64(fsyncs), "records/fsync")
}

func (o turns) append(b *testing.B, v *Volume, blob *Blob) time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range o.writers {
		wg.Go(func() {
			for range o.each {
				if _, _, err := v.Append(b.Context(), KindMessage, []byte("metadata of a delivery"), blob); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	return time.Since(began)
}

// bareGroups writes so many bytes in so many groups at the end of a file.
func bareGroups(b *testing.B, f vfs.File, groups, bytes int) time.Duration {
	p := make([]byte, bytes/groups)
	for i := range p {
		p[i] = byte(i * i)
	}
	began := time.Now()
	for range groups {
		_, err := f.Write(p)
		must(b, err)
		must(b, f.SyncData())
	}
	return time.Since(began)
}
