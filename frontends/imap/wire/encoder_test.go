package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
)

func TestEncoder(t *testing.T) {
	for _, c := range []struct {
		want  string
		write func(*Encoder)
	}{
		{`"a b"`, func(e *Encoder) { e.String("a b") }},
		{`""`, func(e *Encoder) { e.String("") }},
		{`"\\ \" x"`, func(e *Encoder) { e.String(`\ " x`) }},
		{"{3}\r\n垃", func(e *Encoder) { e.String("垃") }},
		{"{2}\r\n\xc4\xe3", func(e *Encoder) { e.String("\xc4\xe3") }},
		{"{4}\r\na\r\nb", func(e *Encoder) { e.String("a\r\nb") }},
		{`"ab"`, func(e *Encoder) { e.String("a\x00b") }},
		{"NIL", func(e *Encoder) { e.NString("") }},
		{`"&V4M-"`, func(e *Encoder) { e.Mailbox("垃") }},
		{`"垃"`, func(e *Encoder) { e.SetUTF8(); e.Mailbox("垃") }},
		{"{2}\r\n\xc4\xe3", func(e *Encoder) { e.SetUTF8(); e.String("\xc4\xe3") }},
		{"INBOX", func(e *Encoder) { e.Mailbox("INBOX") }},
		{"~{3}\r\n", func(e *Encoder) { e.Binary(3) }},
		{`(\Seen $a)`, func(e *Encoder) { e.Flags([]goimap.Flag{`\Seen`, "$a"}) }},
		{`" 1-Feb-2020 03:04:05 -0730"`, func(e *Encoder) {
			e.DateTime(time.Date(2020, 2, 1, 3, 4, 5, 0, time.FixedZone("", -(7*60+30)*60)))
		}},
		{"{1001}\r\n" + strings.Repeat("x", 1001), func(e *Encoder) { e.String(strings.Repeat("x", 1001)) }},
	} {
		var out bytes.Buffer
		e := NewEncoder(&out)
		c.write(e)
		if err := e.Flush(); err != nil || out.String() != c.want {
			t.Errorf("got %q, want %q, %v", out.String(), c.want, err)
		}
	}
}

// sizes notes how large the writes are, and fails after some.
type sizes struct {
	all  []int
	fail int
}

func (s *sizes) Write(p []byte) (int, error) {
	if s.all = append(s.all, len(p)); s.fail > 0 && len(s.all) >= s.fail {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestCoalescing(t *testing.T) {
	var w sizes
	e := NewEncoder(&w)
	for n := range 10_000 {
		e.Raw("* ").Num(uint64(n)).Line(" EXPUNGE")
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.all[:len(w.all)-1] {
		if n != outputSize {
			t.Errorf("a write of %d bytes", n)
		}
	}
	w = sizes{fail: 2}
	e = NewEncoder(&w)
	for range 10 {
		// The first error shows in the end.
		_, _ = e.Write(make([]byte, outputSize))
	}
	if err := e.Flush(); !errors.Is(err, io.ErrClosedPipe) || len(w.all) != 2 {
		t.Errorf("%v after %d writes", err, len(w.all))
	}
	e = NewEncoder(&w)
	e.Raw("x").Fail(io.EOF)
	if err := e.Raw("y").Flush(); !errors.Is(err, io.EOF) || len(w.all) != 2 {
		t.Errorf("%v after %d writes", err, len(w.all))
	}
}

// FuzzRoundTrip has the decoder read what the encoder wrote.
func FuzzRoundTrip(f *testing.F) {
	f.Add("hello", true)
	f.Add("\"\\\r\n\x00\xff 垃圾", false)
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		var out bytes.Buffer
		e := NewEncoder(&out)
		if utf8 {
			e.SetUTF8()
		}
		name := strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
		if err := e.String(s).SP().Mailbox(name).Line("").Flush(); err != nil {
			t.Fatal(err)
		}
		d := NewDecoder(&out, Limits{Line: 1 << 20, Literals: 1 << 20, Count: 10}, func() error { return nil })
		if utf8 {
			d.SetUTF8()
		}
		if err := d.Next(); err != nil {
			t.Fatal(err)
		}
		got, err := d.String()
		if want := strings.ReplaceAll(s, "\x00", ""); err != nil || string(got) != want || d.SP() != nil {
			t.Fatalf("%q became %q: %v", want, got, err)
		}
		if got, err := d.Mailbox(); err != nil || got != name || d.End() != nil {
			t.Fatalf("name %q became %q: %v", name, got, err)
		}
	})
}
