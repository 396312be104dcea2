package pop3

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"hongyan/engine/index"
)

func TestWantIsTheIndexs(t *testing.T) {
	if wantImmutable != index.WantImmutable {
		t.Fatal("the index has renumbered its parts")
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line, verb, arg string
		ok              bool
	}{
		{"STAT", "STAT", "", true},
		{"retr 1", "RETR", "1", true},
		{"TOP 1 10", "TOP", "1 10", true},
		{"PASS two  words ", "PASS", "two  words ", true},
		{"PASS  lead", "PASS", " lead", true},
		{"USER ü@example.test", "USER", "ü@example.test", true},
		{"utf8", "UTF8", "", true}, {"8TAT", "", "", false}, {"", "", "", false}, {" ", "", "", false}, {"QU", "", "", false}, {"QUITS", "", "", false},
		{"Q1IT", "", "", false}, {"\x00\x00\x00\x00", "", "", false}, {"USER a\x00b", "", "", false}, {"RETR\t1", "", "", false},
		{"@@@@", "", "", false}, {"PAS\xd3", "", "", false},
	} {
		verb, arg, err := parse(c.line)
		if verb != c.verb || arg != c.arg || (err == nil) != c.ok {
			t.Errorf("%q: %q, %q, %v", c.line, verb, arg, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "0": 0, "007": 7, "4294967295": 4294967295,
		"4294967296": -1, "-1": -1, "+1": -1, "": -1, "1 2": -1, "1x": -1, "0x1": -1, "1_0": -1, "99999999999999999999": -1,
	} {
		got, err := numbers(in, 1)
		if (err == nil) != (want >= 0) || err == nil && int64(got[0]) != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"STAT", "TOP 1 2", "PASS  x", "AUTH PLAIN =", "\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		verb, arg, err := parse(line)
		if err != nil {
			return
		}
		if len(verb) < 3 || len(verb) > 4 || strings.ToUpper(verb) != verb || strings.ContainsAny(arg, "\r\n\x00") {
			t.Fatalf("%q: %q, %q", line, verb, arg)
		}
		if n, err := numbers(arg, 2); err == nil && len(n) != 2 {
			t.Fatalf("%q: %v", arg, n)
		}
	})
}

// dotted runs a message through dotWriter in pieces of n bytes.
func dotted(t *testing.T, message []byte, n int) string {
	t.Helper()
	var out bytes.Buffer
	d := &dotWriter{w: &out}
	for p := message; len(p) > 0; {
		k := min(n, len(p))
		if w, err := d.Write(p[:k]); err != nil || w != k {
			t.Fatalf("wrote %d of %d: %v", w, k, err)
		}
		p = p[k:]
	}
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDotWriter(t *testing.T) {
	for in, want := range map[string]string{
		"":                  ".\r\n",
		"a\r\n":             "a\r\n.\r\n",
		"a":                 "a\r\n.\r\n",
		".\r\n..\r\n.a\r\n": "..\r\n...\r\n..a\r\n.\r\n",
		"a\n.\nb\n":         "a\r\n..\r\nb\r\n.\r\n",
		"a\n.\r\nQUIT\r\n":  "a\r\n..\r\nQUIT\r\n.\r\n",
		"a\r\r\n.\r\n":      "a\r\r\n..\r\n.\r\n",
		"a\r":               "a\r\r\n.\r\n",
		"\n\n":              "\r\n\r\n.\r\n",
		"a.b\r\n":           "a.b\r\n.\r\n",
		"\r.\r\n":           "\r.\r\n.\r\n",
	} {
		for n := 1; n <= 3; n++ {
			if got := dotted(t, []byte(in), n); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, n, got, want)
			}
		}
	}
}

// FuzzDotWriter holds the output against two kinds of clients: one that reads lines up to CRLF, and one that takes any LF for a
// line's end. Both must find the end of the response only at its end, and the same message.
func FuzzDotWriter(f *testing.F) {
	f.Add([]byte("a\r\n.\r\n\n.\n..\r\r\n.x"), 3)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		if n <= 0 {
			n = 1
		}
		out := dotted(t, in, n)
		if whole := dotted(t, in, len(in)+1); whole != out {
			t.Fatalf("in pieces %q, whole %q", out, whole)
		}
		strict, rest := undot(out, "\r\n")
		if rest != "" {
			t.Fatalf("strict client left %q of %q", rest, out)
		}
		lenient, rest := undot(out, "\n")
		if rest != "" {
			t.Fatalf("lenient client left %q of %q", rest, out)
		}
		if strict != lenient {
			t.Fatalf("%q and %q", strict, lenient)
		}
		want := lines(string(in))
		if strict != want {
			t.Fatalf("got %q, want %q", strict, want)
		}
	})
}

// lines is a message with every LF as CRLF, and a last line that ends.
func lines(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\n", "\r\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\r\n"
	}
	return s
}

// undot is a client: it takes lines that end with eol until a lone dot.
func undot(out, eol string) (message, rest string) {
	var b strings.Builder
	for {
		line, more, ok := strings.Cut(out, eol)
		if !ok {
			return b.String(), "no end: " + out
		}
		out = more
		line = strings.TrimSuffix(line, "\r\n")
		if eol == "\n" {
			line = strings.TrimSuffix(line, "\r")
		}
		if line == "." {
			return b.String(), out
		}
		b.WriteString(strings.TrimPrefix(line, "."))
		b.WriteString("\r\n")
	}
}

func TestTopWriter(t *testing.T) {
	const head = "Subject: x\r\n folded\r\n\r\n"
	for _, c := range []struct {
		in    string
		lines uint32
		want  string
	}{
		{head + "1\r\n2\r\n3\r\n", 0, head},
		{head + "1\r\n2\r\n3\r\n", 2, head + "1\r\n2\r\n"},
		{head + "1\r\n2\r\n3\r\n", 9, head + "1\r\n2\r\n3\r\n"},
		{head + "1\r\n2", 2, head + "1\r\n2"},
		{head + "\r\n\r\n\r\n", 1, head + "\r\n"},
		{"Subject: x\n\n1\n2\n", 1, "Subject: x\n\n1\n"},
		{"\r\nbody\r\n", 0, "\r\n"},
		{"Subject: no body\r\n", 5, "Subject: no body\r\n"},
		{"", 5, ""},
	} {
		for n := 1; n <= 4; n++ {
			var out bytes.Buffer
			w := &topWriter{w: &out, lines: c.lines}
			var err error
			for p := []byte(c.in); len(p) > 0 && err == nil; {
				k := min(n, len(p))
				_, err = w.Write(p[:k])
				p = p[k:]
			}
			if err != nil && !errors.Is(err, errTopDone) || out.String() != c.want {
				t.Errorf("%q, %d lines, pieces of %d: %q, %v", c.in, c.lines, n, out.String(), err)
			}
		}
	}
}

func TestWritersPassErrorsOn(t *testing.T) {
	for _, w := range []io.Writer{&dotWriter{w: brokenWriter{}}, &topWriter{w: brokenWriter{}, lines: 1}} {
		for _, s := range []string{"a", ".", "a\nb", "\r\n"} {
			if _, err := io.Copy(w, iotest.OneByteReader(strings.NewReader(s))); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%T, %q: %v", w, s, err)
			}
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
