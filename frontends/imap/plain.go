package imap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"hongyan/frontends/listen"
)

const (
	maxClearLine     = 1000 // bytes of a line in clear text
	maxClearCommands = 50   // commands before STARTTLS
)

// clearCaps is what a client may do before TLS (RFC 9051 section 6.2.1).
const clearCaps = "IMAP4rev2 IMAP4rev1 STARTTLS LOGINDISABLED"

var errGoodbye = errors.New("said goodbye") // the client was told why the connection ends

// clearText talks to a client on the plain port until it asked for TLS, and returns nil when the handshake is
// next. Nothing else is offered there; above all no password is taken.
func (s *Server) clearText(c *listen.Conn) error {
	p := &cleartext{c: c, br: bufio.NewReaderSize(c, maxClearLine+2)}
	if err := p.say("* OK [CAPABILITY " + clearCaps + "] " + s.cfg.Hostname + " IMAP server ready"); err != nil {
		return err
	}
	for range maxClearCommands {
		line, err := p.command()
		if err != nil {
			return p.failed(err, s.stopping.Load())
		}
		s.stats.commands.Add(1)
		switch done, err := p.run(line); {
		case err != nil:
			return err
		case done:
			return nil
		}
	}
	return p.goodbye("Too many commands before STARTTLS")
}

// cleartext is a connection before TLS.
type cleartext struct {
	c  *listen.Conn
	br *bufio.Reader
}

// run answers one command; done means that the TLS handshake is next.
func (p *cleartext) run(line []byte) (done bool, err error) {
	tag, name, ok := commandName(line)
	switch {
	case len(trimEnd(line)) == 0:
		return false, nil
	case !ok:
		return false, p.say(or(tag, "*") + " BAD [CLIENTBUG] Expected a tag and a command")
	case name == "CAPABILITY":
		return false, p.say("* CAPABILITY " + clearCaps + "\r\n" + tag + " OK CAPABILITY completed")
	case name == "NOOP":
		return false, p.say(tag + " OK NOOP completed")
	case name == "ID":
		return false, p.say("* ID NIL\r\n" + tag + " OK ID completed")
	case name == "LOGOUT":
		return false, p.end("* BYE Logging out\r\n" + tag + " OK LOGOUT completed")
	case name == "LOGIN" || name == "AUTHENTICATE":
		return false, p.say(tag + " NO [PRIVACYREQUIRED] TLS is required to log in")
	case name == "STARTTLS":
		return p.startTLS(tag, line)
	default:
		return false, p.say(tag + " BAD Only valid after STARTTLS and login")
	}
}

// startTLS agrees to TLS. What was sent with the command in clear text can only be an attempt to have it taken for
// what follows the handshake (CVE-2011-0411): then the connection ends.
func (p *cleartext) startTLS(tag string, line []byte) (bool, error) {
	if strings.Count(string(trimEnd(line)), " ") != 1 {
		return false, p.say(tag + " BAD [CLIENTBUG] STARTTLS takes no arguments")
	}
	if p.br.Buffered() > 0 {
		return false, p.goodbye("[CLIENTBUG] Nothing may follow STARTTLS before the handshake")
	}
	return true, p.say(tag + " OK Begin TLS negotiation now")
}

// command reads one command. A literal in it is never asked for, and skipped when it comes unasked.
func (p *cleartext) command() ([]byte, error) {
	first, err := p.line()
	if err != nil {
		return nil, err
	}
	for line := first; ; {
		lit := announced(line)
		if lit == nil || !lit.nonSync {
			return first, nil
		}
		if lit.size > maxNonSync {
			return nil, errTooLong
		}
		first = append([]byte(nil), first...)
		if _, err := io.CopyN(io.Discard, p.br, lit.size); err != nil {
			return nil, err
		}
		if line, err = p.line(); err != nil {
			return nil, err
		}
	}
}

func (p *cleartext) line() ([]byte, error) {
	line, err := p.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, err
	}
	return line, checkOctets(line)
}

func (p *cleartext) failed(err error, stopping bool) error {
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errBadOctet):
		return p.goodbye("[CLIENTBUG] Line or literal too long, or with an invalid octet")
	case timedOut(err) && stopping:
		return p.goodbye("[UNAVAILABLE] Server is shutting down")
	case timedOut(err):
		return p.goodbye("Login took too long")
	}
	return fmt.Errorf("read from %v before TLS: %w", p.c.Addr(), err)
}

func (p *cleartext) say(s string) error {
	if _, err := io.WriteString(p.c, s+"\r\n"); err != nil {
		return fmt.Errorf("write to %v before TLS: %w", p.c.Addr(), err)
	}
	return nil
}

// goodbye ends the conversation with a client that may still be sending.
func (p *cleartext) goodbye(text string) error {
	err := p.end("* BYE " + text)
	linger(p.c)
	return err
}

func (p *cleartext) end(text string) error {
	if err := p.say(text); err != nil {
		return err
	}
	return errGoodbye
}
