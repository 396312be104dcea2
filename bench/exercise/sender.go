package exercise

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/bench/history"
	"hongyan/bench/load"
)

// sender is one SMTP or LMTP connection.
type sender struct {
	c    *gosmtp.Client
	lmtp bool
}

// dialSender greets a node that takes mail.
func dialSender(n load.Node, lmtp bool, timeout time.Duration) (*sender, error) {
	addr, protocol := n.SMTP, "SMTP"
	if lmtp {
		addr, protocol = n.LMTP, "LMTP"
	}
	conn, err := net.DialTimeout("tcp", addr, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("connect to %s of %s: %w", protocol, n.ID, err)
	}
	s := &sender{c: gosmtp.NewClient(conn), lmtp: lmtp}
	if lmtp {
		s.c = gosmtp.NewClientLMTP(conn)
	}
	s.c.CommandTimeout, s.c.SubmissionTimeout = timeout, timeout
	if err := s.c.Hello("exercise.test"); err != nil {
		s.close()
		return nil, fmt.Errorf("greet %s of %s: %w", protocol, n.ID, err)
	}
	return s, nil
}

func (s *sender) close() { _ = s.c.Close() } // nothing is on its way

// open names sender and recipients. The message is not on its way yet, so a refusal needs no note.
func (s *sender) open(to []string) error {
	if err := s.c.Mail("exercise@remote.test", nil); err != nil {
		return err
	}
	for _, a := range to {
		if err := s.c.Rcpt(a, nil); err != nil {
			return err
		}
	}
	return nil
}

// send brings the message of an open conversation, and gives a result for each recipient.
func (s *sender) send(to []string, raw []byte) []history.Result {
	every := func(err error, sent bool) []history.Result {
		out := make([]history.Result, len(to))
		for i := range out {
			out[i] = history.Result{Outcome: history.SMTPOutcome(err, sent), Err: err}
		}
		return out
	}
	w, err := s.c.Data()
	if err != nil {
		return every(err, false)
	}
	if _, err := w.Write(raw); err != nil {
		return every(err, false)
	}
	if !s.lmtp {
		return every(w.Close(), true)
	}
	taken, err := w.CloseWithLMTPResponse()
	var refused gosmtp.LMTPDataError
	errors.As(err, &refused)
	out := make([]history.Result, len(to))
	for i, a := range to {
		one := err
		if refused[a] != nil {
			one = refused[a]
		}
		if taken[a] != nil {
			one = nil
		}
		out[i] = history.Result{Outcome: history.SMTPOutcome(one, true), Err: one}
	}
	return out
}

// message makes the bytes of a message.
func message(id, subject string, lines int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Exercise <exercise@remote.test>\r\nTo: somebody@example.test\r\nSubject: %s\r\nMessage-ID: %s\r\n\r\n.a line with a dot\r\n", subject, id)
	for i := range lines {
		fmt.Fprintf(&b, "%4d %s 鸿雁\r\n", i, id)
	}
	return []byte(b.String())
}
