package wire

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	goimap "github.com/emersion/go-imap/v2"
)

const (
	outputSize = 16 << 10              // most plaintext of a TLS record: what is gathered before it is sent
	maxQuoted  = 1000                  // bytes of a string that is sent in quotes; longer ones are literals
	staleAfter = 10 * time.Millisecond // longest that output waits for more while the server is at work
)

// Encoder writes responses. Output is gathered until Flush, or until there is a record full of it. After an error nothing is
// written any more, and Err says why. It is for one goroutine at a time.
type Encoder struct {
	w     io.Writer
	buf   []byte // of a pool; nil when empty
	since time.Time
	err   error
	utf8  bool
}

var outputPool = sync.Pool{New: func() any { return new([outputSize]byte) }}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// SetWriter has output written to another writer from now on. There must be none left to flush.
func (e *Encoder) SetWriter(w io.Writer) { e.w = w }

// SetUTF8 allows UTF-8 in quoted strings and mailbox names (RFC 6855, RFC 9051 section 5.1).
func (e *Encoder) SetUTF8() { e.utf8 = true }

// Err is the first error of a write.
func (e *Encoder) Err() error { return e.err }

// Fail has nothing written any more, not even what was gathered, for the reason given.
func (e *Encoder) Fail(err error) {
	if e.err == nil {
		e.err = err
	}
	e.release()
}

// Flush sends what was gathered and gives the buffer back.
func (e *Encoder) Flush() error {
	if e.err == nil && len(e.buf) > 0 {
		_, e.err = e.w.Write(e.buf)
	}
	e.release()
	return e.err
}

// FlushStale is Flush if the output has waited long enough.
func (e *Encoder) FlushStale() error {
	if len(e.buf) > 0 && time.Since(e.since) > staleAfter {
		return e.Flush()
	}
	return e.err
}

func (e *Encoder) release() {
	if e.buf != nil {
		outputPool.Put((*[outputSize]byte)(e.buf[:outputSize]))
		e.buf = nil
	}
}

// room makes room for at least one octet.
func (e *Encoder) room() int {
	if len(e.buf) == outputSize {
		_, e.err = e.w.Write(e.buf)
		e.buf = e.buf[:0]
	}
	if e.buf == nil {
		e.buf = outputPool.Get().(*[outputSize]byte)[:0]
		e.since = time.Now()
	}
	return outputSize - len(e.buf)
}

// Write implements io.Writer, for the octets of a literal.
func (e *Encoder) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) && e.err == nil {
		n := min(e.room(), len(p)-done)
		e.buf = append(e.buf, p[done:done+n]...)
		done += n
	}
	return done, e.err
}

// Raw writes text of the protocol as it is.
func (e *Encoder) Raw(s string) *Encoder {
	for len(s) > 0 && e.err == nil {
		n := min(e.room(), len(s))
		e.buf = append(e.buf, s[:n]...)
		s = s[n:]
	}
	return e
}

// Line writes text of the protocol and a line end.
func (e *Encoder) Line(s string) *Encoder { return e.Raw(s).Raw("\r\n") }

// SP writes a space.
func (e *Encoder) SP() *Encoder { return e.Raw(" ") }

// Num writes a number.
func (e *Encoder) Num(n uint64) *Encoder {
	if e.err == nil {
		if e.room() < 20 {
			return e.Raw(strconv.FormatUint(n, 10))
		}
		e.buf = strconv.AppendUint(e.buf, n, 10)
	}
	return e
}

// Literal announces n octets, which the caller writes next.
func (e *Encoder) Literal(n int64) *Encoder {
	return e.Raw("{").Num(uint64(max(n, 0))).Raw("}\r\n")
}

// Binary is Literal for octets among which NUL may be (RFC 3516).
func (e *Encoder) Binary(n int64) *Encoder { return e.Raw("~").Literal(n) }

// String writes a string: in quotes if it can be, else as a literal. NUL, which neither may hold, is left out.
func (e *Encoder) String(s string) *Encoder {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if !e.quotable(s) {
		return e.Literal(int64(len(s))).Raw(s)
	}
	e.Raw(`"`)
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			return e.Raw(s).Raw(`"`)
		}
		e.Raw(s[:i]).Raw(`\`).Raw(s[i : i+1])
		s = s[i+1:]
	}
}

// quotable says whether a string may stand in quotes.
func (e *Encoder) quotable(s string) bool {
	if len(s) > maxQuoted {
		return false
	}
	ascii := true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || e.utf8 && utf8.ValidString(s)
}

// NString is String, and NIL for the empty one.
func (e *Encoder) NString(s string) *Encoder {
	if s == "" {
		return e.Raw("NIL")
	}
	return e.String(s)
}

// Mailbox writes a mailbox name.
func (e *Encoder) Mailbox(name string) *Encoder {
	switch {
	case name == "INBOX":
		return e.Raw(name)
	case e.utf8:
		return e.String(name)
	}
	return e.String(encodeUTF7(name))
}

// Flags writes flags in parentheses.
func (e *Encoder) Flags(flags []goimap.Flag) *Encoder {
	e.Raw("(")
	for i, f := range flags {
		if i > 0 {
			e.SP()
		}
		e.Raw(string(f))
	}
	return e.Raw(")")
}

// DateTime writes a moment in its own zone.
func (e *Encoder) DateTime(t time.Time) *Encoder {
	return e.Raw(`"`).Raw(t.Format("_2-Jan-2006 15:04:05 -0700")).Raw(`"`)
}

// Set writes a set of numbers, which is not empty.
func (e *Encoder) Set(set goimap.NumSet) *Encoder { return e.Raw(set.String()) }
