package exercise

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"hongyan/bench/history"
	"hongyan/bench/load"
)

// mostByPOP3 is how many messages one reading may have: each takes a command.
const mostByPOP3 = 500

// readPOP3 lists which messages an INBOX has, in a session of its own (RFC 1939). POP3 shows no flags, and its names for messages are
// not IMAP's UIDs.
func readPOP3(t load.Target, n load.Node, a load.Account, timeout time.Duration) (r *history.Reading, err error) {
	conn, err := dialPOP3(t, n)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("POP3 of %s: %w", n.ID, err)
		}
		_ = conn.Close() // nothing is on its way
	}()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	c := textproto.NewConn(conn)
	if _, err := answer(c); err != nil { // the greeting
		return nil, err
	}
	for _, command := range []string{"USER " + a.Address, "PASS " + a.Password} {
		if _, err := ask(c, command); err != nil {
			return nil, err
		}
	}
	stat, err := ask(c, "STAT")
	if err != nil {
		return nil, err
	}
	count, _, _ := strings.Cut(stat, " ")
	total, err := strconv.Atoi(count)
	if err != nil || total < 0 || total > mostByPOP3 {
		return nil, fmt.Errorf("STAT was answered with %q, expected up to %d messages", stat, mostByPOP3)
	}
	r = &history.Reading{NoUIDs: true}
	for i := range total {
		if _, err := ask(c, fmt.Sprintf("TOP %d 0", i+1)); err != nil {
			return nil, err
		}
		head, err := c.ReadDotBytes()
		if err != nil {
			return nil, err
		}
		m, err := mail.ReadMessage(bytes.NewReader(head))
		if err != nil {
			return nil, fmt.Errorf("header of message %d: %w", i+1, err)
		}
		r.Messages = append(r.Messages, history.Seen{ID: m.Header.Get("Message-Id")})
	}
	_, err = ask(c, "QUIT")
	return r, err
}

// dialPOP3 connects by TLS if the target has it.
func dialPOP3(t load.Target, n load.Node) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if n.POP3S != "" && t.TLS != nil {
		return tls.DialWithDialer(d, "tcp", n.POP3S, t.TLS)
	}
	return d.Dial("tcp", n.POP3)
}

var errRefused = errors.New("refused")

// ask sends a command and gives what follows +OK.
func ask(c *textproto.Conn, command string) (string, error) {
	if err := c.PrintfLine("%s", command); err != nil {
		return "", err
	}
	text, err := answer(c)
	if err != nil {
		verb, _, _ := strings.Cut(command, " ")
		return "", fmt.Errorf("%s: %w", verb, err)
	}
	return text, nil
}

func answer(c *textproto.Conn) (string, error) {
	line, err := c.ReadLine()
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(line, "+OK")
	if !ok {
		return "", fmt.Errorf("%w: %s", errRefused, line)
	}
	return strings.TrimSpace(text), nil
}
