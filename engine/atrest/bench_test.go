package atrest

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkFile is what encrypting and decrypting the blocks of a table cost, without a disk below.
func BenchmarkFile(b *testing.B) {
	const block = 16 << 10
	for name, fs := range map[string]vfs.FS{"plain": vfs.NewMem(), "encrypted": ScratchKey().FS(vfs.NewMem())} {
		f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
		must(b, err)
		p := make([]byte, block)
		b.Run(name+"/write", func(b *testing.B) {
			b.SetBytes(block)
			for b.Loop() {
				if _, err := f.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/read", func(b *testing.B) {
			b.SetBytes(block)
			for b.Loop() {
				if _, err := f.ReadAt(p, 100); err != nil {
					b.Fatal(err)
				}
			}
		})
		must(b, f.Close())
	}
}
