package imap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clock"
	"hongyan/frontends/listen"
)

// Config is what a Server needs. Limits that are zero take their defaults.
type Config struct {
	Client   *client.Client
	Clock    *clock.Clock // for internal dates; nil is the system's
	TLS      *tls.Config  // for STARTTLS and the implicit TLS port
	Log      *slog.Logger
	Hostname string         // for the greeting
	Allow    []netip.Prefix // networks that may connect; empty: all

	// Auth checks a password for a client at remote, and counts failures as it sees fit. The errors of cluster/client
	// are told apart; any other means that this client may not log in for the time being, and is shown to it.
	// Nil: the cluster's own check.
	Auth func(ctx context.Context, remote netip.Addr, user, password string) (client.Account, error)

	Limits Limits
	Memory *Memory // that it shares with other servers; nil: one of its own
}

// Limits bound what clients can take of a server.
type Limits struct {
	MaxConns        int           // open connections of a listener; default 20,000
	MaxPerAddr      int           // open connections of one address; default 512
	MaxPerAccount   int           // logged-in connections of one account; default 100
	MaxBad          int           // BAD responses in a row before the connection is closed; default 20
	MaxLogins       int           // failed logins of a connection; default 5
	LoginTimeout    time.Duration // from the connection to the login; default 1 min
	IdleTimeout     time.Duration // between commands; default 30 min, which RFC 9051 section 5.4 asks for
	ProgressTimeout time.Duration // inside a command, without a byte passing; default 1 min
	CommandTimeout  time.Duration // for one question to the cluster; default 30 s
	SearchTimeout   time.Duration // for a SEARCH in messages' bytes; default 5 min

	ProgressInterval time.Duration // after which a client hears how far its command is, each time; default 10 s, as RFC 9585 section 4 has it
}

func (l *Limits) defaults() {
	setInt(&l.MaxConns, 20_000)
	setInt(&l.MaxPerAddr, 512)
	setInt(&l.MaxPerAccount, 100)
	setInt(&l.MaxBad, 20)
	setInt(&l.MaxLogins, 5)
	setDuration(&l.LoginTimeout, time.Minute)
	setDuration(&l.IdleTimeout, 30*time.Minute)
	setDuration(&l.ProgressTimeout, time.Minute)
	setDuration(&l.CommandTimeout, 30*time.Second)
	setDuration(&l.SearchTimeout, 5*time.Minute)
	setDuration(&l.ProgressInterval, 10*time.Second)
}

func setInt(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

func setDuration(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

// Server serves IMAP on any number of listeners.
type Server struct {
	cfg      Config
	mail     mail
	log      *slog.Logger
	stats    counters
	commands map[string]handler
	deflated *sync.Pool    // buffers of compressed output
	asking   chan struct{} // sessions in IDLE that ask the cluster, at once
	waiting  atomic.Int64  // those that wait for their turn to
	sorting  atomic.Int64  // bytes that SORT and THREAD hold
	memory   *Memory
	recents  *recents
	stopping atomic.Bool

	mu        sync.Mutex // guards what follows
	listeners []*listen.Listener
	accounts  map[uint64]int // logged-in connections
}

// New returns a server that does not listen yet.
func New(cfg Config) *Server { return newServer(cfg, door{cfg.Client}) }

func newServer(cfg Config, m mail) *Server {
	cfg.Limits.defaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Auth == nil {
		cfg.Auth = func(ctx context.Context, _ netip.Addr, user, password string) (client.Account, error) {
			return m.Authenticate(ctx, user, password)
		}
	}
	if cfg.Memory == nil {
		cfg.Memory = NewMemory()
	}
	if cfg.TLS != nil {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.DynamicRecordSizingDisabled = true // output is gathered: a record of it should be one write
	}
	s := &Server{cfg: cfg, mail: m, log: cfg.Log, commands: commands(), accounts: make(map[uint64]int),
		memory:   cfg.Memory,
		deflated: &sync.Pool{New: func() any { return new(bytes.Buffer) }}, asking: make(chan struct{}, maxAsking)}
	s.recents = newRecents(m, func(err error) {
		if err != nil {
			s.log.Warn("IMAP server could not note of which messages sessions were told: they are \\Recent once more if that goes on", "error", err)
		}
	})
	return s
}

// Serve accepts connections on l until Shutdown: with TLS from the first byte, or with STARTTLS.
func (s *Server) Serve(l net.Listener, implicitTLS bool) error {
	cfg := listen.Config{
		Name: "imap", MaxConns: s.cfg.Limits.MaxConns, MaxPerAddr: s.cfg.Limits.MaxPerAddr, Allow: s.cfg.Allow,
		Busy: []byte("* BYE [UNAVAILABLE] Too many connections\r\n"),
		Idle: s.cfg.Limits.LoginTimeout, MinRate: 512, WriteIdle: s.cfg.Limits.ProgressTimeout, Log: s.log,
	}
	if implicitTLS {
		cfg.Name, cfg.Busy = "imaps", nil
	}
	guarded := listen.Wrap(l, cfg)
	s.mu.Lock()
	s.listeners = append(s.listeners, guarded)
	s.mu.Unlock()
	if s.stopping.Load() {
		return guarded.Close()
	}
	for {
		raw, err := guarded.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s %v: %w", cfg.Name, l.Addr(), err)
		}
		go s.converse(raw.(*listen.Conn), implicitTLS)
	}
}

// converse leads the conversation with a client, from its first byte to its last.
func (s *Server) converse(base *listen.Conn, implicitTLS bool) {
	s.stats.connections.Add(1)
	c := newConn(base, s)
	sess := newSession(s, c)
	defer sess.close()
	defer func() { // a fault of ours ends this connection, not the process
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
			sess.log.Error("IMAP session panicked", "panic", p, "stack", string(debug.Stack()))
			c.abort()
		}
	}()
	err := base.SetReadDeadline(c.login)
	if err == nil && implicitTLS {
		err = c.secure(s.cfg.TLS)
	}
	if err == nil {
		err = sess.serve()
	}
	if err != nil && !errors.Is(err, errGoodbye) {
		sess.log.Debug("IMAP connection ended", "error", err)
		c.inputFailed(err, s.stopping.Load())
	}
}

// Shutdown stops accepting, lets commands under way finish, says BYE to every client, and returns when all are gone
// or, with an error, when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(listeners))
	for i, l := range listeners {
		wg.Go(func() { errs[i] = l.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(append(errs, s.recents.note(ctx))...)
}

// enter counts a connection of an account in, unless it has too many.
func (s *Server) enter(account uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account] >= s.cfg.Limits.MaxPerAccount {
		return false
	}
	s.accounts[account]++
	return true
}

func (s *Server) leave(account uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account]--; s.accounts[account] <= 0 {
		delete(s.accounts, account)
	}
}
