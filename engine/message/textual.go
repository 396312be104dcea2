package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
)

// What Textual writes.
const (
	base64Line    = 76      // characters of a line (RFC 2045 section 6.8)
	longestHeader = 1 << 20 // bytes of a part's header; parts with a longer one stay as they are
)

// Textual writes a message with the bodies of those parts in base64 that say that they are binary (RFC 3030 section 3) and have a NUL, which IMAP cannot show in
// BODY (RFC 9051 section 4.3.1). It is false, and nothing was written, if there is none. open gives n bytes of the message from off on.
func (s *Summary) Textual(open func(off, n uint64) (io.ReadCloser, error), w io.Writer) (bool, error) {
	out := bufio.NewWriterSize(w, 32<<10)
	t := textual{open: open, w: out}
	if err := t.find(s.Structure); err != nil || len(t.parts) == 0 {
		return false, err
	}
	t.at = 0
	for _, p := range t.parts {
		if err := t.write(p); err != nil {
			return false, err
		}
	}
	if err := t.copy(out, s.Size); err != nil {
		return false, err
	}
	return true, out.Flush()
}

type textual struct {
	open  func(off, n uint64) (io.ReadCloser, error)
	w     io.Writer
	parts []*Part // to be encoded, in order
	at    uint64  // what was read is the message up to here
}

// find lists the parts that are to be encoded, from p on.
func (t *textual) find(p *Part) error {
	if header := p.BodyStart - p.HeaderStart; p.Encoding == "binary" && len(p.Children) == 0 && header > 0 && header <= longestHeader {
		var look nulFinder
		t.at = p.BodyStart
		if err := t.copy(&look, p.BodyEnd); err != nil {
			return err
		}
		if look {
			t.parts = append(t.parts, p)
		}
	}
	for _, c := range p.Children {
		if err := t.find(c); err != nil {
			return err
		}
	}
	return nil
}

type nulFinder bool

func (f *nulFinder) Write(p []byte) (int, error) {
	*f = *f || bytes.IndexByte(p, 0) >= 0
	return len(p), nil
}

// write writes the message up to a part, and the part.
func (t *textual) write(p *Part) error {
	if err := t.copy(t.w, p.HeaderStart); err != nil {
		return err
	}
	var header headerBuffer
	if err := t.copy(&header, p.BodyStart); err != nil {
		return err
	}
	if _, err := t.w.Write(inBase64(header)); err != nil {
		return err
	}
	lines := &lineWriter{w: t.w}
	encoder := base64.NewEncoder(base64.StdEncoding, lines)
	if err := t.copy(encoder, p.BodyEnd); err != nil {
		return err
	}
	return encoder.Close()
}

// inBase64 gives a part's header with that transfer encoding, and the empty line that some lack.
func inBase64(header []byte) []byte {
	fields := FilterHeader(header, []string{"Content-Transfer-Encoding"}, true)
	if more, ok := bytes.CutSuffix(fields, []byte("\r\n")); ok && (len(more) == 0 || more[len(more)-1] == '\n') {
		fields = more
	}
	return append(fields, "Content-Transfer-Encoding: base64\r\n\r\n"...)
}

// copy hands on the message up to an offset.
func (t *textual) copy(w io.Writer, to uint64) error {
	if to == t.at {
		return nil
	}
	r, err := t.open(t.at, to-t.at)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, r)
	if err == nil && uint64(n) != to-t.at {
		err = io.ErrUnexpectedEOF
	}
	if closed := r.Close(); err == nil {
		err = closed
	}
	t.at = to
	return err
}

type headerBuffer []byte

func (b *headerBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// lineWriter puts line ends between lines of base64; none behind the last, for what follows a part begins with one.
type lineWriter struct {
	w    io.Writer
	used int
}

func (l *lineWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if l.used == base64Line {
			if _, err := io.WriteString(l.w, "\r\n"); err != nil {
				return n, err
			}
			l.used = 0
		}
		k, err := l.w.Write(p[:min(len(p), base64Line-l.used)])
		n, l.used, p = n+k, l.used+k, p[k:]
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
