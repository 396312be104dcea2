package imap

import (
	"context"
	"errors"
	"io"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
)

const (
	copyBuffer = 64 << 10
	storeRate  = 1 << 20 // bytes a second that storing a message is at least expected to reach
)

// Append takes a message in, as a stream: the cluster's draft bounds the memory, the guard the waits.
func (s *session) Append(name string, r goimap.LiteralReader, o *goimap.AppendOptions) (*goimap.AppendData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	flags, err := flagsIn(o.Flags)
	if err != nil {
		return nil, err
	}
	if r.Size() == 0 {
		return nil, no(goimap.ResponseCodeCannot, "A message has at least one byte")
	}
	d := s.mail.NewDraft()
	defer s.closeDraft(d)
	n, err := io.CopyBuffer(d, r, make([]byte, min(copyBuffer, r.Size())))
	switch {
	case errors.Is(err, client.ErrLimit):
		return nil, no(goimap.ResponseCodeTooBig, "Message too large")
	case err != nil:
		return nil, s.answer("take a message in", err)
	case n != r.Size():
		// The library's literal ends without an error when the connection does.
		return nil, no(goimap.ResponseCodeClientBug, "Message ended early")
	}
	// A large message needs its time on the way to all copies.
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.CommandTimeout+time.Duration(n/storeRate)*time.Second)
	defer cancel()
	name = canonicalName(name)
	validity, uid, err := s.mail.Append(ctx, s.account, name, d, flags, s.dateIn(o.Time))
	if err != nil {
		return nil, s.answerInto("append to "+name, err)
	}
	s.srv.stats.appended.Add(1)
	s.srv.stats.appendedBytes.Add(uint64(n))
	if s.sel != nil {
		s.sel.stale = true
	}
	return &goimap.AppendData{UID: goimap.UID(uid), UIDValidity: validity}, nil
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
