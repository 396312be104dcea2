// Package pop3 serves an account's INBOX by POP3 (RFC 1939) with CAPA and PIPELINING (RFC 2449), STLS (RFC 2595), response
// codes (RFC 2449, RFC 3206), SASL PLAIN (RFC 5034) and UTF8 (RFC 6856). Passwords are taken only under TLS. docs/pop3.md lists what clients may use.
//
// A session shows the INBOX as it was at login: every message that was acknowledged by then, under numbers that do
// not move. DELE only marks; QUIT removes what was marked, and nothing else does.
//
// A session locks the maildrop (RFC 1939 section 4) against other POP3 sessions in the whole cluster: [IN-USE]. The lock is a lease (package
// cluster/lease): that of a node that died ends within seconds. A session that cannot renew it, since its node hung or was cut off, takes it again before its next
// command, or ends without removing anything if another one has it by then. IMAP clients are not locked out, and a session may be stopped for any time
// behind its look at the lease. So nothing rests on the lock. What keeps sessions apart is UIDs: a session names messages by UID, UIDs are never used again,
// and before it removes any it makes sure that the mailbox is the one they were of; so it can neither show nor remove one message in another's place. What
// others remove meanwhile keeps its number here; RETR, TOP and LIST of it answer -ERR, a LIST of all
// leaves it out, and removing it again is no error.
//
// Memory is bounded whatever the mailbox holds: of a maildrop a session keeps two sets of UIDs, sizes and bodies stream.
// A crash, or a connection that is lost before QUIT, changes nothing (RFC 1939 section 6).
package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/auth"
	"hongyan/frontends/listen"
)

// Config is what a Server needs.
type Config struct {
	Client   *client.Client
	Auth     *auth.Authenticator
	TLS      *tls.Config // for STLS and POP3S
	Hostname string
	Log      *slog.Logger
	Limits   Limits
	Allow    []netip.Prefix // networks that may connect; empty: all
}

// Limits bound connections; a zero takes the default.
type Limits struct {
	MaxConns   int // open connections of a listener; default 4096
	MaxPerAddr int // of one address; default 64

	LockWait time.Duration // for the session before of the same account to end; default 3 s
}

const (
	defaultMaxConns   = 4096
	defaultMaxPerAddr = 64
	defaultLockWait   = 3 * time.Second
	minRate           = 64               // input bytes that buy a second of waiting
	gone              = 48 * time.Second // after which a client whose machine has died keeps nobody out any more
)

// store is what this package needs of the cluster.
type store interface {
	Select(ctx context.Context, a client.Account, name string) (client.Selected, error)
	Status(ctx context.Context, a client.Account, name string) (client.Mailbox, error)
	Messages(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, want client.Want, fn func(m *client.Message) error) error
	Expunge(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error)
	Open(ctx context.Context, a client.Account, mailbox, uid uint32, ref client.Ref, off, n uint64) (io.ReadCloser, error)
	Exclusive(ctx context.Context, a client.Account, patience time.Duration) (lock, error)
}

// lock is a session's hold on an account.
type lock interface {
	Hold(ctx context.Context) error
	Release()
}

// door is the cluster's.
type door struct{ *client.Client }

func (d door) Exclusive(ctx context.Context, a client.Account, patience time.Duration) (lock, error) {
	l, err := d.Client.Exclusive(ctx, a, patience)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Server serves any number of listeners.
type Server struct {
	cfg   Config
	store store
	log   *slog.Logger

	metrics *metrics

	life context.Context // ends after a Shutdown
	end  context.CancelFunc

	mu        sync.Mutex // guards what follows
	listeners []*listen.Listener
	down      bool
	sessions  sync.WaitGroup
}

// New returns a Server of cfg.Client's accounts.
func New(cfg Config) *Server { return newServer(cfg, door{cfg.Client}) }

func newServer(cfg Config, st store) *Server {
	if cfg.Limits.MaxConns <= 0 {
		cfg.Limits.MaxConns = defaultMaxConns
	}
	if cfg.Limits.MaxPerAddr <= 0 {
		cfg.Limits.MaxPerAddr = defaultMaxPerAddr
	}
	if cfg.Limits.LockWait <= 0 {
		cfg.Limits.LockWait = defaultLockWait
	}
	s := &Server{cfg: cfg, store: st, log: cfg.Log}
	s.metrics = newMetrics(s)
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections on l until Shutdown or an error of l; it returns nil after Shutdown. With secure, TLS
// comes first (POP3S, RFC 8314 section 3.3).
func (s *Server) Serve(l net.Listener, secure bool) error {
	cfg := listen.Config{
		Name: "pop3", Allow: s.cfg.Allow, Log: s.log, Idle: loginIdle, MinRate: minRate, Gone: gone,
		MaxConns: s.cfg.Limits.MaxConns, MaxPerAddr: s.cfg.Limits.MaxPerAddr,
	}
	if secure {
		cfg.Name = "pop3s"
	} else {
		cfg.Busy = []byte("-ERR [SYS/TEMP] too many connections, try later\r\n")
	}
	guarded := listen.Wrap(l, cfg)
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return guarded.Close()
	}
	s.listeners = append(s.listeners, guarded)
	s.mu.Unlock()
	for {
		c, err := guarded.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve %s on %v: %w", cfg.Name, l.Addr(), err)
		}
		s.sessions.Go(func() { s.serve(c.(*listen.Conn), secure) })
	}
}

// serve runs one connection's session.
func (s *Server) serve(guard *listen.Conn, secure bool) {
	se := newSession(s, guard)
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			s.metrics.panics.Inc()
			s.log.Error("session panicked", "protocol", "pop3", "remote", guard.Addr(), "panic", r)
		}
		if se.drop != nil {
			s.metrics.sessions.Dec()
			se.lock.Release()
		}
		// What could still be said was flushed; errors of closing tell nothing new.
		_ = se.conn.Close()
	}()
	var err error
	if secure {
		err = se.handshake()
	}
	if err == nil {
		err = se.run()
	}
	if se.drop != nil {
		s.log.Info("session", "protocol", "pop3", "remote", guard.Addr(), "account", se.drop.account.ID, "messages", se.drop.count(),
			"retrieved", se.retrieved, "removed", se.removed, "took", time.Since(start), "end", err)
	} else if !errors.Is(err, io.EOF) {
		s.log.Debug("session", "protocol", "pop3", "remote", guard.Addr(), "end", err)
	}
}

// Shutdown stops accepting and closes idle sessions; commands under way are finished until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.down = true
	listeners := s.listeners
	s.mu.Unlock()
	defer s.sessions.Wait()
	defer s.end()
	errs := make([]error, len(listeners))
	var wg sync.WaitGroup
	for i, l := range listeners {
		wg.Go(func() { errs[i] = l.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
