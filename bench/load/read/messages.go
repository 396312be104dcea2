package read

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/bench/load"
)

// Item is a line of a message list.
type Item struct {
	UID      imap.UID
	Flags    []imap.Flag
	Size     int64
	Received time.Time
	Subject  string
	ID       string // Message-ID without brackets
}

// Newest lists the newest n messages of the selected mailbox, oldest first, as a reader does that opens it.
func (s *Session) Newest(ctx context.Context, n int) ([]Item, error) {
	s.view.mu.Lock()
	messages := s.view.messages
	s.view.mu.Unlock()
	if messages == 0 || n < 1 {
		return nil, nil
	}
	var set imap.SeqSet
	set.AddRange(messages-min(messages, uint32(n))+1, messages)
	return s.list(ctx, set)
}

// Since lists the messages of the selected mailbox whose UIDs are at least first.
func (s *Session) Since(ctx context.Context, first imap.UID) ([]Item, error) {
	var set imap.UIDSet
	set.AddRange(first, 0)
	items, err := s.list(ctx, set)
	for len(items) > 0 && items[0].UID < first { // "first:*" names the last message even when its UID is lower
		items = items[1:]
	}
	return items, err
}

func (s *Session) list(ctx context.Context, set imap.NumSet) (items []Item, err error) {
	what := &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true}
	err = s.do(ctx, "FETCH of a list", func() error {
		found, err := s.client.Fetch(set, what).Collect()
		for _, f := range found {
			item := Item{UID: f.UID, Flags: f.Flags, Size: f.RFC822Size, Received: f.InternalDate}
			if f.Envelope != nil {
				item.Subject, item.ID = f.Envelope.Subject, f.Envelope.MessageID
			}
			items = append(items, item)
		}
		return err
	})
	return items, err
}

// Header fetches a message's header and leaves it unread.
func (s *Session) Header(ctx context.Context, uid imap.UID) ([]byte, error) {
	return s.section(ctx, "FETCH of a header", uid, &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true})
}

// Header is the part of a message's header that a phone shows, with the bench's stamp.
type Header struct {
	UID imap.UID
	Raw []byte
}

// HeadersSince fetches the headers of the messages whose UIDs are at least first, in one command, as a phone does after a notice.
func (s *Session) HeadersSince(ctx context.Context, first imap.UID) (headers []Header, err error) {
	section := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true,
		HeaderFields: []string{"From", "Subject", "Date", "Message-ID", load.StampHeader}}
	var set imap.UIDSet
	set.AddRange(first, 0)
	err = s.do(ctx, "FETCH of headers", func() error {
		found, err := s.client.Fetch(set, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		for _, f := range found {
			if f.UID >= first { // "first:*" names the last message even when its UID is lower
				headers = append(headers, Header{UID: f.UID, Raw: f.FindBodySection(section)})
			}
		}
		return err
	})
	return headers, err
}

// Body fetches a whole message and leaves it unread.
func (s *Session) Body(ctx context.Context, uid imap.UID) ([]byte, error) {
	return s.section(ctx, "FETCH of a message", uid, &imap.FetchItemBodySection{Peek: true})
}

// errGone means that a message is not there, which other sessions may have caused.
var errGone = &imap.Error{Type: imap.StatusResponseTypeNo, Text: "the server sent no such message"}

func (s *Session) section(ctx context.Context, what string, uid imap.UID, section *imap.FetchItemBodySection) (raw []byte, err error) {
	err = s.do(ctx, what, func() error {
		cmd := s.client.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}})
		for m := cmd.Next(); m != nil; m = cmd.Next() {
			for item := m.Next(); item != nil; item = m.Next() {
				data, ok := item.(imapclient.FetchItemDataBodySection)
				if !ok || data.Literal == nil {
					continue
				}
				raw = make([]byte, data.Literal.Size())
				if _, err := io.ReadFull(data.Literal, raw); err != nil {
					return errors.Join(err, cmd.Close())
				}
			}
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		if raw == nil {
			return errGone
		}
		return nil
	})
	return raw, err
}

// SetFlag adds a flag to a message, or takes it away.
func (s *Session) SetFlag(ctx context.Context, uid imap.UID, flag imap.Flag, on bool) error {
	store := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{flag}, Silent: true}
	if !on {
		store.Op = imap.StoreFlagsDel
	}
	return s.do(ctx, "STORE", func() error { return s.client.Store(imap.UIDSetNum(uid), store, nil).Close() })
}

// SearchHeader finds messages whose header field contains the value.
func (s *Session) SearchHeader(ctx context.Context, field, value string) ([]imap.UID, error) {
	return s.search(ctx, &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: field, Value: value}}})
}

// SearchText finds messages that contain the text anywhere.
func (s *Session) SearchText(ctx context.Context, text string) ([]imap.UID, error) {
	return s.search(ctx, &imap.SearchCriteria{Text: []string{text}})
}

// Unseen finds messages that are not read.
func (s *Session) Unseen(ctx context.Context) ([]imap.UID, error) {
	return s.search(ctx, &imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}})
}

func (s *Session) search(ctx context.Context, c *imap.SearchCriteria) (uids []imap.UID, err error) {
	err = s.do(ctx, "SEARCH", func() error {
		data, err := s.client.UIDSearch(c, nil).Wait()
		if err == nil {
			uids = data.AllUIDs()
		}
		return err
	})
	return uids, err
}

// Append puts a message into a mailbox. The UID is 0 when the server does not tell it (no UIDPLUS).
func (s *Session) Append(ctx context.Context, mailbox string, raw []byte) (uid imap.UID, err error) {
	err = s.do(ctx, "APPEND to "+mailbox, func() error {
		cmd := s.client.Append(mailbox, int64(len(raw)), nil)
		if _, err := cmd.Write(raw); err != nil {
			return errors.Join(err, cmd.Close())
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		data, err := cmd.Wait()
		if err == nil {
			uid = data.UID
		}
		return err
	})
	return uid, err
}

// Copy puts a copy of a message into another mailbox.
func (s *Session) Copy(ctx context.Context, uid imap.UID, mailbox string) error {
	return s.do(ctx, "COPY to "+mailbox, func() error {
		_, err := s.client.Copy(imap.UIDSetNum(uid), mailbox).Wait()
		return err
	})
}

// Move puts a message into another mailbox; where the server has no MOVE, by COPY, STORE and EXPUNGE.
func (s *Session) Move(ctx context.Context, uid imap.UID, mailbox string) error {
	return s.do(ctx, "MOVE to "+mailbox, func() error {
		_, err := s.client.Move(imap.UIDSetNum(uid), mailbox).Wait()
		return err
	})
}

// Expunge removes what has \Deleted.
func (s *Session) Expunge(ctx context.Context) error {
	return s.do(ctx, "EXPUNGE", func() error { return s.client.Expunge().Close() })
}

// Create makes a mailbox.
func (s *Session) Create(ctx context.Context, mailbox string) error {
	return s.do(ctx, "CREATE "+mailbox, func() error { return s.client.Create(mailbox, nil).Wait() })
}

// Mailboxes lists the names of all mailboxes that can be selected.
func (s *Session) Mailboxes(ctx context.Context) (names []string, err error) {
	err = s.do(ctx, "LIST", func() error {
		found, err := s.client.List("", "*", nil).Collect()
		for _, m := range found {
			if !slices.Contains(m.Attrs, imap.MailboxAttrNoSelect) {
				names = append(names, m.Mailbox)
			}
		}
		return err
	})
	return names, err
}

// Noop lets the server tell what is new.
func (s *Session) Noop(ctx context.Context) error {
	return s.do(ctx, "NOOP", func() error { return s.client.Noop().Wait() })
}
