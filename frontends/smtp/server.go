// Package smtp takes mail in: SMTP as the exchanger of our domains (RFC 5321) and LMTP (RFC 2033), on emersion/go-smtp.
//
// It owns the conversation and the trace header, nothing else: recipients, storage and durability are behind
// package client. It relays for nobody, loopback included, and offers no AUTH.
//
// Invariants:
//   - A positive reply to a message is sent only after client.Deliver said for that recipient that bytes and entry are
//     durable. SMTP has one reply for all recipients: it is positive only when every one is; a sender that gets 451
//     sends to all again, and those who have the message do not get it twice if it has a Message-ID (partly.go).
//   - What follows the trace header is the message as sent, byte for byte, however malformed.
//   - Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4). See dots.go on bare LF and bare CR.
//   - What is left of a message that was refused or broken off is never taken for commands, nor what becomes of it for the answer to another: the
//     connection skips it, or ends.
//   - Memory per connection is bounded; so are its time without progress, its commands without a message, and the number
//     of transactions at once. What is over a limit is answered at once with 421, 451 or 452.
//
// A crash leaves nothing behind: an unanswered message is the sender's to send again. What it forgets is who got a message that was answered with 451.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
	"hongyan/cluster/clock"
	"hongyan/frontends/listen"
)

// Config is what a Server needs.
type Config struct {
	Client    *client.Client
	Clock     *clock.Clock // what is written into mail; nil is the system's
	TLS       *tls.Config  // for STARTTLS; nil: not offered
	Hostname  string       // in greetings and trace headers
	Log       *slog.Logger
	Limits    Limits
	Allow     []netip.Prefix // networks that may speak SMTP; empty: all
	AllowLMTP []netip.Prefix // networks that may speak LMTP; empty: all
}

// Limits bound what strangers can use up; a zero takes the default.
type Limits struct {
	MaxConns        int // open connections of a listener; default 4096
	MaxPerAddr      int // of one address; default 64
	MaxTransactions int // between MAIL and its end, at the same time; default 1024
	MaxRecipients   int // of one transaction; default 1000
}

const (
	defaultMaxConns        = 4096
	defaultMaxPerAddr      = 64
	defaultMaxTransactions = 1024
	defaultMaxRecipients   = 1000

	idle    = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	minRate = 128             // input bytes that buy a second of waiting

	copyBuffer   = 32 << 10
	traceReserve = 4 << 10 // of client.MaxMessage for our own header fields
)

// Server serves any number of listeners.
type Server struct {
	cfg     Config
	store   store
	log     *slog.Logger
	slots   chan struct{} // one for each transaction
	buffers sync.Pool     // of *[]byte, copyBuffer long
	ids     string        // prefix of this process's transaction ids
	counter atomic.Uint64
	metrics *metrics
	partly  *partly

	life context.Context // ends after a Shutdown
	end  context.CancelFunc

	mu      sync.Mutex // guards what follows
	serving []*listen.Listener
	down    bool
}

// New returns a Server that delivers through cfg.Client.
func New(cfg Config) *Server { return newServer(cfg, door{cfg.Client}) }

func newServer(cfg Config, st store) *Server {
	setDefault(&cfg.Limits.MaxConns, defaultMaxConns)
	setDefault(&cfg.Limits.MaxPerAddr, defaultMaxPerAddr)
	setDefault(&cfg.Limits.MaxTransactions, defaultMaxTransactions)
	setDefault(&cfg.Limits.MaxRecipients, defaultMaxRecipients)
	s := &Server{
		cfg:   cfg,
		store: st,
		log:   cfg.Log,
		slots: make(chan struct{}, cfg.Limits.MaxTransactions),
		ids:   strconv.FormatUint(rand.Uint64()>>16, 36) + "-",
	}
	s.buffers.New = func() any {
		b := make([]byte, copyBuffer)
		return &b
	}
	s.metrics = newMetrics(s)
	s.partly = newPartly(partlySize)
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

func setDefault(v *int, d int) {
	if *v <= 0 {
		*v = d
	}
}

// Serve accepts SMTP, or LMTP, on l until Shutdown or an error of l. It returns nil after Shutdown.
func (s *Server) Serve(l net.Listener, lmtp bool) error {
	name, allow := "smtp", s.cfg.Allow
	if lmtp {
		name, allow = "lmtp", s.cfg.AllowLMTP
	}
	guarded := listen.Wrap(l, listen.Config{
		Name: name, Allow: allow, Log: s.log, Idle: idle, MinRate: minRate, Budget: commandBudget,
		MaxConns: s.cfg.Limits.MaxConns, MaxPerAddr: s.cfg.Limits.MaxPerAddr,
		Busy: []byte("421 4.3.2 " + s.cfg.Hostname + " has too many connections, try later\r\n"),
	})
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return guarded.Close()
	}
	s.serving = append(s.serving, guarded)
	s.mu.Unlock()
	for {
		c, err := guarded.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve %s on %v: %w", name, l.Addr(), err)
		}
		_ = s.newEngine(lmtp).Serve(&lone{guarded, c}) // has begun to serve c when it ends
	}
}

// lone is a listener for the engine of one connection.
type lone struct {
	net.Listener
	conn net.Conn
}

// Accept gives the connection, and then the error that ends Serve.
func (l *lone) Accept() (net.Conn, error) {
	c := l.conn
	l.conn = nil
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

// newEngine sets go-smtp up for a connection, whose session changes how large a message may be (see begin). Its own read timeout would cover a whole message, and its line limit would
// hit bodies too: both are zero, and the connection's patience and budget stand in for them.
func (s *Server) newEngine(lmtp bool) *gosmtp.Server {
	e := gosmtp.NewServer(gosmtp.BackendFunc(func(c *gosmtp.Conn) (gosmtp.Session, error) {
		return s.newSession(c, lmtp)
	}))
	e.Domain = s.cfg.Hostname
	e.LMTP = lmtp
	e.TLSConfig = s.cfg.TLS
	e.EnableSMTPUTF8 = true
	e.MaxRecipients = s.cfg.Limits.MaxRecipients
	e.MaxMessageBytes = s.maxMessage()
	e.MaxLineLength = 0
	e.ErrorLog = engineLog{s.log}
	return e
}

// maxMessage is the size of the largest message that is taken, as announced.
func (s *Server) maxMessage() int64 { return max(s.store.MaxMessage()-traceReserve, 1) }

// Shutdown stops accepting, lets transactions under way end, and says 421 to idle clients. When ctx ends first,
// connections are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.down = true
	serving := s.serving
	s.mu.Unlock()
	defer s.end()
	errs := make([]error, len(serving))
	var wg sync.WaitGroup
	for i, l := range serving {
		wg.Go(func() { errs[i] = l.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// nextID names a transaction in the log, the trace header and the reply.
func (s *Server) nextID() string {
	return s.ids + strconv.FormatUint(s.counter.Add(1), 36)
}

// engineLog passes on what go-smtp has to say: panics, and else connections that broke.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Printf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(text, "panic") {
		l.log.Error("smtp engine", "event", text)
		return
	}
	l.log.Debug("smtp engine", "event", text)
}

func (l engineLog) Println(v ...any) { l.Printf("%s", fmt.Sprint(v...)) }
