package pop3

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"hongyan/cluster/client"
	"hongyan/frontends/listen"
)

const (
	maxLine     = 512     // of a command; RFC 2449 section 4 asks for 255
	maxResponse = 4 << 10 // of a SASL response
	ioBuffer    = 8 << 10

	loginIdle   = time.Minute      // of patience before a login
	sessionIdle = 10 * time.Minute // and behind it (RFC 1939 section 3)

	maxBad       = 20       // commands in a row that we do not understand
	maxGreetings = 50       // commands before a login
	maxFailures  = 5        // failed logins
	loginBudget  = 64 << 10 // input before a login, TLS included
)

var (
	errQuit     = errors.New("quit")
	errTooLong  = errors.New("line is too long")
	errTooMany  = errors.New("too many bad commands")
	errInjected = errors.New("commands behind STLS")
	errLost     = errors.New("another session has the maildrop")
	errNoTLS    = errors.New("TLS failed")
)

// session is one connection.
type session struct {
	srv    *Server
	guard  *listen.Conn
	conn   net.Conn // guard, or TLS over it
	secure bool
	in     *bufio.Reader
	out    *bufio.Writer

	user     string    // of USER
	drop     *maildrop // nil before the login
	lock     lock
	commands int // before the login
	bad      int
	failures int

	retrieved int
	removed   uint64
}

func newSession(s *Server, guard *listen.Conn) *session {
	guard.Limit(loginBudget)
	return &session{srv: s, guard: guard, conn: guard, in: bufio.NewReaderSize(guard, ioBuffer), out: bufio.NewWriterSize(guard, ioBuffer)}
}

// secured continues over TLS; anything read before is forgotten (RFC 2595 section 4).
func (s *session) secured(c net.Conn) {
	s.secure, s.conn = true, c
	s.in.Reset(c)
	s.out.Reset(c)
	s.user = ""
}

// run serves commands until the connection ends, and says why it did.
func (s *session) run() error {
	s.ok("%s POP3 server ready", s.srv.cfg.Hostname)
	for {
		if s.in.Buffered() == 0 { // answers to pipelined commands go out together
			if err := s.out.Flush(); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		s.guard.SetBusy(false)
		s.guard.Renew()
		line, err := s.line(maxLine)
		if err != nil && !errors.Is(err, errTooLong) {
			return err // an idle client is left without a word (RFC 1939 section 3)
		}
		s.guard.SetBusy(true)
		s.srv.metrics.commands.Inc()
		if err == nil {
			err = s.command(line)
		}
		if err == nil {
			s.bad = 0
		}
		if errors.Is(err, errSyntax) || errors.Is(err, errTooLong) {
			s.srv.metrics.bad.Inc()
			s.fail("%v", err)
			err = nil
			if s.bad++; s.bad >= maxBad {
				err = errTooMany
			}
		}
		if err != nil {
			// The connection ends; whether the last words arrive changes nothing.
			_ = s.out.Flush()
			return err
		}
	}
}

// line reads one line without its end. One that is too long is skipped whole.
func (s *session) line(limit int) (string, error) {
	var b strings.Builder
	long := false
	for {
		part, err := s.in.ReadSlice('\n')
		if b.Len()+len(part) > limit {
			long = true
			b.Reset()
		} else if !long {
			b.Write(part)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read: %w", err)
		}
		if long {
			return "", errTooLong
		}
		return strings.TrimSuffix(strings.TrimSuffix(b.String(), "\n"), "\r"), nil
	}
}

// command obeys one command. errSyntax counts against the client; any other error ends the session.
func (s *session) command(line string) error {
	verb, arg, err := parse(line)
	if err != nil {
		return err
	}
	if verb == "CAPA" && arg == "" {
		return s.capabilities()
	}
	if s.drop == nil {
		if s.commands++; s.commands > maxGreetings {
			s.fail("too many commands before a login")
			return errTooMany
		}
		return s.greeting(verb, arg)
	}
	if verb != "QUIT" { // that looks itself, if there is something to remove
		if ok, err := s.hold(); !ok {
			return err
		}
	}
	return s.transaction(verb, arg)
}

// capabilities lists what can be done (RFC 2449 section 5). What needs TLS is named only there.
func (s *session) capabilities() error {
	list := []string{"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "IMPLEMENTATION Hongyan"}
	if s.secure {
		list = append(list, "USER", "SASL PLAIN", "UTF8 USER")
	} else if s.drop == nil && s.srv.cfg.TLS != nil {
		list = append(list, "STLS")
	}
	s.ok("capabilities follow")
	for _, c := range list {
		s.write(c + "\r\n")
	}
	s.write(".\r\n")
	return nil
}

// ok answers a command. Errors of writing surface at the next Flush.
func (s *session) ok(format string, args ...any) {
	s.write("+OK " + fmt.Sprintf(format, args...) + "\r\n")
}

// fail refuses a command.
func (s *session) fail(format string, args ...any) {
	s.write("-ERR " + fmt.Sprintf(format, args...) + "\r\n")
}

// write sends text; the buffer keeps an error for Flush.
func (s *session) write(text string) { _, _ = s.out.WriteString(text) }

// trouble refuses a command because of an error of the cluster (RFC 3206 section 4), and logs it.
func (s *session) trouble(err error) {
	switch {
	case errors.Is(err, client.ErrNoMessage):
		s.fail("message was removed by another session")
	case errors.Is(err, client.ErrLost):
		s.fail("[SYS/PERM] the content of the message is lost")
		s.srv.metrics.failures.Inc()
		s.srv.log.Error("message found lost", "protocol", "pop3", "remote", s.guard.Addr(), "error", err)
	case errors.Is(err, client.ErrBadCredentials):
		s.fail("[AUTH] wrong user or password")
	default:
		s.fail("[SYS/TEMP] temporarily unavailable, try later")
		s.srv.metrics.failures.Inc()
		s.srv.log.Warn("command failed", "protocol", "pop3", "remote", s.guard.Addr(), "error", err)
	}
}

// context is for calls to the cluster.
func (s *session) context() context.Context { return s.srv.life }

// startTLS turns the connection to TLS. Commands that came with STLS were sent by somebody who cannot know
// the answer yet: an attacker, who would have them obeyed under the user's TLS.
func (s *session) startTLS() error {
	if s.secure {
		s.fail("TLS is active already")
		return nil
	}
	if s.srv.cfg.TLS == nil {
		s.fail("TLS is not offered")
		return nil
	}
	if s.in.Buffered() > 0 {
		s.fail("%v", errInjected)
		return errInjected
	}
	s.ok("begin TLS")
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return s.handshake()
}

// handshake begins TLS.
func (s *session) handshake() error {
	c := tls.Server(s.guard, s.srv.cfg.TLS)
	if err := c.HandshakeContext(s.context()); err != nil {
		s.srv.metrics.tlsFailures.Inc()
		return fmt.Errorf("%w: %w", errNoTLS, err)
	}
	s.secured(c)
	return nil
}
