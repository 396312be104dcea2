package volume

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// BenchmarkRead10KiB reads records at random, warm, beside the bare cost of the same bytes: one pread of the stored chunk and its
// decompression. Both take turns, so that the ratio is of one moment.
func BenchmarkRead10KiB(b *testing.B) {
	for _, encrypted := range []bool{false, true} {
		b.Run(fmt.Sprintf("encrypted=%v", encrypted), func(b *testing.B) { benchmarkRead(b, encrypted) })
	}
}

const benchRecords = 1000

func benchmarkRead(b *testing.B, encrypted bool) {
	dir, p := b.TempDir(), letter()
	h := testHeader
	h.Encrypted = encrypted
	v, err := Create(vfs.Default, dir+"/v", h, Options{Keys: testKeys{}})
	must(b, err)
	defer v.Close()
	blob := newBlob(b, vfs.Default, dir, p)
	defer blob.Close()
	var ref Ref
	for range benchRecords {
		ref, _, err = v.Append(b.Context(), KindMessage, []byte("m"), blob)
		must(b, err)
	}
	bare := bareReader{v: v, frame: blob.store.chunks[0].b[chunkHeaderSize:], buf: make([]byte, len(p)+overrun)}
	for n := range uint64(benchRecords) {
		h, at, err := v.record(n + 1)
		must(b, err)
		bare.at, bare.size = append(bare.at, at+recordHeaderSize+int64(h.meta)), int(h.stored)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 32<<10) // as io.Copy has it
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	var ours, theirs []time.Duration
	for b.Loop() {
		ref.Record = 1 + rng.Uint64N(benchRecords)
		began := time.Now()
		r, err := v.OpenRef(ref, 0, ref.Length)
		must(b, err)
		if got, err := readAll(r, buf); err != nil || got != len(p) {
			b.Fatalf("%d bytes, %v", got, err)
		}
		must(b, r.Close())
		ours = append(ours, time.Since(began))
		began = time.Now()
		must(b, bare.read(rng.IntN(benchRecords)))
		theirs = append(theirs, time.Since(began))
	}
	b.ReportMetric(float64(median(ours)), "ns/read")
	b.ReportMetric(float64(median(theirs)), "ns/bare")
	b.ReportMetric(float64(median(ours))/float64(median(theirs)), "of-bare")
}

// readAll reads up to the end into buf.
func readAll(r io.Reader, buf []byte) (n int, err error) {
	for err == nil {
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// median leaves out what other work on the machine does to a mean.
func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// bareReader does what nobody can do without: one pread of a record's stored bytes, and their decompression. Nothing is checked or
// decrypted; of an encrypted record it decompresses the same bytes from memory.
type bareReader struct {
	v     *Volume
	at    []int64 // of each record's chunk
	size  int
	frame []byte
	buf   []byte
}

func (r *bareReader) read(i int) error {
	stored := newBuffer(r.size)
	defer stored.release()
	if _, err := r.v.file.ReadAt(stored.b[:r.size], r.at[i]); err != nil {
		return err
	}
	_, err := decoder.DecodeAll(r.frame, r.buf[:0])
	return err
}

// BenchmarkOpen scans a volume of 100,000 records.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	v, err := Create(vfs.Default, dir+"/v", testHeader, Options{MaxSize: maxVolume / 2})
	must(b, err)
	blob := newBlob(b, vfs.Default, dir, letter())
	defer blob.Close()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 1000 {
				_, _, err := v.Append(b.Context(), KindMessage, []byte("m"), blob)
				must(b, err)
			}
		})
	}
	wg.Wait()
	must(b, v.Close())
	for b.Loop() {
		v, err := Open(vfs.Default, dir+"/v", Options{})
		must(b, err)
		must(b, v.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/record")
}
