package message

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deepest returns the number of levels below and including p, and the number of parts.
func deepest(p *Part) (levels, parts int) {
	for _, c := range p.Children {
		l, n := deepest(c)
		levels, parts = max(levels, l), parts+n
	}
	return levels + 1, parts + 1
}

// TestHostileHeaders gives encoded words that are made to cost.
func TestHostileHeaders(t *testing.T) {
	const repeats = 150_000
	for name, v := range map[string]string{
		"words of no kind":     strings.Repeat("=?a?x? ", repeats) + "?=",
		"words without an end": strings.Repeat("=?a?q? ", repeats),
		"words in words":       strings.Repeat("=?a?q?=?a?b? ", repeats) + "?=",
		"empty words":          strings.Repeat("=?a?q??= ", repeats),
		"charsets":             strings.Repeat("=?a?q?=41?= =?b?q?=41?= ", repeats),
		"beginnings":           strings.Repeat("=?", repeats),
	} {
		start := processorTime(t)
		DecodeHeader(v)
		if d := processorTime(t) - start; d > 2*time.Second {
			t.Errorf("%s: %d bytes took %v", name, len(v), d)
		}
	}
}

// TestHostileShapes gives messages that are made to cost: structure, time and memory stay inside their limits, and
// the pieces in which they come do not matter.
func TestHostileShapes(t *testing.T) {
	nested := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.String()
	}
	cases := map[string]string{
		"nested multiparts":    nested(200),
		"nested messages":      strings.Repeat("Content-Type: message/rfc822\n\n", 200),
		"nested same boundary": strings.Repeat("Content-Type: multipart/mixed; boundary=x\n\n--x\n", 200),
		"boundaries inside":    nested(31) + strings.Repeat("--b\n", 50_000),
		"ends inside":          nested(31) + strings.Repeat("--b1--\n--b2--\n--b30--\n", 50_000),
		"many parts":           "Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\n\n.\n", 5000),
		"many digests":         "Content-Type: multipart/digest; boundary=x\n\n" + strings.Repeat("--x\n\nA: b\n\n", 5000),
		"many multiparts":      "Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\nContent-Type: multipart/mixed\n\n", 5000),
		"parts with long types": "Content-Type: multipart/mixed; boundary=x\n\n" +
			strings.Repeat("--x\nContent-Type: text/plain; name="+strings.Repeat("n", 2000)+"\n\n", 1500),
		"one line":          strings.Repeat("x", 3<<20),
		"one header line":   "Subject: " + strings.Repeat("x", 3<<20) + "\n\nbody",
		"one folded field":  "To: " + strings.Repeat("a@b.test,\n ", 300_000) + "\n\nbody",
		"many fields":       strings.Repeat("To: a@b.test\n", 100_000) + "\n",
		"many names":        manyNames(5000) + "\nbody\n",
		"spaces after":      "Content-Type: multipart/mixed; boundary=x\n\n--x" + strings.Repeat(" ", 1<<20) + "\n\nbody\n",
		"long boundary":     "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 300) + "\n\n--" + strings.Repeat("b", 300) + "\n\nx\n",
		"longest boundary":  "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 250) + "\n\n--" + strings.Repeat("b", 250) + "\n\nx\n",
		"quotes":            "From: " + strings.Repeat(`"\`, 30_000) + "\nTo: " + strings.Repeat(`"`, 60_001) + "\n\n",
		"comments":          "From: " + strings.Repeat("(", 60_000) + "\nTo: " + strings.Repeat("(a\\)", 15_000) + "\n\n",
		"angles":            "From: " + strings.Repeat("<", 60_000) + "\nTo: " + strings.Repeat("<@", 30_000) + "\nCc: " + strings.Repeat("<a,", 20_000) + "\n\n",
		"words":             "From: " + strings.Repeat("=?", 30_000) + "\nTo: " + strings.Repeat("=?a?q?", 10_000) + "\nCc: " + strings.Repeat("[", 60_000) + "\n\n",
		"groups":            "From: " + strings.Repeat("a:", 30_000) + "\nTo: " + strings.Repeat("a:;", 20_000) + "\n\n",
		"parameters":        "Content-Type: text/plain" + strings.Repeat(";a=b c=d", 7000) + "\n\n",
		"unquoted":          "Content-Type: text/plain;" + strings.Repeat("a=b ", 15_000) + "\n\n",
		"unquoted in parts": "Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\nContent-Type: text/plain;"+strings.Repeat("a=b ", 15_000)+"\n\n", 300),
		"parameter quotes":  "Content-Type: text/plain;" + strings.Repeat(`a="\`, 15_000) + "\n\n",
		"parameter comment": "Content-Type: text/plain;" + strings.Repeat("(", 60_000) + "\n\n",
		"languages":         "Content-Language: " + strings.Repeat("a,", 30_000) + "\n\n",
		"NULs":              strings.Repeat("\x00", 1<<20),
		"empty lines":       strings.Repeat("\n", 1<<20),
		"carriage returns":  strings.Repeat("\r", 1<<20),
		"dashes":            "Content-Type: multipart/mixed; boundary=-\n\n" + strings.Repeat("-", 1<<20),
		"dash lines":        "Content-Type: multipart/mixed; boundary=-\n\n" + strings.Repeat("--\n", 200_000),
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for name, raw := range cases {
		t.Run(name, func(t *testing.T) {
			start := processorTime(t)
			s := scan([]byte(raw))
			if d := processorTime(t) - start; d > 2*time.Second {
				t.Errorf("%d bytes took %v", len(raw), d)
			}
			checkSummary(t, s, []byte(raw))
			if levels, parts := deepest(s.Structure); levels > MaxDepth || parts > MaxParts {
				t.Errorf("%d levels, %d parts", levels, parts)
			}
			if len(raw) < 1<<18 {
				checkPieces(t, name, []byte(raw), rng)
			}
		})
	}
}

// manyNames is a header whose fields all have different names.
func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Field-%d: x\n", i)
	}
	return b.String()
}

// TestLimitsAreReached shows that limits cut what is beyond them, not what is below.
func TestLimitsAreReached(t *testing.T) {
	body := strings.Repeat("--x\n\n.\n", MaxParts-1)
	s := scan([]byte("Content-Type: multipart/mixed; boundary=x\n\n" + body + "--x--\n"))
	if _, parts := deepest(s.Structure); parts != MaxParts {
		t.Errorf("%d parts, want %d", parts, MaxParts)
	}
	last := s.Structure.Children[MaxParts-2]
	if last.Size != 1 {
		t.Errorf("the last part has %d bytes", last.Size)
	}
	s = scan([]byte("Content-Type: multipart/mixed; boundary=x\n\n" + body + "--x\n\nmore\n--x--\n"))
	if _, parts := deepest(s.Structure); parts != MaxParts {
		t.Errorf("%d parts, want %d", parts, MaxParts)
	}

	s = scan([]byte(strings.Repeat("Content-Type: message/rfc822\n\n", MaxDepth-1) + "Subject: innermost\n\nx"))
	if levels, _ := deepest(s.Structure); levels != MaxDepth {
		t.Errorf("%d levels, want %d", levels, MaxDepth)
	}
	if p, ok := s.Part(slices.Repeat([]int{1}, MaxDepth)); !ok || p.Type != "text" {
		t.Errorf("innermost part: %+v, %v", p, ok)
	}
}

// TestMemoryIsBounded scans messages that are far larger than what may be kept of them.
func TestMemoryIsBounded(t *testing.T) {
	const size, most = 64 << 20, 8 << 20
	for name, piece := range map[string]string{
		"one header line": "Subject: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		"header lines":    "Subject: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
		"body":            "From: a@b.test\r\n\r\n-- zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
	} {
		chunk := []byte(strings.Repeat(piece, 1<<10))
		s := NewScanner()
		if _, err := s.Write([]byte("Content-Type: multipart/mixed; boundary=x\r\n")); err != nil {
			t.Fatal(err)
		}
		before := heap()
		for n := 0; n < size; n += len(chunk) {
			if _, err := s.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if after := heap(); after > before+most {
			t.Errorf("%s: holds %d bytes", name, after-before)
		}
		runtime.KeepAlive(s)
	}
}

// heap is the number of bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestDegraded encodes messages whose summaries are too large, and looks at what was given up.
func TestDegraded(t *testing.T) {
	long := "To: " + strings.Repeat("somebody@somewhere.example.test,\n ", 1000) + "last@b.test\nSubject: long\n\nbody\n"
	parts := "Subject: parts\nContent-Type: multipart/mixed; boundary=x\n\n" +
		strings.Repeat("--x\nContent-Type: image/png; name=\""+strings.Repeat("picture", 10)+"\"\n\n.\n", 900)
	fields := "Subject: fields\n" + strings.Repeat("X-Spam-Report: "+strings.Repeat("x", 100)+"\n", 150) +
		"Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\nContent-Type: image/png; name=\"picture\"\n\n.\n", 400)
	for _, c := range []struct {
		name, raw               string
		degraded, fields, parts bool
	}{
		{"recipients", long, true, false, true},
		{"parts", parts, true, false, false},
		{"fields", fields, false, false, true},
		{"small", "Subject: small\n\n", false, true, true},
	} {
		s := scan([]byte(c.raw))
		checkSummary(t, s, []byte(c.raw))
		enc, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(enc)
		if err != nil {
			t.Fatal(err)
		}
		if got.Envelope.Subject == "" || got.Size != uint64(len(c.raw)) || got.Structure.BodyStart != s.Structure.BodyStart {
			t.Errorf("%s: lost what is small: %+v", c.name, got)
		}
		_, ok := got.Fields([]string{"subject"})
		_, want := deepest(s.Structure)
		_, have := deepest(got.Structure)
		if got.Degraded != c.degraded || ok != c.fields || (have == want) != c.parts {
			t.Errorf("%s: degraded %v, fields %v, %d of %d parts", c.name, got.Degraded, ok, have, want)
		}
		if again := scan([]byte(c.raw)); !bytes.Equal(mustEncode(t, again), enc) {
			t.Errorf("%s: two encodings differ", c.name)
		}
	}
}

func mustEncode(t *testing.T, s *Summary) []byte {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// processorTime is what this process has used: unlike the clock it does not count what others do meanwhile.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
