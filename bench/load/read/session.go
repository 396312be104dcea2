package read

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/bench/load"
)

// Session is one IMAP connection. One goroutine uses it, except for Close.
type Session struct {
	client *imapclient.Client
	raw    net.Conn // under TLS
	o      Options
	view   view
	dead   bool
	next   imap.UID
}

// view is the selected mailbox as the server tells it, also between commands.
type view struct {
	mu       sync.Mutex // guards what follows
	messages uint32
	seen     uint32    // messages that the session's user knows of
	grown    time.Time // when the first beyond seen was told; zero when none was
	wake     chan struct{}
}

// options are imapclient's, with our view of the mailbox.
func (s *Session) options() *imapclient.Options {
	s.view.wake = make(chan struct{}, 1)
	return &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				s.view.grow(*data.NumMessages)
			}
		},
		Expunge: func(uint32) { s.view.shrink() },
	}}
}

func (v *view) grow(messages uint32) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.messages = messages
	if messages > v.seen && v.grown.IsZero() {
		v.grown = now
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

func (v *view) shrink() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.messages = max(v.messages, 1) - 1
	v.seen = min(v.seen, v.messages)
}

// take gives a notice that has not been given yet.
func (v *view) take() (Notice, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.messages <= v.seen {
		return Notice{}, false
	}
	n := Notice{At: v.grown, Messages: v.messages, New: v.messages - v.seen}
	v.seen, v.grown = v.messages, time.Time{}
	return n, true
}

// Notice is what a session in IDLE was told.
type Notice struct {
	At       time.Time // when it came
	Messages uint32    // in the mailbox now
	New      uint32    // since the last notice or SELECT
}

// Client is the session's imapclient, for what is not here. Its calls have no time limit of ours.
func (s *Session) Client() *imapclient.Client { return s.client }

// Alive says whether the session can still be used.
func (s *Session) Alive() bool {
	select {
	case <-s.client.Closed():
		return false
	default:
		return !s.dead
	}
}

// Close ends the connection without a goodbye, as phones do.
func (s *Session) Close() { _ = s.raw.Close() } // nothing of ours is buffered in it

// Logout says goodbye and ends the connection.
func (s *Session) Logout(ctx context.Context) error {
	defer s.Close()
	return s.do(ctx, "LOGOUT", func() error { return s.client.Logout().Wait() })
}

// do runs one operation within its limits.
func (s *Session) do(ctx context.Context, what string, f func() error) error {
	err := bounded(ctx, s.o.Timeout, s.raw, f)
	if err == nil {
		return nil
	}
	if _, answered := errors.AsType[*imap.Error](err); !answered {
		s.dead = true
		if load.Classify(err) == load.Other {
			err = &broken{err}
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (s *Session) greet(ctx context.Context) error {
	err := bounded(ctx, s.o.DialTimeout, s.raw, s.client.WaitGreeting)
	if err != nil {
		s.Close()
		return fmt.Errorf("greeting: %w", &broken{err})
	}
	return nil
}

// Login says who we are.
func (s *Session) Login(ctx context.Context, a load.Account) error {
	return s.do(ctx, "LOGIN "+a.Address, func() error { return s.client.Login(a.Address, a.Password).Wait() })
}

// Select opens a mailbox and gives the number of its messages.
func (s *Session) Select(ctx context.Context, mailbox string) (messages uint32, err error) {
	s.view.mu.Lock()
	s.view.messages, s.view.seen, s.view.grown = 0, 0, time.Time{}
	s.view.mu.Unlock()
	err = s.do(ctx, "SELECT "+mailbox, func() error {
		data, err := s.client.Select(mailbox, nil).Wait()
		if err != nil {
			return err
		}
		messages, s.next = data.NumMessages, data.UIDNext
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	s.view.seen = messages
	if s.view.messages <= messages { // else it has grown since the server answered
		s.view.messages, s.view.grown = messages, time.Time{}
	}
	return messages, nil
}

// UIDNext is the UID that the selected mailbox was going to give next when it was selected.
func (s *Session) UIDNext() imap.UID { return s.next }

// Counts are what STATUS tells.
type Counts struct {
	Messages, Unseen uint32
	UIDNext          imap.UID
	UIDValidity      uint32
}

// Status asks about a mailbox that need not be selected.
func (s *Session) Status(ctx context.Context, mailbox string) (c Counts, err error) {
	err = s.do(ctx, "STATUS "+mailbox, func() error {
		data, err := s.client.Status(mailbox, &imap.StatusOptions{NumMessages: true, NumUnseen: true, UIDNext: true, UIDValidity: true}).Wait()
		if err != nil {
			return err
		}
		if data.NumMessages == nil || data.NumUnseen == nil {
			return &broken{errors.New("the server left out what was asked for")}
		}
		c = Counts{Messages: *data.NumMessages, Unseen: *data.NumUnseen, UIDNext: data.UIDNext, UIDValidity: data.UIDValidity}
		return nil
	})
	return c, err
}

// Idle waits until the selected mailbox grows, and says when that was told. It returns at once if it grew since the last notice. When ctx ends, its
// error is returned and the session stays usable. How long it waits is up to ctx; only entering and leaving IDLE have the session's time limit.
func (s *Session) Idle(ctx context.Context) (Notice, error) {
	if n, ok := s.view.take(); ok {
		return n, nil
	}
	var idle *imapclient.IdleCommand
	err := s.do(context.WithoutCancel(ctx), "IDLE", func() (err error) {
		idle, err = s.client.Idle()
		return err
	})
	if err != nil {
		return Notice{}, err
	}
	var n Notice
	for ok := false; !ok; {
		select {
		case <-s.view.wake:
			n, ok = s.view.take()
			continue
		case <-ctx.Done():
		case <-s.client.Closed():
		}
		break
	}
	err = s.do(context.WithoutCancel(ctx), "DONE", func() error {
		if err := idle.Close(); err != nil {
			return err
		}
		return idle.Wait()
	})
	switch {
	case !n.At.IsZero():
		return n, nil // it came; if the connection is gone, the next operation says so
	case err != nil:
		return n, err
	case ctx.Err() != nil:
		return n, ctx.Err()
	}
	return n, fmt.Errorf("IDLE: %w", io.ErrUnexpectedEOF)
}
