package read

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Watch stays in IDLE until ctx ends or the connection does, as a phone that lies on a table. It calls standing once the server has agreed to the
// IDLE, and told for each growth of the selected mailbox since SELECT or the last notice; both run on the caller's goroutine. The error says why it
// ended; after that of ctx the session stays usable.
func (s *Session) Watch(ctx context.Context, standing func(), told func(Notice)) error {
	var idle *imapclient.IdleCommand
	err := s.do(ctx, "IDLE", func() (err error) {
		idle, err = s.client.Idle()
		return err
	})
	if err != nil {
		return err
	}
	standing()
	for {
		if n, ok := s.view.take(); ok {
			told(n)
		}
		select {
		case <-s.view.wake:
			continue
		case <-s.client.Closed():
			return fmt.Errorf("IDLE: %w", io.ErrUnexpectedEOF)
		case <-ctx.Done():
		}
		err := s.do(context.WithoutCancel(ctx), "DONE", func() error { return errors.Join(idle.Close(), idle.Wait()) })
		return errors.Join(ctx.Err(), err)
	}
}

// CopyRange copies the messages with the numbers first to last of the selected mailbox into a mailbox, which may be the selected one.
func (s *Session) CopyRange(ctx context.Context, first, last uint32, mailbox string) error {
	var set imap.SeqSet
	set.AddRange(first, last)
	return s.do(ctx, fmt.Sprintf("COPY %d:%d to %s", first, last, mailbox), func() error {
		_, err := s.client.Copy(set, mailbox).Wait()
		return err
	})
}

// ExpungeAfter removes all messages of the selected mailbox but the oldest keep.
func (s *Session) ExpungeAfter(ctx context.Context, keep uint32) error {
	s.view.mu.Lock()
	messages := s.view.messages
	s.view.mu.Unlock()
	if messages <= keep {
		return nil
	}
	var set imap.SeqSet
	set.AddRange(keep+1, messages)
	store := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}
	if err := s.do(ctx, "STORE", func() error { return s.client.Store(set, store, nil).Close() }); err != nil {
		return err
	}
	return s.Expunge(ctx)
}
