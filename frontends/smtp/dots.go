package smtp

import (
	"bytes"
	"io"
)

// A line ends with CRLF, and with nothing else (RFC 5321 section 2.3.8). A bare LF or a bare CR is therefore an
// ordinary byte here: it neither ends a line nor makes a dot special, so no message can be smuggled in behind another
// by "LF . LF" or "LF . CRLF", and it is stored as it came. We neither refuse it (broken but honest
// programs send it, and a message is served as sent) nor turn it into CRLF (that would break signatures over
// the bytes). Whoever writes lines again, as POP3 does and a relay will, must make lines of it there.
//
// go-smtp's own reader keeps that rule but for one flaw: of a run of CRs before an LF it sees the end of a line only
// when their number is odd. After "CR CR LF" it takes the next line for the rest of this one: a doubled dot
// stays doubled, and "CR CR LF . CR LF" does not end the message, so the sender waits until it gives up, and tries again for days.
// dotReader stands behind it and mends both. It knows from the bytes that come out when the reader has
// lost the line, and then treats the next bytes as the beginning of a line itself.
type dotReader struct {
	src   io.Reader
	at    place
	crs   int  // CRs at the end of what was seen of the line
	ended bool // the end of the message was found here, not by src
}

// place is where dotReader is in the stream.
type place uint8

const (
	inLine  place = iota // src knows about lines, or will at the next one
	atStart              // first byte of a line that src takes for a continuation
	atDot                // behind a dot there
	atDotCR              // behind dot and CR there
)

// Read reads from src and mends.
func (d *dotReader) Read(p []byte) (int, error) {
	if d.ended {
		return 0, io.EOF
	}
	n, err := d.src.Read(p)
	n = d.mend(p[:n])
	if d.ended {
		return n, io.EOF
	}
	return n, err
}

// mend takes out of p, in place, what is not part of the message and returns what is left. What stands behind the end of the
// message is none of it and is dropped (it cannot be given back to src).
func (d *dotReader) mend(p []byte) int {
	w := 0
	for r := 0; r < len(p) && !d.ended; {
		if d.at == inLine {
			n := d.line(p[r:])
			if w != r {
				copy(p[w:], p[r:r+n])
			}
			w += n
			r += n
			continue
		}
		if d.start(p[r]) {
			r++
		}
	}
	return w
}

// line passes over p up to the end of the line, or of p, and returns how far.
func (d *dotReader) line(p []byte) int {
	end := bytes.IndexByte(p, '\n')
	text := p
	if end >= 0 {
		text = p[:end]
	}
	if trimmed := len(bytes.TrimRight(text, "\r")); trimmed > 0 {
		d.crs = len(text) - trimmed
	} else {
		d.crs += len(text)
	}
	if end < 0 {
		return len(p)
	}
	if d.crs > 0 && d.crs%2 == 0 {
		d.at = atStart
	}
	d.crs = 0
	return end + 1
}

// start looks at a byte at the start of a line that src does not know to be one, and reports
// whether it is used up. A dot is taken off (RFC 5321 section 4.5.2); alone, it is the end.
func (d *dotReader) start(b byte) bool {
	switch {
	case d.at == atStart && b == '.':
		d.at = atDot
		return true
	case d.at == atDot && b == '\r':
		d.at = atDotCR
		return true
	case d.at == atDotCR && b == '\n':
		d.ended = true
		return true
	default:
		d.at = inLine
		return false
	}
}

// fieldCounter counts the fields of one name as a message's header passes.
type fieldCounter struct {
	name   string // in lower case, with the colon
	n      int
	column int  // of the current line
	match  bool // the line so far is a prefix of name
	body   bool // the header is over
}

// Write looks at p; it never fails.
func (h *fieldCounter) Write(p []byte) (int, error) {
	for _, b := range p {
		if h.body {
			break
		}
		h.next(b)
	}
	return len(p), nil
}

func (h *fieldCounter) next(b byte) {
	if b == '\n' {
		h.body = h.column == 0
		h.column = 0
		return
	}
	if b == '\r' { // of a blank line; elsewhere it only ends a match
		h.match = false
		return
	}
	if b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	if h.column == 0 {
		h.match = true
	}
	h.match = h.match && h.column < len(h.name) && b == h.name[h.column]
	if h.match && h.column == len(h.name)-1 {
		h.n++
	}
	h.column++
}
