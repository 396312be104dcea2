package read

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"hongyan/bench/load"
)

// POP3 is one POP3 session (RFC 1939). One goroutine uses it.
type POP3 struct {
	conn net.Conn
	raw  net.Conn // under TLS
	br   *bufio.Reader
	o    Options
}

// Refused is a server's -ERR.
type Refused struct{ Text string }

func (e *Refused) Error() string { return "-ERR " + e.Text }

// Class is that of an IMAP NO.
func (e *Refused) Class() load.Class { return load.No }

// DialPOP3 opens a session with a node of the target: by implicit TLS where the target has it, else by STLS if the target has TLS settings and
// the node offers it, else plain.
func DialPOP3(ctx context.Context, t load.Target, node int, o Options) (*POP3, error) {
	o.fill()
	if node < 0 || node >= len(t.Nodes) {
		return nil, fmt.Errorf("target %s has no node %d", t.Name, node)
	}
	n := t.Nodes[node]
	var p *POP3
	var err error
	switch {
	case n.POP3S != "" && t.TLS != nil:
		p, err = pop3TLS(ctx, n.POP3S, t, o)
	case n.POP3 != "":
		p, err = pop3Plain(ctx, n.POP3, t, o)
	default:
		return nil, fmt.Errorf("node %s of target %s does not serve POP3", n.ID, t.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("POP3 with node %s: %w", n.ID, err)
	}
	return p, nil
}

func newPOP3(conn, raw net.Conn, o Options) *POP3 {
	return &POP3{conn: conn, raw: raw, o: o, br: bufio.NewReaderSize(conn, maxPOP3Line)}
}

func pop3TLS(ctx context.Context, addr string, t load.Target, o Options) (*POP3, error) {
	secure, raw, err := dialTLS(ctx, addr, t.TLS, o)
	if err != nil {
		return nil, err
	}
	p := newPOP3(secure, raw, o)
	return p, p.greet(ctx)
}

func pop3Plain(ctx context.Context, addr string, t load.Target, o Options) (*POP3, error) {
	raw, err := dial(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	p := newPOP3(raw, raw, o)
	if err := p.greet(ctx); err != nil || t.TLS == nil {
		return p, err
	}
	if _, err := p.command(ctx, "STLS"); err != nil {
		if _, refused := errors.AsType[*Refused](err); refused {
			return p, nil
		}
		p.Close()
		return nil, err
	}
	secure, err := handshake(ctx, raw, addr, t.TLS, o)
	if err != nil {
		return nil, err
	}
	return newPOP3(secure, raw, o), nil
}

func (p *POP3) greet(ctx context.Context) error {
	if err := bounded(ctx, p.o.DialTimeout, p.raw, func() error {
		_, err := readStatus(p.br)
		return err
	}); err != nil {
		p.Close()
		return fmt.Errorf("greeting: %w", err)
	}
	return nil
}

// Close ends the connection; the server then keeps what was marked as deleted.
func (p *POP3) Close() { _ = p.raw.Close() } // nothing of ours is buffered in it

// command sends a line and gives the text after +OK.
func (p *POP3) command(ctx context.Context, line string) (text string, err error) {
	err = p.do(ctx, line, func() error {
		text, err = p.ask(line)
		return err
	})
	return text, err
}

// do runs one operation within its limits.
func (p *POP3) do(ctx context.Context, line string, f func() error) error {
	err := bounded(ctx, p.o.Timeout, p.raw, f)
	if err == nil {
		return nil
	}
	verb, _, _ := strings.Cut(line, " ") // what follows may be a password
	return fmt.Errorf("%s: %w", verb, err)
}

func (p *POP3) ask(line string) (string, error) {
	if strings.ContainsAny(line, "\r\n") {
		return "", &Refused{Text: "not sent: it has more than one line"}
	}
	if _, err := p.conn.Write([]byte(line + "\r\n")); err != nil {
		return "", err
	}
	return readStatus(p.br)
}

// Login says who we are.
func (p *POP3) Login(ctx context.Context, a load.Account) error {
	if _, err := p.command(ctx, "USER "+a.Address); err != nil {
		return fmt.Errorf("log in as %s: %w", a.Address, err)
	}
	if _, err := p.command(ctx, "PASS "+a.Password); err != nil {
		return fmt.Errorf("log in as %s: %w", a.Address, err)
	}
	return nil
}

// Stat gives the number of messages and their size in bytes.
func (p *POP3) Stat(ctx context.Context) (messages int, size int64, err error) {
	text, err := p.command(ctx, "STAT")
	if err != nil {
		return 0, 0, err
	}
	if messages, size, err = parseStat(text); err != nil {
		return 0, 0, fmt.Errorf("STAT: %w", err)
	}
	return messages, size, nil
}

// UIDL gives the messages' unique identifiers; message n has number n+1 in the other commands. A message that is marked as deleted has "".
func (p *POP3) UIDL(ctx context.Context) (uids []string, err error) {
	err = p.do(ctx, "UIDL", func() error {
		if _, err := p.ask("UIDL"); err != nil {
			return err
		}
		return readLines(p.br, func(line []byte) error {
			n, uid, err := parseUIDL(line)
			if err != nil {
				return err
			}
			for len(uids) < n {
				uids = append(uids, "")
			}
			uids[n-1] = uid
			return nil
		})
	})
	return uids, err
}

// Retr fetches a message, byte for byte as it is without dot-stuffing.
func (p *POP3) Retr(ctx context.Context, n int) ([]byte, error) {
	return p.text(ctx, "RETR "+strconv.Itoa(n))
}

func (p *POP3) text(ctx context.Context, line string) (raw []byte, err error) {
	err = p.do(ctx, line, func() error {
		if _, err := p.ask(line); err != nil {
			return err
		}
		raw, err = readText(p.br)
		return err
	})
	return raw, err
}

// Dele marks a message as deleted; it goes with Quit.
func (p *POP3) Dele(ctx context.Context, n int) error {
	_, err := p.command(ctx, "DELE "+strconv.Itoa(n))
	return err
}

// Quit ends the session and makes deletions real, and closes the connection.
func (p *POP3) Quit(ctx context.Context) error {
	defer p.Close()
	_, err := p.command(ctx, "QUIT")
	return err
}
