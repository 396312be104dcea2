package volume

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkAppendBesideFio appends the same bytes in turns: 10 KiB messages by 64 writers, encoded beforehand; and fio, which writes as
// many bytes as one of our groups has, with an fdatasync behind each, into a file that it extends and into one that it has
// written before. The bar is 80 % of the former, which is what fio does unless told otherwise.
func BenchmarkAppendBesideFio(b *testing.B) {
	fio, err := exec.LookPath("fio")
	if err != nil {
		b.Skip("fio is not installed: the ratio against a loop of our own is in BenchmarkAppend10KiB")
	}
	const rounds, records = 5, 8000
	blob := newBlob(b, memFS(b), testDir, letter())
	defer blob.Close()
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			for b.Loop() {
				var ours, bare, extending, rewriting float64
				for range rounds {
					n := records / 64 * min(writers, 16)
					rate, group := appendFor(b, blob, writers, n, DefaultAhead)
					ours += rate / rounds
					rate, _ = appendFor(b, blob, writers, n, 0)
					bare += rate / rounds
					extending += runFio(b, fio, group, "--overwrite=0", "--fallocate=none") / rounds
					rewriting += runFio(b, fio, group, "--overwrite=1") / rounds
				}
				b.ReportMetric(ours/1e6, "MB/s")
				b.ReportMetric(ours/extending, "of-fio")
				b.ReportMetric(ours/rewriting, "of-fio-rewriting")
				b.ReportMetric(ours/bare, "of-ours-without-zeros")
				verdict(b, "time of an append beside fio's", extending/ours, 1/0.8, "times")
			}
		})
	}
}

// appendFor appends records and says how many bytes a second the file grew by, and by how many with each fsync.
func appendFor(b *testing.B, blob *Blob, writers, records int, ahead int64) (rate float64, group int64) {
	b.Helper()
	dir := b.TempDir()
	v, err := Create(vfs.Default, filepath.Join(dir, "v"), testHeader, Options{Ahead: ahead})
	must(b, err)
	defer v.Close()
	var left atomic.Int64
	left.Store(int64(records))
	var wg sync.WaitGroup
	begun := b.Elapsed()
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, _, err := v.Append(b.Context(), KindMessage, []byte("metadata of a delivery"), blob); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	took := b.Elapsed() - begun
	st := v.Stats()
	return float64(st.Bytes) / took.Seconds(), st.Bytes / int64(st.Fsyncs)
}

// runFio has fio write a tenth of a gigabyte or 1,000 groups, whichever is less, and gives bytes a second.
func runFio(b *testing.B, fio string, group int64, options ...string) float64 {
	b.Helper()
	group = (group + 511) &^ 511
	args := append([]string{"--name=group", "--rw=write", "--ioengine=psync", "--fdatasync=1", "--output-format=json", "--refill_buffers",
		"--unlink=1", "--directory=" + b.TempDir(), fmt.Sprintf("--bs=%d", group), fmt.Sprintf("--size=%d", min(1000*group, 100<<20/group*group))}, options...)
	out, err := exec.Command(fio, args...).Output()
	must(b, err)
	var report struct {
		Jobs []struct {
			Write struct {
				IOBytes int64 `json:"io_bytes"`
				Runtime int64 `json:"runtime"`
			} `json:"write"`
		} `json:"jobs"`
	}
	must(b, json.Unmarshal(out, &report))
	w := report.Jobs[0].Write
	return float64(w.IOBytes) / (float64(w.Runtime) / 1e3)
}
