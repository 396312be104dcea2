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

// Textual writes a message of which no part is binary any more (RFC 3030 section 3): the bodies of those that say so come in base64, and what holds parts
// says 8bit. IMAP has no other way to show such bytes with BODY, in which there is no NUL (RFC 9051 section 4.3.1). It is false, and nothing was written, if no part
// says that it is binary. open gives n bytes of the message from off on.
func (s *Summary) Textual(open func(off, n uint64) (io.ReadCloser, error), w io.Writer) (bool, error) {
	out := bufio.NewWriterSize(w, 32<<10)
	t := textual{open: open, w: out}
	t.find(s.Structure)
	if len(t.parts) == 0 {
		return false, nil
	}
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
	parts []*Part // that are binary, in order
	at    uint64  // what was written is the message up to here
}

// find lists the parts that say that they are binary, from p on.
func (t *textual) find(p *Part) {
	if header := p.BodyStart - p.HeaderStart; p.Encoding == "binary" && header > 0 && header <= longestHeader && p.BodyEnd > p.BodyStart {
		t.parts = append(t.parts, p)
	}
	for _, c := range p.Children {
		t.find(c)
	}
}

// write writes the message up to a part, and the part; of one that holds others only its header.
func (t *textual) write(p *Part) error {
	if err := t.copy(t.w, p.HeaderStart); err != nil {
		return err
	}
	var header headerBuffer
	if err := t.copy(&header, p.BodyStart); err != nil {
		return err
	}
	encoding := "base64"
	if len(p.Children) > 0 {
		encoding = "8bit"
	}
	if _, err := t.w.Write(relabel(header, encoding)); err != nil || len(p.Children) > 0 {
		return err
	}
	lines := &lineWriter{w: t.w}
	encoder := base64.NewEncoder(base64.StdEncoding, lines)
	if err := t.copy(encoder, p.BodyEnd); err != nil {
		return err
	}
	return encoder.Close()
}

// relabel gives a part's header with another transfer encoding, and the empty line that some lack.
func relabel(header []byte, encoding string) []byte {
	fields := FilterHeader(header, []string{"Content-Transfer-Encoding"}, true)
	if more, ok := bytes.CutSuffix(fields, []byte("\r\n")); ok && (len(more) == 0 || more[len(more)-1] == '\n') {
		fields = more
	}
	return append(append(fields, "Content-Transfer-Encoding: "...), encoding+"\r\n\r\n"...)
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
