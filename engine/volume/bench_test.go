package volume

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// letter is a message of 10 KiB that compresses to a little more than half, as mail does.
func letter() []byte { return mail(rand.New(rand.NewPCG(10, 10)), 10<<10) }

// BenchmarkAppend10KiB appends on the disk under the temporary directory: first the bare cost of writing as
// many bytes with an fdatasync each, then volumes with 1, 8 and 64 writers whose messages are encoded
// already, then with encoding (hash, zstd, checksums) included.
func BenchmarkAppend10KiB(b *testing.B) {
	message := letter()
	stored := newBlob(b, memFS(b), testDir, message)
	b.Run("bare write and fdatasync", func(b *testing.B) {
		f, err := vfs.Default.Create(b.TempDir()+"/bare", vfs.WriteCategoryUnspecified)
		must(b, err)
		defer f.Close()
		p := make([]byte, aligned(recordHeaderSize+int64(stored.StoredLength())))
		b.SetBytes(10 << 10)
		for b.Loop() {
			_, err := f.Write(p)
			must(b, err)
			must(b, f.SyncData())
		}
		perSecond(b)
	})
	for _, encode := range []bool{false, true} {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("encode=%v/writers=%d", encode, writers), func(b *testing.B) {
				benchmarkAppend(b, writers, func(dir string) *Blob {
					if !encode {
						return nil
					}
					return newBlob(b, vfs.Default, dir, message)
				}, stored)
			})
		}
	}
}

// benchmarkAppend appends b.N records from so many goroutines: what encode makes, or else the blob that is ready.
func benchmarkAppend(b *testing.B, writers int, encode func(dir string) *Blob, ready *Blob) {
	dir := b.TempDir()
	v, err := Create(vfs.Default, dir+"/v", testHeader, Options{MaxSize: maxVolume / 2, Reserve: 1 << 20})
	must(b, err)
	defer v.Close()
	b.SetBytes(10 << 10)
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				blob := ready
				if made := encode(dir); made != nil {
					blob = made
				}
				if _, _, err := v.Append(b.Context(), KindMessage, []byte("metadata of a delivery"), blob); err != nil {
					b.Error(err)
					return
				}
				if blob != ready {
					must(b, blob.Close())
				}
			}
		})
	}
	wg.Wait()
	perSecond(b)
	b.ReportMetric(float64(v.Stats().Records)/float64(v.Stats().Fsyncs), "records/fsync")
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkEncode10KiB(b *testing.B) {
	fs, p := memFS(b), letter()
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		must(b, newBlob(b, fs, testDir, p).Close())
	}
}

func BenchmarkRead10KiB(b *testing.B) {
	dir, p := b.TempDir(), letter()
	v, err := Create(vfs.Default, dir+"/v", testHeader, Options{})
	must(b, err)
	defer v.Close()
	blob := newBlob(b, vfs.Default, dir, p)
	defer blob.Close()
	for range 1000 {
		_, _, err := v.Append(b.Context(), KindMessage, []byte("m"), blob)
		must(b, err)
	}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	record := uint64(0)
	buf := make([]byte, len(p))
	for b.Loop() {
		record = record%1000 + 1
		r, err := v.Open(record, 0, uint64(len(p)))
		must(b, err)
		_, err = io.ReadFull(r, buf)
		must(b, err)
		must(b, r.Close())
	}
}
