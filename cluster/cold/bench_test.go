package cold

import (
	"io"
	"testing"
)

// BenchmarkRead is what a small message costs that lies in a cold volume: read through a node with fragments, most of whose blocks are other nodes'.
func BenchmarkRead(b *testing.B) {
	c := newCluster(b, "a1", "a2", "b1", "b2", "c1", "c2")
	e := c.sealed(1, 200)
	for range 3 {
		c.round(at(61))
	}
	e = c.entry(e.ID)
	if e.Cold == nil {
		b.Fatal("the volume did not turn cold")
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		i := n % len(c.refs)
		n++
		if i%10 == 9 {
			continue // long
		}
		r, err := c.nodes[0].m.Open(b.Context(), e, c.refs[i], 0, c.refs[i].Length)
		must(b, err)
		_, err = io.Copy(io.Discard, r)
		must(b, err)
		must(b, r.Close())
	}
}
