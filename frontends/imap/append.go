package imap

import (
	"context"
	"errors"
	"io"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

const (
	copyBuffer = 64 << 10
	storeRate  = 1 << 20 // bytes a second that storing a message is at least expected to reach
)

// append takes a message in, or several (multiappend.go).
func (s *session) append(c *call) error {
	name, err := command.Append(s.dec)
	if err != nil {
		return err
	}
	p, err := s.targetOf(name)
	if err != nil {
		return err
	}
	first, more, err := s.take(&p)
	if err != nil {
		return err
	}
	if more {
		return s.appendAll(c, &p, first)
	}
	defer s.closeDraft(first.draft)
	ctx, cancel := s.storing(first.size)
	defer cancel()
	validity, uid, err := s.mail.Append(ctx, p.account, p.name, first.draft, first.flags, first.date)
	if err != nil {
		return s.answerInto("append to "+p.shown, err)
	}
	s.appended(1, first.size)
	s.added(p, uidsFrom(uid, 1))
	c.code = "APPENDUID " + decimal(validity) + " " + decimal(uid)
	return nil
}

// appended counts messages that are entered, perhaps in the mailbox that is open.
func (s *session) appended(messages int, size int64) {
	s.srv.stats.appended.Add(uint64(messages))
	s.srv.stats.appendedBytes.Add(uint64(size))
	if s.sel != nil {
		s.sel.stale = true
	}
}

// storing bounds the storing of a message. A large one needs its time on the way to all copies.
func (s *session) storing(size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.srv.cfg.Limits.CommandTimeout+time.Duration(size/storeRate)*time.Second)
}

// taken is a message that has come in.
type taken struct {
	draft draft
	flags client.Flags
	date  client.Date
	size  int64
}

// take takes the next message of a command in, as a stream: the cluster's draft, which is to be closed, bounds the memory, the connection the waits. What speaks
// against the message is said before its bytes are asked for, also that there is no room for it in into, if that is not nil. more says that another one follows.
func (s *session) take(into *place) (t taken, more bool, err error) {
	m, err := command.AppendMessage(s.dec)
	if err != nil {
		return t, false, err
	}
	t.flags, err = flagsIn(m.Flags)
	t.size, t.date = m.Literal.Size, s.dateIn(m.Time)
	switch {
	case err != nil:
		return t, false, err
	case t.size == 0:
		return t, false, no(goimap.ResponseCodeCannot, "A message has at least one byte")
	case t.size > s.mail.MaxMessage():
		return t, false, no(goimap.ResponseCodeTooBig, "Message too large")
	}
	if into != nil {
		if err := s.room(into, t.size); err != nil {
			return t, false, err
		}
	}
	t.draft = s.mail.NewDraft()
	if more, err = s.receive(t.draft, m); err == nil && m.Literal.Binary && !m.UTF8 { // else the octets are those of an ordinary literal
		err = s.textual(&t)
	}
	if err != nil {
		s.closeDraft(t.draft)
	}
	return t, more, err
}

// textual puts what is binary and has NUL in a message into base64, as RFC 3516 section 4.4 allows: else who asks for it with BODY would get NUL, and who asks with BINARY gets
// the same octets either way.
func (s *session) textual(t *taken) (err error) {
	t.draft, t.size, err = s.mail.Textual(t.draft)
	if errors.Is(err, client.ErrLimit) {
		return no(goimap.ResponseCodeTooBig, "Message too large in base64")
	}
	return s.answer("take a binary message in", err)
}

// draftError is a failure of a draft, as against one of the connection that its bytes come from.
type draftError struct{ error }

func (e draftError) Unwrap() error { return e.error }

type draftWriter struct{ d draft }

func (w draftWriter) Write(p []byte) (int, error) {
	n, err := w.d.Write(p)
	if err != nil {
		err = draftError{err}
	}
	return n, err
}

// receive reads a message's bytes, and up to the next message or the end of the command behind them.
func (s *session) receive(d draft, m command.Message) (more bool, err error) {
	if err := m.Literal.Open(); err != nil {
		return false, err
	}
	_, err = io.CopyBuffer(draftWriter{d}, m.Literal, make([]byte, min(copyBuffer, m.Literal.Size)))
	var broken draftError
	switch {
	case errors.Is(err, client.ErrLimit):
		return false, no(goimap.ResponseCodeTooBig, "Message too large")
	case errors.As(err, &broken):
		return false, s.answer("take a message in", err)
	case err != nil:
		return false, err
	}
	return command.EndMessage(s.dec, m)
}

func (s *session) closeDraft(d draft) {
	if err := d.Close(); err != nil {
		s.log.Warn("draft of an APPEND not closed", "error", err)
	}
}

// dateIn is an internal date with the zone that the client gave; without one it is now.
func (s *session) dateIn(t time.Time) client.Date {
	if t.IsZero() {
		return client.Date{Unix: s.srv.cfg.Clock.Now().Unix()}
	}
	_, offset := t.Zone()
	return client.Date{Unix: t.Unix(), Zone: int16(offset / 60)}
}

// dateOut is an internal date as a client is shown it.
func dateOut(unix int64, zone int16) time.Time {
	const day = 24 * 60
	if zone <= -day || zone >= day {
		zone = 0
	}
	return time.Unix(unix, 0).In(time.FixedZone("", int(zone)*60))
}
