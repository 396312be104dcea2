package exact

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a server may take for one command.
const patience = 2 * time.Minute

// imap is a session whose answers are taken as they come.
type imap struct {
	c net.Conn
	p parser
	n int
}

// answers are a FETCH's, by sequence number and item.
type answers map[int]map[string]Value

// dialIMAP logs in, over TLS whose certificate is not looked at: it is a server of this test.
func dialIMAP(addr, user, password string) (*imap, error) {
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	s := &imap{c: c, p: parser{bufio.NewReader(c)}}
	if _, err = s.p.response(); err == nil {
		err = s.do(fmt.Sprintf("LOGIN %s %s", user, password), nil)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

// do runs a command. fetched hears of FETCH responses. What is refused is a *refusedError.
func (s *imap) do(command string, fetched answers) error {
	s.n++
	tag := "t" + strconv.Itoa(s.n)
	if err := s.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(s.c, tag+" "+command+"\r\n"); err != nil {
		return err
	}
	for {
		line, err := s.p.response()
		if err != nil {
			return fmt.Errorf("%.60s: %w", command, err)
		}
		switch {
		case len(line) > 1 && line[0].Text == tag:
			if line[1].Text != "OK" {
				return &refusedError{fmt.Sprintf("%.60s: %v", command, Value{Kind: List, List: line})}
			}
			return nil
		case len(line) == 4 && line[2].Text == "FETCH" && fetched != nil:
			n, err := strconv.Atoi(line[1].Text)
			if err != nil {
				return err
			}
			fetched.add(n, line[3].List)
		}
	}
}

func (a answers) add(n int, items []Value) {
	if a[n] == nil {
		a[n] = make(map[string]Value)
	}
	for i := 0; i+1 < len(items); i += 2 {
		a[n][strings.ToUpper(items[i].Text)] = items[i+1]
	}
}

type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// appendAll puts messages into a mailbox that is made for them.
func (s *imap) appendAll(mailbox string, messages [][]byte) error {
	if err := s.do("CREATE "+mailbox, nil); err != nil {
		return err
	}
	for _, m := range messages {
		if err := s.do(fmt.Sprintf("APPEND %s {%d+}\r\n%s", mailbox, len(m), m), nil); err != nil {
			return err
		}
	}
	return s.do("SELECT "+mailbox, nil)
}
