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
	Textual(d draft) (textual draft, size int64, err error)
	Append(ctx context.Context, a client.Account, mailbox string, d draft, f client.Flags, date client.Date) (uidValidity, uid uint32, err error)
	Sharing() bool
	NewBatch(a client.Account, mailbox string) batch
	Replace(ctx context.Context, a client.Account, from, uid uint32, mailbox string, d draft, f client.Flags, date client.Date) (uidValidity, added uint32, err error)
	Annotations(ctx context.Context, a client.Account, mailbox string) ([]client.Annotation, error)
	Notes(ctx context.Context, a client.Account) ([]client.Annotation, error)
	Annotate(ctx context.Context, a client.Account, mailbox string, list []client.Annotation) error
	Resolve(ctx context.Context, address string) (client.Account, error)
	Visit(ctx context.Context, guest client.Account, address string) (client.Account, error)
	Rights(ctx context.Context, a client.Account, mailbox string) (client.Rights, error)
	Grants(ctx context.Context, a client.Account, mailbox string) ([]client.Grant, error)
	Share(ctx context.Context, a client.Account, mailbox string, user client.Account, op client.FlagOp, r client.Rights) error
	Shared(ctx context.Context, a client.Account) ([]client.Shared, error)
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
	Changes(ctx context.Context, a client.Account, mailbox uint32, since uint64, but ...uint64) (client.Changes, error)
	StoreFlags(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, op client.FlagOp, f client.Flags, unchangedSince uint64) (client.Stored, error)
	Copy(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error)
	Move(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error)
	Expunge(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error)
	Open(ctx context.Context, a client.Account, mailbox, uid uint32, ref client.Ref, off, n uint64) (io.ReadCloser, error)
	Candidates(ctx context.Context, a client.Account, mailbox, uidValidity uint32, text string) (through uint32, uids *roaring.Bitmap)
	Quota(ctx context.Context, a client.Account) (client.Quota, error)
	Room(ctx context.Context, a client.Account, bytes uint64) error
	Doubt(a client.Account, mailbox, uid uint32, ref client.Ref)
	Told(ctx context.Context, list []client.Told) error
	WatchFunc(a client.Account, mailbox uint32, wake func()) (cancel func())
}

// draft is a message on its way in.
type draft interface {
	io.Writer
	Close() error
}

// batch is several messages on their way into one mailbox, all or none.
type batch interface {
	Add(ctx context.Context, d draft, f client.Flags, date client.Date) error
	Commit(ctx context.Context) (uidValidity, first uint32, err error)
}

// door is the real mail.
type door struct{ *client.Client }

func (d door) NewDraft() draft { return d.Client.NewDraft() }

func (d door) Textual(m draft) (textual draft, size int64, err error) {
	ours, err := draftOf(m)
	if err != nil {
		return m, 0, err
	}
	ours, err = d.Client.Textual(ours)
	return ours, ours.Size(), err
}

func (d door) Append(ctx context.Context, a client.Account, mailbox string, m draft, f client.Flags, date client.Date) (uidValidity, uid uint32, err error) {
	ours, err := draftOf(m)
	if err != nil {
		return 0, 0, err
	}
	return d.Client.Append(ctx, a, mailbox, ours, f, date)
}

func (d door) Replace(ctx context.Context, a client.Account, from, uid uint32, mailbox string, m draft, f client.Flags, date client.Date) (uidValidity, added uint32, err error) {
	ours, err := draftOf(m)
	if err != nil {
		return 0, 0, err
	}
	return d.Client.Replace(ctx, a, from, uid, mailbox, ours, f, date)
}

func (d door) NewBatch(a client.Account, mailbox string) batch {
	return doorBatch{d.Client.NewBatch(a, mailbox)}
}

// doorBatch is the real batch.
type doorBatch struct{ *client.Batch }

func (b doorBatch) Add(ctx context.Context, m draft, f client.Flags, date client.Date) error {
	ours, err := draftOf(m)
	if err != nil {
		return err
	}
	return b.Batch.Add(ctx, ours, f, date)
}

// draftOf is the cluster's draft in ours.
func draftOf(m draft) (*client.Draft, error) {
	d, ok := m.(*client.Draft)
	if !ok {
		return nil, fmt.Errorf("draft of another door: %T", m)
	}
	return d, nil
}
