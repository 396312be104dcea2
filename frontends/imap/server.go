package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

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
	cfg   Config
	mail  mail
	log   *slog.Logger
	stats counters

	inner    *imapserver.Server
	handoff  *handoff // gives the library connections that are past TLS
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
	s := &Server{cfg: cfg, mail: m, log: cfg.Log, accounts: make(map[uint64]int),
		handoff: &handoff{conns: make(chan net.Conn), done: make(chan struct{})}}
	s.inner = imapserver.New(&imapserver.Options{
		NewSession:   s.newSession,
		Caps:         capabilities(),
		Logger:       libraryLog{s},
		InsecureAuth: true, // it only sees connections that have TLS already, below its sight
	})
	go s.serveInner()
	return s
}

// capabilities are those that need the session's support; the library adds those that do not.
func capabilities() goimap.CapSet {
	set := make(goimap.CapSet)
	for _, c := range []goimap.Cap{
		goimap.CapIMAP4rev1, goimap.CapIMAP4rev2, goimap.CapNamespace, goimap.CapUIDPlus, goimap.CapESearch,
		goimap.CapSearchRes, goimap.CapListExtended, goimap.CapListStatus, goimap.CapMove, goimap.CapStatusSize,
		goimap.CapBinary, goimap.CapChildren, goimap.CapSpecialUse, goimap.CapCreateSpecialUse,
	} {
		set[c] = struct{}{}
	}
	return set
}

// serveInner runs the library on connections that are past TLS, until Shutdown.
func (s *Server) serveInner() {
	if err := s.inner.Serve(s.handoff); err != nil {
		s.log.Error("IMAP server stopped", "error", err)
	}
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
		go s.welcome(raw.(*listen.Conn), implicitTLS)
	}
}

// welcome brings a new connection to TLS and hands it to the library.
func (s *Server) welcome(base *listen.Conn, implicitTLS bool) {
	s.stats.connections.Add(1)
	defer func() { // what a stranger sends before the library takes over must not end the process either
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
			s.log.Error("IMAP connection panicked", "remote", base.Addr(), "panic", p, "stack", string(debug.Stack()))
			_ = base.Close() // nothing is left to say on it
		}
	}()
	c, err := s.secure(base, implicitTLS)
	if err == nil {
		err = s.handoff.give(c)
	}
	if err == nil {
		return
	}
	if !errors.Is(err, errGoodbye) {
		s.log.Debug("connection ended before a session", "remote", base.Addr(), "error", err)
	}
	// The connection carries nothing that closing it could lose.
	_ = base.Close()
}

func (s *Server) secure(base *listen.Conn, implicitTLS bool) (*conn, error) {
	if err := base.SetReadDeadline(time.Now().Add(s.cfg.Limits.LoginTimeout)); err != nil {
		return nil, err
	}
	if !implicitTLS {
		if err := s.clearText(base); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Limits.LoginTimeout)
	defer cancel()
	t := tls.Server(base, s.cfg.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		s.stats.tlsFailures.Add(1)
		return nil, fmt.Errorf("TLS handshake with %v: %w", base.Addr(), err)
	}
	return newConn(t, base, s, !implicitTLS), nil
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
	return errors.Join(append(errs, s.handoff.Close())...)
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

// handoff is a net.Listener whose connections come from give.
type handoff struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (h *handoff) give(c net.Conn) error {
	select {
	case h.conns <- c:
		return nil
	case <-h.done:
		return net.ErrClosed
	}
}

// Accept is what the library's server calls.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr names no address: the real listeners have those.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "imap", Net: "handoff"} }

// libraryLog brings the library's messages into our log. All but panics tell of clients that went away.
type libraryLog struct{ s *Server }

func (l libraryLog) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(text, "panic") {
		l.s.stats.panics.Add(1)
		l.s.log.Error("IMAP session panicked", "detail", text)
		return
	}
	l.s.log.Debug("IMAP library", "detail", text)
}
