package keys

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkRecord is what a record's key costs a reader: one pread, a checksum and an HMAC.
func BenchmarkRecord(b *testing.B) {
	f, err := Create(vfs.Default, b.TempDir()+"/a.key", testMaster(b, "a"), testVolume, NewSecret(MaxSlots))
	must(b, err)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n = (n + 7919) % MaxSlots
		if _, err := f.Record(n + 1); err != nil {
			b.Fatal(err)
		}
	}
	must(b, f.Close())
}

// BenchmarkKeep is what destroying costs: of a volume that is full and of which nothing goes, and of one of which few keys are left.
func BenchmarkKeep(b *testing.B) {
	for _, c := range []struct {
		name string
		stay func(uint64) bool
	}{{"all stay", func(uint64) bool { return true }}, {"few stay", func(n uint64) bool { return n%1000 == 0 }}} {
		b.Run(c.name, func(b *testing.B) {
			f, err := Create(vfs.Default, b.TempDir()+"/a.key", testMaster(b, "a"), testVolume, NewSecret(MaxSlots))
			must(b, err)
			_, err = f.Keep(c.stay)
			must(b, err)
			for b.Loop() {
				_, err := f.Keep(c.stay)
				must(b, err)
			}
			must(b, f.Close())
		})
	}
}

// BenchmarkDestroy is what a copy of a cold volume costs that takes over from another which records are gone: nearly all, of a volume that ended early.
func BenchmarkDestroy(b *testing.B) {
	f, err := Create(vfs.Default, b.TempDir()+"/a.key", testMaster(b, "a"), testVolume, NewSecret(MaxSlots))
	must(b, err)
	var gone []uint64
	for n := uint64(100); n <= MaxSlots; n++ {
		gone = append(gone, n)
	}
	for b.Loop() {
		must(b, f.Destroy(gone))
	}
	must(b, f.Close())
}
