package imap

import (
	"context"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
)

// mail is the part of the cluster's door that a session needs. It is an interface so that tests can let messages
// vanish and shards fail between any two of its calls.
type mail interface {
	Authenticate(ctx context.Context, address, password string) (client.Account, error)
	MaxMessage() int64
	NewDraft() draft
	Append(ctx context.Context, a client.Account, mailbox string, d draft, f client.Flags, date client.Date) (uidValidity, uid uint32, err error)
	Mailboxes(ctx context.Context, a client.Account) ([]client.Mailbox, error)
	Subscriptions(ctx context.Context, a client.Account) ([]string, error)
	Status(ctx context.Context, a client.Account, name string) (client.Mailbox, error)
	Select(ctx context.Context, a client.Account, name string) (client.Selected, error)
	CreateMailbox(ctx context.Context, a client.Account, name, specialUse string) (client.Mailbox, error)
	DeleteMailbox(ctx context.Context, a client.Account, name string) error
	RenameMailbox(ctx context.Context, a client.Account, from, to string) error
	Subscribe(ctx context.Context, a client.Account, name string, on bool) error
	Messages(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, want client.Want, fn func(m *client.Message) error) error
	Flagged(ctx context.Context, a client.Account, mailbox uint32, flag uint8) (*roaring.Bitmap, error)
	Changes(ctx context.Context, a client.Account, mailbox uint32, since uint64) (client.Changes, error)
	StoreFlags(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, op client.FlagOp, f client.Flags, unchangedSince uint64) ([]client.FlagChange, *roaring.Bitmap, error)
	Copy(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error)
	Move(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error)
	Expunge(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error)
	Open(ctx context.Context, a client.Account, mailbox, uid uint32, ref client.Ref, off, n uint64) (io.ReadCloser, error)
	Candidates(ctx context.Context, a client.Account, mailbox, uidValidity uint32, text string) (through uint32, uids *roaring.Bitmap)
	Quota(ctx context.Context, a client.Account) (client.Quota, error)
	Room(ctx context.Context, a client.Account, bytes uint64) error
	Doubt(a client.Account, mailbox, uid uint32, ref client.Ref)
	WatchFunc(a client.Account, mailbox uint32, wake func()) (cancel func())
}

// draft is a message on its way in.
type draft interface {
	io.Writer
	Close() error
}

// door is the real mail.
type door struct{ *client.Client }

func (d door) NewDraft() draft { return d.Client.NewDraft() }

func (d door) Append(ctx context.Context, a client.Account, mailbox string, m draft, f client.Flags, date client.Date) (uidValidity, uid uint32, err error) {
	m2, ok := m.(*client.Draft)
	if !ok {
		return 0, 0, fmt.Errorf("draft of another door: %T", m)
	}
	return d.Client.Append(ctx, a, mailbox, m2, f, date)
}
