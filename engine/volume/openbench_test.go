package volume

import (
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkOpenTenMillion opens a set of a hundred volumes with 100,000 records each, and looks up one record of every volume; by
// their index files, and for one volume with a scan, as after the loss of its index file.
func BenchmarkOpenTenMillion(b *testing.B) {
	const volumes, records = 100, 100_000
	b.Run("indexed", func(b *testing.B) {
		dir := b.TempDir()
		sparseVolumes(b, dir, volumes, records)
		var before, used int64
		for b.Loop() {
			b.StopTimer()
			before = heap()
			b.StartTimer()
			s, err := OpenSet(vfs.Default, dir, SetOptions{})
			must(b, err)
			for _, id := range s.List() {
				v, err := s.Get(id)
				must(b, err)
				if _, _, err := v.locate(records / 2); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			used = heap() - before
			if st := s.Stats(); st.Scans != 0 {
				b.Fatalf("%+v", st)
			}
			must(b, s.Close())
			b.StartTimer()
		}
		b.ReportMetric(float64(used)/volumes/records, "bytes/record")
		verdict(b, "opening 10,000,000 records", b.Elapsed().Seconds()/float64(b.N), 2, "s")
	})
	b.Run("one scanned", func(b *testing.B) {
		dir := b.TempDir()
		path := dir + "/v" + volumeSuffix
		fillVolume(b, path, records)
		for b.Loop() {
			b.StopTimer()
			must(b, os.Remove(indexPath(path)))
			b.StartTimer()
			v, err := Open(vfs.Default, path, Options{})
			must(b, err)
			must(b, v.Close())
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	})
}

// fillVolume makes a sealed volume of real records of 10 KiB.
func fillVolume(b *testing.B, path string, records int) {
	b.Helper()
	v, err := Create(vfs.Default, path, testHeader, Options{MaxSize: maxVolume / 2})
	must(b, err)
	blob := newBlob(b, memFS(b), testDir, letter())
	defer blob.Close()
	left := make(chan struct{}, records)
	for range records {
		left <- struct{}{}
	}
	close(left)
	done := make(chan error)
	const writers = 256
	for range writers {
		go func() {
			for range left {
				if _, _, err := v.Append(b.Context(), KindMessage, []byte("m"), blob); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		must(b, <-done)
	}
	must(b, v.Close())
}

// verdict prints a figure beside its bar.
func verdict(b *testing.B, what string, got, most float64, unit string) {
	b.Helper()
	word := "good"
	if got > most {
		word = "MISSED"
	}
	b.Logf("%s: %.3g %s, bar %.3g %s: %s", what, got, unit, most, unit, word)
}
