package message

import (
	"bufio"
	"io"

	"golang.org/x/text/transform"
)

// guessBytes is how much of a text without charset is looked at.
const guessBytes = 4 << 10

// TextReader reads a part's body as it is meant: without its transfer encoding and, if it is readable, in UTF-8. body
// gives the part's raw bytes. What is broken is decoded as far as it goes; only errors of body come back. Memory is
// bounded.
func TextReader(p *Part, body io.Reader) io.Reader {
	r := body
	switch p.Encoding {
	case "base64":
		r = transform.NewReader(r, new(base64Decoder))
	case "quoted-printable":
		r = transform.NewReader(r, new(quotedDecoder))
	}
	if !p.Readable() {
		return r
	}
	name, _ := p.Params.Get("charset")
	if enc, known := lookupCharset(name); known {
		return transform.NewReader(r, enc.NewDecoder())
	}
	return &guessReader{from: bufio.NewReaderSize(r, guessBytes)}
}

// guessReader finds out what charset a text is in when it is first read.
type guessReader struct {
	from *bufio.Reader
	r    io.Reader
}

// Read implements io.Reader.
func (g *guessReader) Read(p []byte) (int, error) {
	if g.r == nil {
		sample, err := g.from.Peek(guessBytes)
		if err != nil && err != io.EOF && len(sample) == 0 {
			return 0, err
		}
		g.r = transform.NewReader(g.from, guessCharset(sample, len(sample) == guessBytes).NewDecoder())
	}
	return g.r.Read(p)
}

// base64Decoder decodes base64 (RFC 2045 section 6.8). Bytes outside of the alphabet are skipped, padding ends a group
// wherever it comes, and a last group may lack its padding.
type base64Decoder struct {
	bits  uint32
	count int // characters in bits
}

// Reset implements transform.Transformer.
func (d *base64Decoder) Reset() { *d = base64Decoder{} }

// Transform implements transform.Transformer.
func (d *base64Decoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if len(dst)-nDst < 3 {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		nSrc++
		if c == '=' {
			nDst += d.flush(dst[nDst:])
			continue
		}
		v, ok := sixBits(c)
		if !ok {
			continue
		}
		d.bits = d.bits<<6 | v
		if d.count++; d.count == 4 {
			dst[nDst], dst[nDst+1], dst[nDst+2] = byte(d.bits>>16), byte(d.bits>>8), byte(d.bits)
			nDst += 3
			d.bits, d.count = 0, 0
		}
	}
	if atEOF {
		if len(dst)-nDst < 3 {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += d.flush(dst[nDst:])
	}
	return nDst, nSrc, nil
}

// flush writes the whole bytes of an unfinished group.
func (d *base64Decoder) flush(dst []byte) (n int) {
	switch d.count {
	case 2:
		dst[0] = byte(d.bits >> 4)
		n = 1
	case 3:
		dst[0], dst[1] = byte(d.bits>>10), byte(d.bits>>2)
		n = 2
	}
	d.bits, d.count = 0, 0
	return n
}

// sixBits is the value of a base64 character, also of the URL alphabet.
func sixBits(c byte) (uint32, bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		return uint32(c - 'A'), true
	case 'a' <= c && c <= 'z':
		return uint32(c-'a') + 26, true
	case '0' <= c && c <= '9':
		return uint32(c-'0') + 52, true
	case c == '+' || c == '-':
		return 62, true
	case c == '/' || c == '_':
		return 63, true
	}
	return 0, false
}

// quotedDecoder decodes quoted-printable (RFC 2045 section 6.7); an escape that is none stays as it is.
type quotedDecoder struct{ transform.NopResetter }

// Transform implements transform.Transformer.
func (quotedDecoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if nDst == len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		c, n, whole := src[nSrc], 1, true
		switch c {
		case '=':
			c, n, whole = quotedEscape(src[nSrc:], atEOF)
		case ' ', '\t':
			n, whole = quotedBlank(src[nSrc:], atEOF)
		}
		if !whole {
			return nDst, nSrc, transform.ErrShortSrc
		}
		if n < 0 { // nothing of the text: a soft line break, or what a transport added
			nSrc -= n
			continue
		}
		dst[nDst] = c
		nDst++
		nSrc += n
	}
	return nDst, nSrc, nil
}

const maxBlanks = 64 // white space before the line end that a transport added

// quotedBlank says what the blank is that src starts with: a byte of the text, or one of n at a line's end (RFC 2045 section 6.7
// rule 3), for which n is negative.
func quotedBlank(src []byte, atEOF bool) (n int, whole bool) {
	i := 1
	for i < len(src) && i < maxBlanks && (src[i] == ' ' || src[i] == '\t') {
		i++
	}
	switch rest := src[i:]; {
	case len(rest) == 0 && atEOF, len(rest) > 0 && rest[0] == '\n', len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
		return -i, true
	case len(rest) == 0, len(rest) == 1 && rest[0] == '\r' && !atEOF:
		return 0, false
	}
	return 1, true
}

// quotedEscape reads the escape that src starts with: the byte it means and its length, which is negative for a line
// that goes on. whole is false when more of src is needed to tell.
func quotedEscape(src []byte, atEOF bool) (c byte, n int, whole bool) {
	if len(src) >= 3 {
		if hi, lo := unhex(src[1]), unhex(src[2]); hi < 16 && lo < 16 {
			return hi<<4 | lo, 3, true
		}
	}
	i := 1
	for i < len(src) && i < maxBlanks && (src[i] == ' ' || src[i] == '\t') {
		i++
	}
	switch {
	case i == len(src) && atEOF:
		return 0, -i, true
	case i == len(src):
		return 0, 0, false
	case src[i] == '\n':
		return 0, -(i + 1), true
	case src[i] == '\r' && i+1 < len(src) && src[i+1] == '\n':
		return 0, -(i + 2), true
	case !atEOF && len(src) < 3:
		return 0, 0, false
	case !atEOF && src[i] == '\r' && i+1 == len(src):
		return 0, 0, false
	}
	return '=', 1, true
}
