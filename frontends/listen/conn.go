package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// ErrOverBudget ends a connection that sent more than its phase allows (see Limit). Like ErrIdle it is final: what could still be read is the rest of something that
// was given up, and must not be taken for the beginning of something else, whatever the user of the connection allows then.
var ErrOverBudget = errors.New("more input than this phase allows")

// ErrIdle ends a connection whose patience has run out, or which a Drain asks to end. It is a timeout like
// os.ErrDeadlineExceeded, which remains the sign of a deadline that the user of the connection set.
var ErrIdle net.Error = idleError{}

// ErrClosing ends a connection that a Drain asks to end, instead of ErrIdle, when its user says goodbye itself (SaysGoodbye). It is a net.ErrClosed, which
// protocol engines end at without a word of their own.
var ErrClosing = fmt.Errorf("the server stops: %w", net.ErrClosed)

type idleError struct{}

func (idleError) Error() string   { return "idle for too long" }
func (idleError) Timeout() bool   { return true }
func (idleError) Temporary() bool { return true }

// writePiece is the output that must be taken within one WriteIdle: 64 KiB a minute is the slowest reader served.
const writePiece = 64 << 10

// Conn is an accepted connection whose waits are bounded.
//
// Reads draw on a stock of patience: time spent blocked in Read is taken from it, each byte that arrives adds 1/MinRate
// seconds, never above Idle; Renew fills it. A peer that sends a byte now and then therefore
// runs dry, while time that the server itself needs costs nothing. Writes go out in pieces with a deadline each.
type Conn struct {
	net.Conn
	l    *Listener
	addr netip.Addr
	once sync.Once

	mu        sync.Mutex // guards what follows, and orders all calls that set the read deadline
	idle      time.Duration
	patience  time.Duration
	budget    int64     // bytes that may still be read; negative: unbounded
	userRead  time.Time // deadlines that the user of the connection asked for
	userWrite time.Time
	readBy    time.Time // deadline of the Read under way
	ended     error     // ErrOverBudget, ErrIdle or ErrClosing, once a Read has ended in it; nil before
	instead   error     // what the user hears for the first two; nil: these
	goodbye   bool      // the user says it
	busy      bool
	draining  bool
}

func newConn(raw net.Conn, l *Listener, addr netip.Addr) *Conn {
	return &Conn{Conn: raw, l: l, addr: addr, idle: l.cfg.Idle, patience: l.cfg.Idle, budget: l.cfg.Budget}
}

// From finds the guarded connection in c, which may be wrapped in TLS any number of times.
func From(c net.Conn) (*Conn, bool) {
	for {
		switch v := c.(type) {
		case *Conn:
			return v, true
		case *tls.Conn:
			c = v.NetConn()
		default:
			return nil, false
		}
	}
}

// Addr is the peer's address, without an IPv4-in-IPv6 mapping; invalid when it is no TCP connection.
func (c *Conn) Addr() netip.Addr { return c.addr }

// Renew gives the peer all of its waiting time again.
func (c *Conn) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = c.idle
}

// SetIdle changes the longest wait for input, and renews.
func (c *Conn) SetIdle(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.patience = d, d
}

// Limit allows n more bytes of input (with TLS: of ciphertext) until the next call; who reads on meets ErrOverBudget. Negative means no bound.
// Before the first call it is Config.Budget.
func (c *Conn) Limit(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = n
}

// AtMost takes back what an earlier Limit allowed beyond n more bytes.
func (c *Conn) AtMost(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget < 0 || c.budget > n {
		c.budget = n
	}
}

// SetBusy marks work under way, which a Drain leaves alone.
func (c *Conn) SetBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
	if c.draining {
		_ = c.setReadDeadline() // fails only when closed, which is what draining wants
	}
}

// EndsWith has Read say err for ErrOverBudget and ErrIdle, to who reads through others that tell only errors of their own apart. With nil it says these again.
func (c *Conn) EndsWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead = err
}

// SaysGoodbye has a Drain end reads with ErrClosing.
func (c *Conn) SaysGoodbye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goodbye = true
}

// Closing says whether a Read has ended with ErrClosing.
func (c *Conn) Closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended == ErrClosing
}

// drain makes reads time out, at once or when the work under way has ended.
func (c *Conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	_ = c.setReadDeadline() // fails only when closed already
}

// Read reads within the connection's patience and budget.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.budget == 0 && c.ended == nil {
		c.ended = ErrOverBudget
	}
	if c.ended != nil {
		defer c.mu.Unlock()
		return 0, c.end()
	}
	if c.budget > 0 && int64(len(p)) > c.budget {
		p = p[:c.budget]
	}
	start := time.Now()
	c.readBy = start.Add(c.patience)
	err := c.setReadDeadline()
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, c.account(n, time.Since(start), err)
}

// account books a Read of n bytes that took d, and gives the error that it ends in: ErrIdle where no more waiting is granted.
func (c *Conn) account(n int, d time.Duration, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget > 0 {
		c.budget = max(c.budget-int64(n), 0)
	}
	if rate := c.l.cfg.MinRate; rate > 0 {
		earned := time.Duration(n) * time.Second / time.Duration(rate)
		c.patience = min(c.patience-d+earned, c.idle)
	} else if n > 0 {
		c.patience = c.idle
	} else {
		c.patience -= d
	}
	spent := c.patience <= 0 || (c.draining && !c.busy)
	if n == 0 && spent && errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended = ErrIdle
		if c.goodbye && c.patience > 0 {
			c.ended = ErrClosing
		}
		err = c.end()
	}
	return err
}

// end is what Read says of an ended connection. The caller holds mu.
func (c *Conn) end() error {
	if c.instead != nil && c.ended != ErrClosing {
		return c.instead
	}
	return c.ended
}

// setReadDeadline sets the earliest of the deadlines that hold. The caller holds mu.
func (c *Conn) setReadDeadline() error {
	by := earlier(c.readBy, c.userRead)
	if c.draining && !c.busy {
		by = time.Unix(1, 0)
	}
	return c.Conn.SetReadDeadline(by)
}

// Write writes in pieces, each of which the peer must take in time.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for {
		piece := p[done:min(len(p), done+writePiece)]
		c.mu.Lock()
		err := c.Conn.SetWriteDeadline(earlier(time.Now().Add(c.l.cfg.WriteIdle), c.userWrite))
		c.mu.Unlock()
		if err != nil {
			return done, err
		}
		n, err := c.Conn.Write(piece)
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// SetDeadline sets both deadlines of the user; the connection's own go on to hold.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds reads, also one that is under way, more tightly than the connection does itself.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.userRead = t
	return c.setReadDeadline()
}

// SetWriteDeadline bounds writes more tightly than the connection does itself.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.userWrite = t
	return c.Conn.SetWriteDeadline(earlier(time.Now().Add(c.l.cfg.WriteIdle), t))
}

// Close closes the connection and counts it out, once.
func (c *Conn) Close() error {
	err := os.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.l.forget(c)
	})
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// earlier is the earlier of two deadlines, of which a zero one means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
