package load

import (
	"bufio"
	"bytes"
	"math"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

func TestCorpus(t *testing.T) {
	for _, o := range []CorpusOptions{{Seed: 1, Pool: 40, Run: "r"}, {Seed: 1, Pool: 20, Size: 4096, Run: "r"}, {Seed: 2, Pool: 3, Size: 200_000, Run: "r"}, {Seed: 1, Pool: 20, Same: 1, Run: "r"}} {
		c, err := NewCorpus(o)
		if err != nil {
			t.Fatal(err)
		}
		due, bodies := time.Now(), map[string]bool{}
		var scratch []byte
		for n := range 120 {
			m := c.Message(n, due, "u@example.test")
			raw := m.Raw()
			if o.Size > 0 && (len(raw) < o.Size-20 || len(raw) > o.Size+20) {
				t.Errorf("message of %d bytes, wanted %d", len(raw), o.Size)
			}
			var head, body []byte
			head, body, scratch = m.Wire(scratch)
			if wire := append(bytes.Clone(head), body...); !bytes.Equal(unstuff(wire), raw) {
				t.Fatalf("message %d is another on the wire", n)
			}
			if got, ok := Due(raw); !ok || !got.Equal(due.Truncate(0)) {
				t.Fatalf("message %d: due %v", n, got)
			}
			if bytes.Count(bytes.ToLower(raw[:headerEnd(raw)]), []byte("\nmessage-id:")) != 1 || !bytes.Contains(raw, []byte("Message-ID: "+m.ID)) {
				t.Fatalf("message %d does not have its Message-ID once", n)
			}
			if bytes.Contains(bytes.ReplaceAll(raw, []byte("\r\n"), nil), []byte("\n")) || !bytes.HasSuffix(raw, []byte("\r\n")) {
				t.Fatalf("message %d has line ends of its own", n)
			}
			if _, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(raw))).ReadMIMEHeader(); err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			if !bytes.Equal(raw, c.Message(n, due, "u@example.test").Raw()) {
				t.Fatalf("message %d is another the second time", n)
			}
			bodies[string(raw[headerEnd(raw):])] = true
		}
		if o.Same == 0 && len(bodies) < 110 || o.Same == 1 && len(bodies) > 20 {
			t.Errorf("%+v: %d different bodies among 120", o, len(bodies))
		}
	}
	if _, err := NewCorpus(CorpusOptions{Size: 3}); err == nil {
		t.Error("a size of 3 was taken")
	}
}

func headerEnd(raw []byte) int { return bytes.Index(raw, []byte("\r\n\r\n")) }

func unstuff(wire []byte) []byte {
	var out []byte
	for line := range bytes.Lines(wire) {
		out = append(out, bytes.TrimPrefix(line, []byte("."))...)
	}
	return out
}

func TestMeanOfTheMix(t *testing.T) {
	c, err := NewCorpus(CorpusOptions{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m := c.MeanBytes(); m < 25_000 || m > 45_000 {
		t.Errorf("mean of %g bytes", m)
	}
}

func TestStuff(t *testing.T) {
	for raw, want := range map[string]string{"a\r\n": "a\r\n", ".\r\n": "..\r\n", "a\r\n.b\r\n..\r\n": "a\r\n..b\r\n...\r\n", "": ""} {
		if got := string(Stuff([]byte(raw))); got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
	}
}

func TestSpotsMoveWithDots(t *testing.T) {
	line := "abcdefghijklmnop qrstuvwxyz\r\n"
	raw := []byte("A: b\r\n\r\n." + line + strings.Repeat(line+".dot\r\n", 2*spotEvery/len(line)))
	b := newBody(raw)
	if len(b.spots) < 2 || len(b.stuffed) == len(b.raw) {
		t.Fatalf("%d spots", len(b.spots))
	}
	for i := range b.spots {
		if b.raw[b.rawSpot[i]] != b.stuffed[b.spots[i]] || b.raw[b.rawSpot[i]+spotLen-1] != b.stuffed[b.spots[i]+spotLen-1] {
			t.Errorf("spot %d moved to the wrong place", i)
		}
	}
}

func TestSkew(t *testing.T) {
	for s, share := range map[float64]float64{0: 0.01, 1: 0.193, 2: 0.612} { // of the first of a hundred
		k, err := NewSkew(100, s, 1)
		if err != nil {
			t.Fatal(err)
		}
		first := 0
		const picks = 50_000
		for n := range uint64(picks) {
			if p := k.Pick(n); p == 0 {
				first++
			} else if p < 0 || p > 99 {
				t.Fatalf("picked %d", p)
			}
		}
		if got := float64(first) / picks; math.Abs(got-share) > 0.01 {
			t.Errorf("exponent %g: the first gets %g, want %g", s, got, share)
		}
		if once, again := k.Pick(7), k.Pick(7); once != again {
			t.Error("a pick cannot be repeated")
		}
	}
	if _, err := NewSkew(0, 1, 1); err == nil {
		t.Error("no accounts were taken")
	}
}
