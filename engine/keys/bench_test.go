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
