package message

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hongyan/engine/codec"
)

var update = flag.Bool("update", false, "rewrite the expected results in testdata")

// scan is the summary of a message that is written in one piece.
func scan(raw []byte) *Summary { return scanPieces(raw, func() int { return len(raw) }) }

// scanPieces is the summary of a message that is written in pieces of the given sizes.
func scanPieces(raw []byte, next func() int) *Summary {
	s := NewScanner()
	for len(raw) > 0 {
		n := min(max(next(), 1), len(raw))
		if _, err := s.Write(raw[:n]); err != nil {
			panic(err)
		}
		raw = raw[n:]
	}
	return s.Finish()
}

// TestStructure reads each message of testdata/structure and compares what was understood with the text beside it.
func TestStructure(t *testing.T) {
	files, err := filepath.Glob("testdata/structure/*.eml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d messages, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".eml"), func(t *testing.T) {
			raw := readFile(t, file)
			s := scan(raw)
			checkSummary(t, s, raw)
			got := describe(s, raw)
			golden := strings.TrimSuffix(file, ".eml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(readFile(t, golden)); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestLineEndsDoNotMatter gives each message other line ends: only offsets, sizes and raw fields may differ.
func TestLineEndsDoNotMatter(t *testing.T) {
	files, err := filepath.Glob("testdata/structure/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		lf := bytes.ReplaceAll(readFile(t, file), []byte("\r\n"), []byte("\n"))
		crlf := bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
		a, b := scan(lf), scan(crlf)
		checkSummary(t, b, crlf)
		if x, y := shape(a.Structure), shape(b.Structure); x != y {
			t.Errorf("%s: with LF\n%s\nwith CRLF\n%s", file, x, y)
		}
		if !reflect.DeepEqual(a.Envelope, b.Envelope) {
			t.Errorf("%s: with LF %+v, with CRLF %+v", file, a.Envelope, b.Envelope)
		}
	}
}

// shape is a part without its offsets.
func shape(p *Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %v %q %d(", p.Type, p.Subtype, p.Params, p.Encoding, p.Lines)
	for _, c := range p.Children {
		b.WriteString(shape(c))
	}
	b.WriteString(")")
	return b.String()
}

// TestPiecesDoNotMatter cuts each message at random and into single bytes: invariant 1.
func TestPiecesDoNotMatter(t *testing.T) {
	files, err := filepath.Glob("testdata/structure/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, file := range files {
		raw := readFile(t, file)
		checkPieces(t, file, raw, rng)
		checkPieces(t, file+" with CRLF", bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")), rng)
	}
}

// checkPieces compares the summary of a message with that of the same message in pieces.
func checkPieces(t *testing.T, name string, raw []byte, rng *rand.Rand) {
	t.Helper()
	want := scan(raw)
	for _, most := range []int{1, 2, 7, 100, 4000} {
		got := scanPieces(raw, func() int { return 1 + rng.IntN(most) })
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: in pieces of up to %d:\n%s\nin one:\n%s", name, most, describe(got, raw), describe(want, raw))
		}
	}
}

// checkSummary checks the invariants that hold for every message, and that the encoding keeps all of it.
func checkSummary(t *testing.T, s *Summary, raw []byte) {
	t.Helper()
	if s.Size != uint64(len(raw)) || s.Structure.HeaderStart != 0 || s.Structure.BodyEnd != s.Size {
		t.Fatalf("size %d of %d, root %+v", s.Size, len(raw), s.Structure)
	}
	parts := 0
	if err := s.Structure.check(1, &parts); err != nil {
		t.Fatal(err)
	}
	checkLines(t, s.Structure, raw)
	for _, f := range s.Headers {
		if !bytes.Contains(raw[:s.Structure.BodyStart], f) || f.Name() == "" {
			t.Fatalf("captured field %q is not in the header", f)
		}
	}
	checkEncoding(t, s)
}

// checkLines counts what the scanner counted.
func checkLines(t *testing.T, p *Part, raw []byte) {
	t.Helper()
	body := raw[p.BodyStart:p.BodyEnd]
	if n := bytes.Count(body, newline); uint64(n) != p.Lines || p.Size != uint64(len(body)) {
		t.Fatalf("%s/%s at %d: %d lines and %d bytes, want %d and %d", p.Type, p.Subtype, p.BodyStart, p.Lines, p.Size, n, len(body))
	}
	for _, c := range p.Children {
		checkLines(t, c, raw)
	}
}

// checkEncoding encodes and decodes.
func checkEncoding(t *testing.T, s *Summary) {
	t.Helper()
	enc, err := s.Encode()
	if err != nil || len(enc) > MaxEncoded {
		t.Fatalf("encoding of %d bytes, %v", len(enc), err)
	}
	got, err := Decode(enc)
	if err != nil {
		t.Fatal(err)
	}
	if whole, err := codec.Marshal(s); err != nil || len(whole) <= MaxEncoded && !reflect.DeepEqual(got, s) {
		t.Fatalf("decoded\n%+v, want\n%+v, %v", got, s, err)
	}
}

// describe writes a summary for people.
func describe(s *Summary, raw []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "size %d", s.Size)
	if s.SentDate != 0 {
		fmt.Fprintf(&b, ", sent %s", time.Unix(s.SentDate, 0).UTC().Format(time.RFC3339))
	}
	b.WriteString("\n")
	describeEnvelope(&b, "", &s.Envelope)
	describePart(&b, s.Structure, raw, nil)
	for _, f := range s.Headers {
		fmt.Fprintf(&b, "captured %q\n", f)
	}
	fmt.Fprintf(&b, "complete %v, %d names skipped\n", s.HeadersComplete, len(s.Skipped)/2)
	return b.String()
}

// describeEnvelope writes the values that there are.
func describeEnvelope(b *strings.Builder, indent string, e *Envelope) {
	for _, v := range []struct{ name, value string }{
		{"date", e.Date}, {"subject", e.Subject}, {"in-reply-to", e.InReplyTo}, {"message-id", e.MessageID},
	} {
		if v.value != "" {
			fmt.Fprintf(b, "%s%s %q\n", indent, v.name, v.value)
		}
	}
	for _, v := range []struct {
		name string
		list []Address
	}{{"from", e.From}, {"sender", e.Sender}, {"reply-to", e.ReplyTo}, {"to", e.To}, {"cc", e.Cc}, {"bcc", e.Bcc}} {
		for _, a := range v.list {
			fmt.Fprintf(b, "%s%s name %q mailbox %q host %q\n", indent, v.name, a.Name, a.Mailbox, a.Host)
		}
	}
}

// describePart writes a part and those inside.
func describePart(b *strings.Builder, p *Part, raw []byte, path []int) {
	indent := strings.Repeat("  ", len(path))
	fmt.Fprintf(b, "%spart %v %s/%s", indent, path, p.Type, p.Subtype)
	for _, v := range p.Params {
		fmt.Fprintf(b, " %s=%q", v.Name, v.Value)
	}
	for _, v := range []struct{ name, value string }{
		{"encoding", p.Encoding}, {"id", p.ID}, {"description", p.Description}, {"disposition", p.Disposition}, {"location", p.Location}, {"md5", p.MD5},
	} {
		if v.value != "" {
			fmt.Fprintf(b, " %s %q", v.name, v.value)
		}
	}
	for _, v := range p.DispositionParams {
		fmt.Fprintf(b, " %s=%q", v.Name, v.Value)
	}
	if p.Language != nil {
		fmt.Fprintf(b, " language %q", p.Language)
	}
	fmt.Fprintf(b, ", %d lines\n", p.Lines)
	fmt.Fprintf(b, "%s  header %d %q\n", indent, p.HeaderStart, short(raw[p.HeaderStart:p.BodyStart]))
	fmt.Fprintf(b, "%s  body %d-%d %q\n", indent, p.BodyStart, p.BodyEnd, short(raw[p.BodyStart:p.BodyEnd]))
	if p.Envelope != nil {
		describeEnvelope(b, indent+"  ", p.Envelope)
	}
	for i, c := range p.Children {
		describePart(b, c, raw, append(path[:len(path):len(path)], i+1))
	}
}

// short leaves out the middle of a long text.
func short(b []byte) string {
	if len(b) <= 60 {
		return string(b)
	}
	return string(b[:28]) + " … " + string(b[len(b)-28:])
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
