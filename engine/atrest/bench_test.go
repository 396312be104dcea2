package atrest

import "testing"

// BenchmarkXOR is what encrypting or decrypting a block of a table costs.
func BenchmarkXOR(b *testing.B) {
	const block = 16 << 10
	c, p := ScratchKey().fileCipher(salt()), make([]byte, block)
	b.SetBytes(block)
	for b.Loop() {
		c.xor(p, p, 100)
	}
}

// BenchmarkSeal is what encrypting a log entry costs.
func BenchmarkSeal(b *testing.B) {
	l, p := ScratchKey().Log("shard 0001"), make([]byte, 1<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		l.Seal(p, 1)
	}
}
