package wire

import (
	"bytes"
	"io"
	"sync"
)

const inputSize = 4 << 10 // of the input buffer; large literals pass it by

// Limits bound a command.
type Limits struct {
	Line     int   // bytes of its lines together
	Literals int64 // bytes of its literals that are kept in memory, together
	Count    int   // literals
	Skip     int64 // bytes of a refused literal that the client sends unasked; larger ones end the connection
}

// Decoder reads a client's commands. It is for one goroutine.
type Decoder struct {
	src     io.Reader
	limits  Limits
	proceed func() error // asks the client for a literal
	utf8    bool

	buf  *[inputSize]byte // nil while the connection waits
	r, w int              // buf[r:w] is what was read and not used

	line  []byte // the current line without its end, in buf or in long
	long  []byte // a line that is larger than the buffer
	pos   int    // in line
	lit   announcement
	lines int   // bytes of this command's lines so far
	kept  int64 // bytes of its literals in memory so far
	count int   // its literals so far
	depth int   // of nested lists
	first [1]byte
}

// announcement is the literal that a line ends in.
type announcement struct {
	at      int // where in the line it starts; -1: there is none
	size    int64
	nonSync bool // the client sends it unasked
	binary  bool // "~{…}" (RFC 3516)
	opened  bool // its bytes are being read
	left    int64
}

var inputPool = sync.Pool{New: func() any { return new([inputSize]byte) }}

// NewDecoder returns a decoder of src. proceed is called before a literal is read that the client waits to be asked for.
func NewDecoder(src io.Reader, l Limits, proceed func() error) *Decoder {
	return &Decoder{src: src, limits: l, proceed: proceed, lit: announcement{at: -1}}
}

// SetLimits changes the limits.
func (d *Decoder) SetLimits(l Limits) { d.limits = l }

// SetUTF8 has mailbox names taken as UTF-8, no more as modified UTF-7 (RFC 6855, RFC 9051 section 5.1).
func (d *Decoder) SetUTF8() { d.utf8 = true }

// Buffered is how much was read ahead of the current line.
func (d *Decoder) Buffered() int { return d.w - d.r }

// Ahead is what was read ahead of the current line, to be looked at only: good until more is read.
func (d *Decoder) Ahead() []byte { return d.unread() }

// Release gives the buffer back when it is empty. Tokens of the current command are void.
func (d *Decoder) Release() {
	if d.buf == nil || d.r != d.w {
		return
	}
	inputPool.Put(d.buf)
	d.buf, d.r, d.w = nil, 0, 0
	d.line, d.long = nil, nil
}

// Await waits for the first octet of what comes next, which then is Buffered.
func (d *Decoder) Await() error {
	for d.Buffered() == 0 {
		if err := d.fill(); err != nil {
			return err
		}
	}
	return nil
}

// Next reads a command's first line.
func (d *Decoder) Next() error {
	d.lines, d.kept, d.count, d.depth = 0, 0, 0, 0
	return d.readLine()
}

// Answer reads the line by which a client answers a continuation request: it is part of no command's grammar. The line is
// valid until the next call. A literal that it ends in is left to Finish.
func (d *Decoder) Answer() ([]byte, error) {
	if err := d.readLine(); err != nil {
		return nil, err
	}
	d.pos = len(d.line)
	return d.line, nil
}

// Finish skips what is left of a command, so that Next finds the one after it.
func (d *Decoder) Finish() error {
	for d.lit.at >= 0 {
		if !d.lit.opened {
			if !d.lit.nonSync {
				break // the client waits to be asked, and hears that the command is over
			}
			if d.lit.size > d.limits.Skip {
				return ErrTooLong
			}
			d.lit.left = d.lit.size
		}
		if err := d.skip(); err != nil {
			return err
		}
		if err := d.readLine(); err != nil {
			return err
		}
	}
	d.lit.at = -1
	d.pos = len(d.line)
	return nil
}

// skip drops the rest of the literal.
func (d *Decoder) skip() error {
	for d.lit.left > 0 {
		if d.r == d.w {
			if err := d.fill(); err != nil {
				return err
			}
		}
		n := min(int64(d.w-d.r), d.lit.left)
		d.r += int(n)
		d.lit.left -= n
	}
	return nil
}

// readLine reads up to a line feed.
func (d *Decoder) readLine() error {
	d.line, d.pos = nil, 0
	d.lit = announcement{at: -1}
	if cap(d.long) > inputSize {
		d.long = nil
	}
	d.long = d.long[:0]
	seen := 0 // bytes of buf[r:w] without a line feed
	for {
		if i := bytes.IndexByte(d.unread()[seen:], '\n'); i >= 0 {
			return d.endLine(seen + i)
		}
		seen = d.w - d.r
		if d.lines+len(d.long)+seen > d.limits.Line {
			return ErrTooLong
		}
		if d.buf != nil && seen == inputSize {
			d.long = append(d.long, d.buf[:]...)
			d.r, d.w, seen = 0, 0, 0
		}
		if err := d.fill(); err != nil {
			return err
		}
	}
}

func (d *Decoder) unread() []byte {
	if d.buf == nil {
		return nil
	}
	return d.buf[d.r:d.w]
}

// endLine takes the line that ends with the line feed at buf[r+n].
func (d *Decoder) endLine(n int) error {
	line := d.buf[d.r : d.r+n]
	d.r += n + 1
	if len(d.long) > 0 {
		d.long = append(d.long, line...)
		line = d.long
	}
	if d.lines += len(line); d.lines > d.limits.Line {
		return ErrTooLong
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	// Octets that no line may contain, and about whose line ends a proxy before us could think otherwise.
	if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 {
		return ErrOctet
	}
	d.line = line
	d.lit = announced(line)
	return nil
}

// fill reads more into the buffer, which has room. A connection that waits for its next command has no buffer: it gets one with
// the first byte.
func (d *Decoder) fill() error {
	if d.buf == nil {
		n, err := d.src.Read(d.first[:])
		if n == 0 {
			return err
		}
		d.buf = inputPool.Get().(*[inputSize]byte)
		d.buf[0], d.r, d.w = d.first[0], 0, 1
		return nil
	}
	if d.r == d.w {
		d.r, d.w = 0, 0
	} else if d.w == inputSize {
		d.w = copy(d.buf[:], d.buf[d.r:d.w])
		d.r = 0
	}
	n, err := d.src.Read(d.buf[d.w:])
	if n == 0 {
		return err
	}
	d.w += n
	return nil
}

// announced finds the literal that a line ends in. A space after it is forgiven: what follows is not a command either way.
func announced(line []byte) announcement {
	none := announcement{at: -1}
	end := len(line)
	if end > 0 && line[end-1] == ' ' {
		end--
	}
	if end == 0 || line[end-1] != '}' {
		return none
	}
	a := announcement{}
	i := end - 2
	if i >= 0 && line[i] == '+' {
		a.nonSync = true
		i--
	}
	last := i
	for i >= 0 && line[i] >= '0' && line[i] <= '9' {
		i--
	}
	if i < 0 || line[i] != '{' || i == last {
		return none
	}
	for _, c := range line[i+1 : last+1] {
		if a.size = a.size*10 + int64(c-'0'); a.size > 1<<50 {
			a.size = 1 << 50 // larger than any limit
		}
	}
	if a.at = i; i > 0 && line[i-1] == '~' {
		a.at, a.binary = i-1, true
	}
	return a
}
