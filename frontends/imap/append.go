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

// append takes a message in, as a stream: the cluster's draft bounds the memory, the connection the waits. What speaks against
// the message is said before its bytes are asked for.
func (s *session) append(c *call) error {
	name, err := command.Append(s.dec)
	if err != nil {
		return err
	}
	m, err := command.AppendMessage(s.dec)
	if err != nil {
		return err
	}
	flags, err := flagsIn(m.Flags)
	switch {
	case err != nil:
		return err
	case m.Literal.Size == 0:
		return no(goimap.ResponseCodeCannot, "A message has at least one byte")
	case m.Literal.Size > s.mail.MaxMessage():
		return no(goimap.ResponseCodeTooBig, "Message too large")
	}
	if err := s.room(m.Literal.Size); err != nil {
		return err
	}
	d := s.mail.NewDraft()
	defer s.closeDraft(d)
	if err := s.receive(d, m); err != nil {
		return err
	}
	// A large message needs its time on the way to all copies.
	size := m.Literal.Size
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.CommandTimeout+time.Duration(size/storeRate)*time.Second)
	defer cancel()
	name = canonicalName(name)
	validity, uid, err := s.mail.Append(ctx, s.account, name, d, flags, s.dateIn(m.Time))
	if err != nil {
		return s.answerInto("append to "+name, err)
	}
	s.srv.stats.appended.Add(1)
	s.srv.stats.appendedBytes.Add(uint64(size))
	if s.sel != nil {
		s.sel.stale = true
	}
	c.code = "APPENDUID " + decimal(validity) + " " + decimal(uid)
	return nil
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

// receive reads a message's bytes, and the end of the command behind them.
func (s *session) receive(d draft, m command.Message) error {
	if err := m.Literal.Open(); err != nil {
		return err
	}
	_, err := io.CopyBuffer(draftWriter{d}, m.Literal, make([]byte, min(copyBuffer, m.Literal.Size)))
	var broken draftError
	switch {
	case errors.Is(err, client.ErrLimit):
		return no(goimap.ResponseCodeTooBig, "Message too large")
	case errors.As(err, &broken):
		return s.answer("take a message in", err)
	case err != nil:
		return err
	}
	more, err := command.EndMessage(s.dec, m)
	if err == nil && more {
		return bad("APPEND takes one message")
	}
	return err
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
