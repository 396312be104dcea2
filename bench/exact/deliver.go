package exact

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lmtp delivers messages to recipients (RFC 2033), one transaction each.
func lmtp(addr string, recipients []string, messages []Message) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	c := textproto.NewConn(conn)
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	say := func(code int, line string) error {
		if err := c.PrintfLine("%s", line); err != nil {
			return err
		}
		_, text, err := c.ReadResponse(code)
		if err != nil {
			return fmt.Errorf("%s: %w %s", line, err, text)
		}
		return nil
	}
	if err := say(250, "LHLO exact.test"); err != nil {
		return err
	}
	for i := range messages {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		err := say(250, "MAIL FROM:<a@exact.test> BODY=8BITMIME")
		for _, r := range recipients {
			if err == nil {
				err = say(250, "RCPT TO:<"+r+">")
			}
		}
		if err == nil {
			err = say(354, "DATA")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", messages[i].Name, err)
		}
		if err := writeData(c.W, ended(messages[i].Raw)); err != nil {
			return err
		}
		err = say(250, ".")
		for range len(recipients) - 1 { // each has an answer
			if err == nil {
				_, _, err = c.ReadResponse(250)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", messages[i].Name, err)
		}
	}
	return say(221, "QUIT")
}

// writeData writes a message whose lines end in CRLF with its dots stuffed (RFC 5321 section 4.5.2).
func writeData(w *bufio.Writer, raw []byte) error {
	for line := range bytes.Lines(raw) {
		if line[0] == '.' {
			if err := w.WriteByte('.'); err != nil {
				return err
			}
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// pop3 calls each with every message of an INBOX, in its order.
func pop3(addr, user, password string, each func(n int, raw []byte) error) error {
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	c := textproto.NewConn(conn)
	defer c.Close()
	line, err := c.ReadLine()
	say := func(format string, args ...any) error {
		if err != nil {
			return err
		}
		if err := c.PrintfLine(format, args...); err != nil {
			return err
		}
		if line, err = c.ReadLine(); err == nil && !strings.HasPrefix(line, "+OK") {
			err = fmt.Errorf("%.20s: %s", format, line)
		}
		return err
	}
	if err := say("USER %s", user); err != nil {
		return err
	}
	if err := say("PASS %s", password); err != nil {
		return err
	}
	if err := say("STAT"); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.Fields(line)[1])
	for i := 1; i <= n && err == nil; i++ {
		if err = conn.SetDeadline(time.Now().Add(patience)); err != nil {
			break
		}
		if err = say("RETR %d", i); err != nil {
			break
		}
		var raw []byte
		if raw, err = readDotted(c.R); err == nil {
			err = each(i, raw)
		}
	}
	return err
}

// ended is a message as SMTP and POP3 have it, which cannot have a last line without an end.
func ended(raw []byte) []byte {
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(slices.Clip(raw), "\r\n"...)
	}
	return raw
}

// readDotted reads up to a line of a dot, and takes the stuffing out; nothing else is changed, line ends neither.
func readDotted(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if string(line) == ".\r\n" {
			return out, nil
		}
		out = append(out, bytes.TrimPrefix(line, []byte("."))...)
	}
}
