// Package listen guards what strangers can reach first: a net.Listener that bounds connections
// overall and for each address, lets only chosen networks in, and hands out connections that
// cannot be held open without progress.
//
// It sits below TLS and knows no protocol. A frontend wraps its listener, and tells a connection what the
// protocol knows: Renew when a command was completed, SetIdle when a login grants more patience,
// Limit for the bytes of the next phase, SetBusy around work that a shutdown should wait for. From finds the
// connection again under a *tls.Conn.
//
// Invariants: a connection is counted from Accept until its first Close, exactly once; the counts never
// pass the limits; memory is one table entry per address that is connected at the moment. Nothing is kept on disk.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Config says what a Listener lets in and how patient its connections are. Zero values take the defaults.
type Config struct {
	Name       string         // protocol, for the log
	MaxConns   int            // open connections overall; default 4096
	MaxPerAddr int            // open connections of one address, loopback excepted; default 256
	Allow      []netip.Prefix // networks that may connect; empty: all
	Busy       []byte         // said, in the protocol's words, to a connection over a limit; nil under TLS
	Idle       time.Duration  // longest time a connection waits for input without progress; default 5 min
	MinRate    int            // input bytes that buy a second of waiting; 0: any byte restores all of Idle
	Budget     int64          // input bytes before the first Limit; default: no bound
	WriteIdle  time.Duration  // longest time for the peer to take a piece of output; default 1 min
	Gone       time.Duration  // after which a silent peer whose machine no longer answers is dropped; default 4 min
	Log        *slog.Logger
}

const (
	defaultMaxConns   = 4096
	defaultMaxPerAddr = 256
	defaultIdle       = 5 * time.Minute
	defaultWriteIdle  = time.Minute

	defaultGone = 4 * time.Minute

	keepAliveCount = 4 // questions in the second half of Gone

	busyTimeout    = 200 * time.Millisecond // for the refusal's text: it fits any fresh socket's buffer
	maxAcceptPause = time.Second
	refusalLogGap  = time.Second
)

// Listener bounds and tracks the connections of one net.Listener.
type Listener struct {
	net.Listener
	cfg    Config
	closed chan struct{}
	once   sync.Once

	mu         sync.Mutex // guards what follows
	conns      map[*Conn]struct{}
	byAddr     map[netip.Prefix]int
	draining   bool
	empty      chan struct{} // closed when draining and the last connection is gone
	refused    int           // since lastLog
	lastLog    time.Time     // of a refusal
	accepted   uint64
	allRefused uint64
}

// Wrap guards l as cfg says.
func Wrap(l net.Listener, cfg Config) *Listener {
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.MaxPerAddr <= 0 {
		cfg.MaxPerAddr = defaultMaxPerAddr
	}
	if cfg.Idle <= 0 {
		cfg.Idle = defaultIdle
	}
	if cfg.WriteIdle <= 0 {
		cfg.WriteIdle = defaultWriteIdle
	}
	if cfg.Budget <= 0 {
		cfg.Budget = -1
	}
	if cfg.Gone <= 0 {
		cfg.Gone = defaultGone
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Listener{
		Listener: l,
		cfg:      cfg,
		closed:   make(chan struct{}),
		conns:    make(map[*Conn]struct{}),
		byAddr:   make(map[netip.Prefix]int),
		empty:    make(chan struct{}),
	}
}

// Accept returns the next connection that is within the limits; its type is *Conn. Passing
// shortages (no file descriptors, a peer that left again) are waited out here.
func (l *Listener) Accept() (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !passing(err) {
				return nil, err
			}
			l.cfg.Log.Warn("accept failed, waiting", "protocol", l.cfg.Name, "pause", pause, "error", err)
			select {
			case <-l.closed:
				return nil, net.ErrClosed
			case <-time.After(pause):
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = 5 * time.Millisecond
		if c := l.admit(raw); c != nil {
			return c, nil
		}
	}
}

// passing tells errors of one connection, or of a full table, from those of the listener itself.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit counts a new connection in, or refuses it and returns nil.
func (l *Listener) admit(raw net.Conn) *Conn {
	addr := remote(raw)
	if !l.allowed(addr) {
		l.refuse(raw, addr, "network not allowed", nil)
		return nil
	}
	c := newConn(raw, l, addr)
	key := group(addr)
	l.mu.Lock()
	var reason string
	switch {
	case l.draining:
		reason = "shutting down"
	case len(l.conns) >= l.cfg.MaxConns:
		reason = "too many connections"
	case key.IsValid() && l.byAddr[key] >= l.cfg.MaxPerAddr:
		reason = "too many connections from this address"
	default:
		l.conns[c] = struct{}{}
		l.byAddr[key]++
		l.accepted++
	}
	l.mu.Unlock()
	if reason != "" {
		l.refuse(raw, addr, reason, l.cfg.Busy)
		return nil
	}
	if t, ok := raw.(*net.TCPConn); ok {
		err := t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true,
			Idle: l.cfg.Gone / 2, Interval: l.cfg.Gone / 2 / keepAliveCount, Count: keepAliveCount})
		if err != nil {
			l.cfg.Log.Debug("keepalive not set", "protocol", l.cfg.Name, "remote", addr, "error", err)
		}
	}
	return c
}

func (l *Listener) allowed(a netip.Addr) bool {
	if len(l.cfg.Allow) == 0 {
		return true
	}
	for _, p := range l.cfg.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// refuse closes a connection that was never admitted. A flood of refusals makes one log line a second.
func (l *Listener) refuse(raw net.Conn, addr netip.Addr, reason string, say []byte) {
	now := time.Now()
	l.mu.Lock()
	l.allRefused++
	l.refused++
	n := l.refused
	quiet := now.Sub(l.lastLog) < refusalLogGap
	if !quiet {
		l.lastLog, l.refused = now, 0
	}
	l.mu.Unlock()
	if len(say) > 0 {
		// The peer may be gone already; its refusal is then of no interest.
		if raw.SetWriteDeadline(time.Now().Add(busyTimeout)) == nil {
			_, _ = raw.Write(say)
		}
	}
	_ = raw.Close() // never used
	if !quiet {
		l.cfg.Log.Warn("connection refused", "protocol", l.cfg.Name, "remote", addr, "reason", reason, "refusals", n)
	}
}

// forget counts a closed connection out.
func (l *Listener) forget(c *Conn) {
	key := group(c.addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if l.byAddr[key]--; l.byAddr[key] <= 0 {
		delete(l.byAddr, key)
	}
	if l.draining && len(l.conns) == 0 {
		close(l.empty)
	}
}

// Open is the number of connections at the moment.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Close stops accepting. Open connections go on.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s listener %v: %w", l.cfg.Name, l.Addr(), err)
	}
	return nil
}

// Drain stops accepting, makes the next read of every connection that is not busy time out, so that its
// protocol says goodbye, and returns when all connections are closed. When ctx ends first it closes
// those that are left and returns ctx's error.
func (l *Listener) Drain(ctx context.Context) error {
	err := l.Close()
	l.mu.Lock()
	if !l.draining {
		l.draining = true
		if len(l.conns) == 0 {
			close(l.empty)
		}
	}
	for c := range l.conns {
		c.drain()
	}
	l.mu.Unlock()
	select {
	case <-l.empty:
		return err
	case <-ctx.Done():
		l.abort()
		return fmt.Errorf("drain %s connections: %w", l.cfg.Name, ctx.Err())
	}
}

// abort closes what is left.
func (l *Listener) abort() {
	l.mu.Lock()
	left := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		left = append(left, c)
	}
	l.mu.Unlock()
	for _, c := range left {
		if err := c.Close(); err != nil {
			l.cfg.Log.Debug("close failed", "protocol", l.cfg.Name, "remote", c.addr, "error", err)
		}
	}
}

// remote is a connection's peer address, invalid for other kinds of sockets.
func remote(c net.Conn) netip.Addr {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return t.AddrPort().Addr().Unmap()
}

// group is what the limit per address counts: an IPv4 address, or a /64 of IPv6, which one customer holds whole.
// Loopback has none: behind it are local proxies and tools, which speak for everybody.
func group(a netip.Addr) netip.Prefix {
	if a.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
