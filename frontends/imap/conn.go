package imap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"hongyan/frontends/listen"
)

const (
	recordSize = 16 << 10              // most plaintext of a TLS record: what is gathered before it is sent
	flushAfter = 10 * time.Millisecond // longest that output waits for more, while the server is at work
	inputSize  = 2 << 10               // of the input buffer; literals pass it by
)

// conn is a client's connection above TLS, as the library uses it: Read gives framed input (see guard.go), Write
// gathers output. Both keep deadlines of their own, below TLS (package listen), so those that the library sets
// are ignored.
//
// Output is sent when a record is full, when the server is about to wait for input, at once while it waits for
// input (IDLE), and flushAfter at the latest.
type conn struct {
	net.Conn // the TLS connection
	base     *listen.Conn
	limits   *Limits
	stats    *counters
	stopping func() bool
	login    time.Time // when a login must be done; zero once it is

	input input // only the reading goroutine touches it

	mu       sync.Mutex // guards what follows: both directions look at the dialog
	out      []byte
	timer    *time.Timer
	waiting  bool // a Read waits for the client
	held     bool // output is being gathered on purpose
	closed   bool
	greeting bool // the library's greeting is still to be swallowed: the client has had ours
	dialog   dialog
}

// dialog is where client and library are in a command, as seen from the bytes of both.
type dialog struct {
	tag, command string
	literal      *literal // announced, and neither accepted nor refused yet
	line         bool     // the next line answers a continuation request: it is no command
	bad          int      // BAD responses in a row
	distrust     bool     // too many logins failed
}

// literal is one that the client announced.
type literal struct {
	size     int64
	nonSync  bool
	accepted bool // the library asked for it
	replied  bool // the library wrote something else
	released bool // the library was given an empty line in its place
}

func newConn(t net.Conn, base *listen.Conn, s *Server, upgraded bool) *conn {
	c := &conn{
		Conn: t, base: base, limits: &s.cfg.Limits, stats: &s.stats, stopping: s.stopping.Load,
		login: time.Now().Add(s.cfg.Limits.LoginTimeout), greeting: upgraded,
	}
	c.input.br = bufio.NewReaderSize(inputReader{c}, inputSize)
	return c
}

// addr is the client's address.
func (c *conn) addr() netip.Addr { return c.base.Addr() }

// command is the name of the command under way, in upper case, with "UID " in front where it has that.
func (c *conn) command() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.command
}

// loggedIn lifts what holds before a login.
func (c *conn) loggedIn() error {
	c.login = time.Time{}
	return c.base.SetReadDeadline(time.Time{})
}

// The library's deadlines: see conn.

func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Write takes output of the library: one response, or a piece of a longer one.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	q := c.inspect(p)
	if err := c.gather(q); err != nil {
		return 0, err
	}
	return len(p), nil
}

// gather adds p to the output. The caller holds mu.
func (c *conn) gather(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if len(c.out)+len(p) > recordSize {
		if err := c.flush(); err != nil {
			return err
		}
		if len(p) >= recordSize {
			return c.send(p)
		}
	}
	first := len(c.out) == 0
	c.out = append(c.out, p...)
	switch {
	case c.waiting && !c.held:
		return c.flush()
	case first && c.timer == nil:
		c.timer = time.AfterFunc(flushAfter, c.flushLate)
	case first:
		c.timer.Reset(flushAfter)
	}
	return nil
}

// flush sends what was gathered. The caller holds mu.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	err := c.send(c.out)
	if cap(c.out) > 1<<10 && c.waiting {
		c.out = nil // an idle connection keeps no buffer
	} else {
		c.out = c.out[:0]
	}
	return err
}

// send writes to the client, now; a failure ends the connection, since part of p may have left. The caller holds mu.
func (c *conn) send(p []byte) error {
	if _, err := c.Conn.Write(p); err != nil {
		c.end()
		return err
	}
	return nil
}

// flushLate sends output that has waited long enough.
func (c *conn) flushLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && !c.held {
		_ = c.flush() // a failure ends the connection, which the next Read or Write reports
	}
}

// hold gathers output until release, so that several updates leave in one record although the server waits.
func (c *conn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

func (c *conn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	if c.closed {
		return net.ErrClosed
	}
	return c.flush()
}

// say adds a response of our own, whole lines, to the output.
func (c *conn) say(s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return c.gather([]byte(s))
}

// bye says why, and closes. It must not be called while a response is half written.
func (c *conn) bye(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.stats.byes.Add(1)
	// The client may be gone: then nobody misses the reason.
	_ = c.gather([]byte("* BYE " + text + "\r\n"))
	_ = c.flush()
	c.end()
}

// refuseInput is bye to a client that may still be sending: it is listened to for a moment, because a connection that
// is closed on unread input is reset, and the client would not see why.
func (c *conn) refuseInput(text string) {
	c.mu.Lock()
	if !c.closed {
		c.stats.byes.Add(1)
		if c.gather([]byte("* BYE "+text+"\r\n")) == nil && c.flush() == nil {
			linger(c.base)
		}
		c.end()
	}
	c.mu.Unlock()
}

const (
	lingerBytes = 256 << 10
	lingerTime  = 300 * time.Millisecond
)

// linger ends our direction of a connection and drops a little of what still comes in the other.
func linger(c *listen.Conn) {
	t, ok := c.Conn.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil || t.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return // the peer is gone
	}
	// Whatever ends this, the connection is closed next.
	_, _ = io.CopyN(io.Discard, t, lingerBytes)
}

// abort closes without a word, because a response that was begun cannot be finished.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = nil
	c.end()
}

// isClosed says whether the connection has ended, from whichever side.
func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close sends what is left and closes.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	err := c.flush()
	c.end()
	return err
}

// end closes. The caller holds mu.
func (c *conn) end() {
	if c.closed {
		return
	}
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	// Both ends are done with the connection: there is nothing left that a failure could hurt.
	_ = c.Conn.Close()
	_ = c.base.Close()
}

// What the library says that the dialog must know.
const (
	sayContinue = "+ "
	sayBug      = " NO [SERVERBUG] Internal server error\r\n"
)

// inspect looks at a response on its way out, follows the dialog, and may change or swallow it. A message's bytes
// cannot pass for a response here: while a literal of the client is pending the library writes none of them, and
// otherwise a written piece is either cut at the library's buffer or ends in ")\r\n". The caller holds mu.
func (c *conn) inspect(p []byte) []byte {
	if c.greeting {
		c.greeting = false
		return nil
	}
	d := &c.dialog
	if lit := d.literal; lit != nil && !lit.accepted {
		if !bytes.HasPrefix(p, []byte(sayContinue)) {
			lit.replied = true
		} else if lit.accepted = true; lit.nonSync {
			return nil // the client did not wait to be asked
		} else {
			return p
		}
	} else if bytes.HasPrefix(p, []byte(sayContinue)) && (d.command == "IDLE" || d.command == "AUTHENTICATE") {
		d.line = true
		if string(p) == "+ =\r\n" { // how the library writes an empty challenge; "=" is for clients (RFC 4959)
			return []byte("+ \r\n")
		}
	}
	rest, ok := bytes.CutPrefix(p, []byte(d.tag))
	if !ok || d.tag == "" {
		return p
	}
	switch {
	case bytes.HasPrefix(rest, []byte(" OK ")):
		d.bad = 0
	case bytes.HasPrefix(rest, []byte(" BAD ")):
		d.bad++
		c.stats.bad.Add(1)
	case string(rest) == sayBug:
		// Our session never causes this answer: the library's parser does, for errors that it did not name.
		d.bad++
		c.stats.bad.Add(1)
		return []byte(d.tag + " BAD [CLIENTBUG] Syntax error\r\n")
	}
	return p
}

// inputReader is what the input buffer draws on: before it waits for the client, output is sent.
type inputReader struct{ c *conn }

func (r inputReader) Read(p []byte) (int, error) {
	c := r.c
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.waiting = true
	err := c.flush()
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.waiting = false
	c.mu.Unlock()
	return n, err
}

// timedOut says whether err is a deadline's.
func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
