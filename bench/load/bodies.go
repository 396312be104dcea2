package load

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"

	"hongyan/bench/mail"
)

// ownLines is about what the lines take that each message has in front of its body.
const ownLines = 80

// newBody prepares a message of the generator: CRLF at every line's end, and no Message-ID, since each copy gets its own.
func newBody(raw []byte) body {
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(raw, "\r\n"...)
	}
	raw = withoutField(raw, "Message-ID")
	b := body{raw: raw, stuffed: Stuff(raw)}
	b.rawSpot = findSpots(b.raw)
	b.spots = b.rawSpot
	if len(b.stuffed) != len(b.raw) {
		b.spots = moveSpots(b.raw, b.rawSpot)
	}
	return b
}

// Stuff puts a dot before each line that begins with one (RFC 5321 section 4.5.2). It returns raw itself when there is none.
func Stuff(raw []byte) []byte {
	if !bytes.HasPrefix(raw, []byte(".")) && !bytes.Contains(raw, []byte("\n.")) {
		return raw
	}
	out := make([]byte, 0, len(raw)+16)
	for line := range bytes.Lines(raw) {
		if line[0] == '.' {
			out = append(out, '.')
		}
		out = append(out, line...)
	}
	return out
}

// withoutField drops every field of that name from the header, with its folded lines.
func withoutField(raw []byte, name string) []byte {
	out := make([]byte, 0, len(raw))
	inHeader, dropping := true, false
	for line := range bytes.Lines(raw) {
		if inHeader {
			inHeader = len(bytes.TrimRight(line, "\r\n")) > 0
			if line[0] != ' ' && line[0] != '\t' {
				field, _, ok := bytes.Cut(line, []byte(":"))
				dropping = ok && bytes.EqualFold(field, []byte(name))
			}
			if dropping {
				continue
			}
		}
		out = append(out, line...)
	}
	return out
}

// findSpots finds a place every few kB below the header where letters and digits can be replaced: inside a line of text or base64, not in
// a boundary or a part's header, and not in the first character of a run, which may belong to a character of two bytes.
func findSpots(raw []byte) []int {
	var spots []int
	header := bytes.Index(raw, []byte("\r\n\r\n"))
	at, next := 0, header+4
	for line := range bytes.Lines(raw) {
		if header >= 0 && at >= next && !bytes.HasPrefix(line, []byte("--")) && !bytes.ContainsAny(line, ":=") {
			if i := alphanumerics(line); i >= 0 {
				spots = append(spots, at+i)
				next = at + spotEvery
			}
		}
		at += len(line)
	}
	return spots
}

// alphanumerics is where spotLen letters or digits follow another, or -1.
func alphanumerics(line []byte) int {
	run := 0
	for i, c := range line {
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' {
			run++
		} else {
			run = 0
		}
		if run > spotLen {
			return i + 1 - spotLen
		}
	}
	return -1
}

// moveSpots says where the spots are once dots are stuffed.
func moveSpots(raw []byte, spots []int) []int {
	moved := make([]int, len(spots))
	at, dots, i := 0, 0, 0
	for line := range bytes.Lines(raw) {
		if line[0] == '.' {
			dots++
		}
		for at += len(line); i < len(spots) && spots[i] < at; i++ {
			moved[i] = spots[i] + dots
		}
	}
	return moved
}

// sizer makes messages of one size: lines of the generator's mailing lists, and above textPart bytes a file in base64, as large mail has.
type sizer struct {
	rng   *rand.Rand
	lines [][]byte
	size  int
}

const textPart = 32 << 10

func newSizer(seed uint64, size int) *sizer {
	s := &sizer{rng: rand.New(rand.NewPCG(seed, 0x73697a65)), size: size}
	g := mail.New(seed)
	for have := 0; have < 2*textPart; {
		m := g.Next()
		if m.Kind != "list" {
			continue
		}
		_, text, _ := bytes.Cut(m.Bytes, []byte("\r\n\r\n"))
		for line := range bytes.Lines(text) {
			line = bytes.TrimRight(line, "\r\n")
			s.lines = append(s.lines, line)
			have += len(line)
		}
	}
	return s
}

// next makes a message that has the size once its own lines are in front.
func (s *sizer) next() []byte {
	want := s.size - ownLines
	head := fmt.Sprintf("From: <sender@remote.test>\r\nSubject: %x\r\nMIME-Version: 1.0\r\n", s.rng.Uint64())
	if want <= textPart {
		b := append(make([]byte, 0, want), head...)
		b = append(b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"...)
		return s.text(b, want)
	}
	b := append(make([]byte, 0, want), head...)
	b = append(b, "Content-Type: multipart/mixed; boundary=\"part-of-mail\"\r\n\r\n--part-of-mail\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"...)
	b = s.text(b, textPart/4)
	b = append(b, "--part-of-mail\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"...)
	const end = "--part-of-mail--\r\n"
	var noise [57]byte
	for len(b)+len(end)+2 < want {
		for i := range noise {
			noise[i] = byte(s.rng.Uint32())
		}
		line := base64.StdEncoding.EncodeToString(noise[:])
		b = append(append(b, line[:min(len(line), want-len(b)-len(end)-2)]...), "\r\n"...)
	}
	return append(b, end...)
}

// text appends lines up to a length.
func (s *sizer) text(b []byte, to int) []byte {
	for len(b)+2 < to {
		line := s.lines[s.rng.IntN(len(s.lines))]
		b = append(append(b, line[:min(len(line), to-len(b)-2)]...), "\r\n"...)
	}
	return b
}
