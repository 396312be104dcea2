package cold

import (
	"bytes"
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const benchLength = 64 << 20

// BenchmarkEncodeBare is the library alone, on shards that are in memory, to hold BenchmarkEncode against.
func BenchmarkEncodeBare(b *testing.B) {
	l := layout(4, 2, benchLength)
	code, err := newCode(l)
	must(b, err)
	shards := make([][]byte, 6)
	for i := range shards {
		shards[i] = noise(uint64(i), batch*BlockSize)
	}
	b.SetBytes(4 * batch * BlockSize)
	for b.Loop() {
		must(b, code.Encode(shards))
	}
}

// BenchmarkEncode makes 4+2 fragments of a volume in memory: read, laid out, coded, summed.
func BenchmarkEncode(b *testing.B) {
	l := layout(4, 2, benchLength)
	file := bytes.NewReader(noise(1, l.Length))
	targets := make([]Target, 6)
	for i := range targets {
		targets[i].Sink = discard{}
	}
	b.SetBytes(l.Length)
	b.ReportAllocs()
	for b.Loop() {
		must(b, Encode(context.Background(), file, l, targets, nil))
	}
}

// BenchmarkConvert makes them on this machine's disk, fsynced and read back.
func BenchmarkConvert(b *testing.B) {
	l := layout(4, 2, benchLength)
	file := noise(1, l.Length)
	b.SetBytes(l.Length)
	for b.Loop() {
		dir := b.TempDir()
		s, err := OpenStore(vfs.Default, dir, nil)
		must(b, err)
		must(b, fill(s, l, file))
		must(b, s.Close())
	}
}

// BenchmarkRebuildBare computes one lost data fragment with the library alone.
func BenchmarkRebuildBare(b *testing.B) {
	l := layout(4, 2, benchLength)
	code, err := newCode(l)
	must(b, err)
	shards := make([][]byte, 6)
	for i := range shards {
		shards[i] = noise(uint64(i), batch*BlockSize)
	}
	must(b, code.Encode(shards))
	wanted := []bool{true, false, false, false, false, false}
	b.SetBytes(4 * batch * BlockSize) // what is read, as below
	for b.Loop() {
		shards[0] = shards[0][:0]
		must(b, code.ReconstructSome(shards, wanted))
	}
}

// BenchmarkRebuild computes a lost data fragment of a volume in memory: four read and checked, coded, summed.
func BenchmarkRebuild(b *testing.B) {
	l := layout(4, 2, benchLength)
	frags := encoded(b, l, noise(1, l.Length))
	frags[0].lost = true
	r := reader(b, l, frags)
	b.SetBytes(l.Length)
	b.ReportAllocs()
	for b.Loop() {
		must(b, r.Rebuild(context.Background(), 0, Target{Sink: discard{}}, nil))
	}
}

// BenchmarkRead10K reads a message's worth from the fragments, with all of them and with two missing.
func BenchmarkRead10K(b *testing.B) {
	l := layout(4, 2, benchLength)
	frags := encoded(b, l, noise(1, l.Length))
	p := make([]byte, 10<<10)
	for _, lost := range []int{0, 2} {
		b.Run([]string{"healthy", "", "two-missing"}[lost], func(b *testing.B) {
			for i := range lost {
				frags[i].lost = true
			}
			r := reader(b, l, frags)
			b.SetBytes(int64(len(p)))
			at := int64(0)
			for b.Loop() {
				at = (at + 1_000_003) % (l.Column() - int64(len(p)))
				if _, err := r.ReadAt(context.Background(), p, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
