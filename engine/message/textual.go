package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
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
	binary := binaryParts(nil, s.Structure)
	if len(binary) == 0 {
		return false, nil
	}
	t := textual{open: open, size: s.Size}
	var parts []*Part
	err := t.pass(func() error {
		for _, p := range binary {
			var look nulFinder
			if err := t.copy(io.Discard, p.BodyStart); err != nil {
				return err
			}
			if err := t.copy(&look, p.BodyEnd); err != nil {
				return err
			}
			if look {
				parts = append(parts, p)
			}
		}
		return nil
	})
	if err != nil || len(parts) == 0 {
		return false, err
	}
	out := bufio.NewWriterSize(w, 32<<10)
	err = t.pass(func() error {
		for _, p := range parts {
			if err := t.write(out, p); err != nil {
				return err
			}
		}
		return t.copy(out, s.Size)
	})
	if err == nil {
		err = out.Flush()
	}
	return err == nil, err
}

// binaryParts adds the parts to list that say that they are binary, from p on, in order.
func binaryParts(list []*Part, p *Part) []*Part {
	if header := p.BodyStart - p.HeaderStart; p.Encoding == "binary" && len(p.Children) == 0 && header > 0 && header <= longestHeader {
		list = append(list, p)
	}
	for _, c := range p.Children {
		list = binaryParts(list, c)
	}
	return list
}

// textual reads a message from its beginning, once in each pass.
type textual struct {
	open func(off, n uint64) (io.ReadCloser, error)
	size uint64
	r    io.ReadCloser
	at   uint64 // what was read is the message up to here
}

// pass lets fn read the message from its beginning.
func (t *textual) pass(fn func() error) (err error) {
	if t.r, err = t.open(0, t.size); err != nil {
		return err
	}
	t.at = 0
	err = fn()
	if closed := t.r.Close(); err == nil {
		err = closed
	}
	return err
}

type nulFinder bool

func (f *nulFinder) Write(p []byte) (int, error) {
	*f = *f || bytes.IndexByte(p, 0) >= 0
	return len(p), nil
}

// write writes the message up to a part, and the part.
func (t *textual) write(w io.Writer, p *Part) error {
	if err := t.copy(w, p.HeaderStart); err != nil {
		return err
	}
	var header bytes.Buffer
	if err := t.copy(&header, p.BodyStart); err != nil {
		return err
	}
	if _, err := w.Write(inBase64(header.Bytes())); err != nil {
		return err
	}
	encoder := base64.NewEncoder(base64.StdEncoding, &lineWriter{w: w})
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
	_, err := io.CopyN(w, t.r, int64(to-t.at))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	t.at = to
	return err
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
