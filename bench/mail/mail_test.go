package mail

import (
	"bytes"
	"testing"
)

// TestMix holds the mix against what the package comment says.
func TestMix(t *testing.T) {
	const n = 1500
	g, again := New(1), New(1)
	count, size := make(map[string]int), make(map[string]int)
	var total int
	for i := range n {
		m := g.Next()
		if i < 300 && !bytes.Equal(m.Bytes, again.Next().Bytes) {
			t.Fatalf("message %d differs between two generators of one seed", i)
		}
		if len(m.To) == 0 || !bytes.Contains(m.Bytes, []byte("\r\n\r\n")) {
			t.Fatalf("message %d, a %s, has %d recipients and %d bytes", i, m.Kind, len(m.To), len(m.Bytes))
		}
		count[m.Kind]++
		size[m.Kind] += len(m.Bytes)
		total += len(m.Bytes)
	}
	for kind, share := range map[string]int{"notification": 30, "newsletter": 22, "reply": 20, "list": 10, "attachment": 10, "invitation": 4, "report": 4} {
		t.Logf("%-12s %5.1f %% of messages, %5.1f %% of bytes, mean %6d", kind, 100*float64(count[kind])/n, 100*float64(size[kind])/float64(total), size[kind]/max(count[kind], 1))
		if got := 100 * count[kind] / n; got < share-5 || got > share+5 {
			t.Errorf("%s are %d %% of messages, want about %d %%", kind, got, share)
		}
	}
	if mean := total / n; mean < 28e3 || mean > 42e3 {
		t.Errorf("mean size %d, want about 35000", mean)
	}
	if New(2).people[0].address == g.people[0].address {
		t.Error("two seeds give the same people")
	}
}

func BenchmarkNext(b *testing.B) {
	g := New(1)
	var bytes int64
	for b.Loop() {
		bytes += int64(len(g.Next().Bytes))
	}
	b.SetBytes(bytes / int64(b.N))
}
