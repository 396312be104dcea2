package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"hongyan/frontends/imap/wire"
	"hongyan/frontends/listen"
)

// strangerLimits are what a client may send of one command before a login: the longest is ID, with 30 fields of 1 KiB.
func strangerLimits() wire.Limits {
	return wire.Limits{Line: 36 << 10, Literals: 4 << 10, Count: 8, Skip: 4 << 10}
}

// userLimits are those of a client that is logged in. What would be the largest message is skipped where it is refused: it
// costs no more than taking it in.
func userLimits(maxMessage int64) wire.Limits {
	return wire.Limits{Line: 64 << 10, Literals: 64 << 10, Count: 128, Skip: max(maxMessage, 64<<10)}
}

// conn is a client's connection: what is read from it, and what is written to it. Deadlines are kept below it (package
// listen): an idle client, a slow sender and a slow reader each have a limit.
//
// Output leaves when a record is full and whenever input is waited for. So several commands that came in one packet are
// answered in one.
type conn struct {
	base    *listen.Conn
	limits  *Limits
	stats   *counters
	secured bool      // TLS is on
	login   time.Time // when a login must be done; zero once it is

	net    net.Conn  // base, or TLS above it
	in     io.Reader // net, or what was compressed in it
	dec    *wire.Decoder
	out    *wire.Encoder
	idling bool // in IDLE, where others write; set by the reading goroutine while it holds the session's mutex
	closed atomic.Bool
}

func newConn(base *listen.Conn, s *Server) *conn {
	c := &conn{base: base, limits: &s.cfg.Limits, stats: &s.stats, login: time.Now().Add(s.cfg.Limits.LoginTimeout), net: base, in: base}
	c.out = wire.NewEncoder(base)
	c.dec = wire.NewDecoder(inputReader{c}, strangerLimits(), c.proceed)
	return c
}

// inputReader is what the decoder reads from: before it waits for the client, output is sent.
type inputReader struct{ c *conn }

func (r inputReader) Read(p []byte) (int, error) {
	if !r.c.idling {
		if err := r.c.out.Flush(); err != nil {
			return 0, err
		}
	}
	return r.c.in.Read(p)
}

// proceed asks for a literal.
func (c *conn) proceed() error { return c.out.Line("+ Ready").Err() }

// secure starts TLS.
func (c *conn) secure(cfg *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.limits.LoginTimeout)
	defer cancel()
	t := tls.Server(c.base, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.stats.tlsFailures.Add(1)
		return fmt.Errorf("TLS handshake with %v: %w", c.base.Addr(), err)
	}
	c.net, c.in, c.secured = t, t, true
	c.out.SetWriter(t)
	return nil
}

// addr is the client's address.
func (c *conn) addr() netip.Addr { return c.base.Addr() }

// loggedIn lifts what holds before a login.
func (c *conn) loggedIn(maxMessage int64) error {
	c.login = time.Time{}
	c.dec.SetLimits(userLimits(maxMessage))
	return c.base.SetReadDeadline(time.Time{})
}

// rest waits for a client that owes nothing: no buffer is kept meanwhile, and a shutdown need not wait. From the first octet of
// its next line on it is expected to go on.
func (c *conn) rest() error {
	if c.dec.Buffered() == 0 {
		c.dec.Release()
		c.base.SetBusy(false)
		c.base.SetIdle(c.patience())
		if err := c.dec.Await(); err != nil {
			return err
		}
	}
	c.base.SetBusy(true)
	c.base.SetIdle(c.limits.ProgressTimeout)
	return nil
}

// patience is how long a client may be silent between commands.
func (c *conn) patience() time.Duration {
	if !c.login.IsZero() {
		return time.Until(c.login)
	}
	return c.limits.IdleTimeout
}

// bye says why, and closes. It must not be called while a response is half written.
func (c *conn) bye(text string) {
	if c.farewell(text) {
		c.end()
	}
}

// refuseInput is bye to a client that may still be sending: it is listened to for a moment, because a connection that
// is closed on unread input is reset, and the client would not see why.
func (c *conn) refuseInput(text string) {
	if c.farewell(text) {
		linger(c.base)
		c.end()
	}
}

// farewell says BYE, and whether it went out to somebody.
func (c *conn) farewell(text string) bool {
	if c.closed.Load() {
		return false
	}
	c.stats.byes.Add(1)
	if c.out.Line("* BYE "+text).Flush() != nil {
		c.end()
		return false
	}
	return true
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
	c.out.Fail(net.ErrClosed)
	c.end()
}

// isClosed says whether the connection has ended, from whichever side.
func (c *conn) isClosed() bool { return c.closed.Load() }

// end closes.
func (c *conn) end() {
	if c.closed.Swap(true) {
		return
	}
	// Both ends are done with the connection: there is nothing left that a failure could hurt.
	_ = c.net.Close()
	_ = c.base.Close()
}

// inputFailed says goodbye where the client can still hear it.
func (c *conn) inputFailed(err error, stopping bool) {
	switch {
	case errors.Is(err, wire.ErrTooLong):
		c.refuseInput("[TOOBIG] Command or literal too long")
	case errors.Is(err, wire.ErrOctet):
		c.refuseInput("[CLIENTBUG] Invalid octet in a command")
	case !timedOut(err):
		c.end()
	case stopping:
		c.bye("[UNAVAILABLE] Server is shutting down")
	case !c.login.IsZero():
		c.bye("Login took too long")
	default:
		c.bye("Idle for too long")
	}
}

// timedOut says whether err is a deadline's.
func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
