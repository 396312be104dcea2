package pop3

import (
	"bytes"
	"errors"
	"io"
)

// dotWriter writes a message as the lines of a multi-line response (RFC 1939 section 3): each ends with
// CRLF, and one that begins with a dot gets another.
//
// A stored message may hold bare LFs. POP3 knows only lines, and many clients take a bare LF for the end of one:
// "LF . CRLF" inside a message would end the response there and make the rest of the message speak as the server. A bare
// LF therefore goes out as CRLF. A bare CR stays what it is.
type dotWriter struct {
	w    io.Writer
	open bool // a line has begun
	cr   bool // its last byte so far is CR
}

var (
	crlf = []byte("\r\n")
	dot  = []byte(".")
)

func (d *dotWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := d.piece(p[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// piece writes p up to the end of its first line and returns how much of p that was.
func (d *dotWriter) piece(p []byte) (int, error) {
	if !d.open && p[0] == '.' {
		if _, err := d.w.Write(dot); err != nil {
			return 0, err
		}
	}
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		d.open, d.cr = true, p[len(p)-1] == '\r'
		return d.w.Write(p)
	}
	bare := end == 0 && !d.cr || end > 0 && p[end-1] != '\r'
	d.open, d.cr = false, false
	if !bare {
		return d.w.Write(p[:end+1])
	}
	if n, err := d.w.Write(p[:end]); err != nil {
		return n, err
	}
	if _, err := d.w.Write(crlf); err != nil {
		return end, err
	}
	return end + 1, nil
}

// end completes the last line and writes the line that ends the response.
func (d *dotWriter) end() error {
	last := []byte(".\r\n")
	if d.open {
		last = []byte("\r\n.\r\n")
	}
	_, err := d.w.Write(last)
	return err
}

// errTopDone says that no more of the message is wanted.
var errTopDone = errors.New("enough lines")

// topWriter passes on a message's header, the blank line behind it, and so many lines of its body.
type topWriter struct {
	w     io.Writer
	lines uint32 // of the body still wanted
	body  bool
	open  bool // the current line has a byte other than CR
}

// Write returns errTopDone once everything wanted was passed on.
func (t *topWriter) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		if t.body && t.lines == 0 {
			_, err := t.w.Write(p[:at])
			return at, errors.Join(err, errTopDone)
		}
		end := bytes.IndexByte(p[at:], '\n')
		if end < 0 {
			t.open = t.open || hasText(p[at:])
			break
		}
		blank := !t.open && !hasText(p[at:at+end])
		t.open = false
		at += end + 1
		if t.body {
			t.lines--
		} else {
			t.body = blank
		}
	}
	return t.w.Write(p)
}

func hasText(p []byte) bool { return len(bytes.TrimRight(p, "\r")) > 0 }
