// Package client is the only door from frontends and bench into the cluster: find a recipient, take
// a message in, list and change mailboxes, read bytes, watch for changes.
//
// It finds each shard's leader and follows it when it moves, retries commands under one
// request id so that a retry is applied once, and does both inside the caller's deadline. What a
// caller gets is therefore either the result, or one of the errors below; a lost node behind the
// door is a pause. Reads are served by the nearest replica once that has applied all that the
// caller may expect: its own writes always, and everybody's acknowledged writes for those
// methods whose comment says "strong".
package client

import (
	"context"
	"errors"
	"io"

	"github.com/RoaringBitmap/roaring/v2"
)

// What a frontend must tell apart. ErrUnavailable means "later": 4xx in SMTP, NO [UNAVAILABLE] in IMAP.
var (
	ErrUnavailable    = errors.New("temporarily unavailable")
	ErrBadCredentials = errors.New("bad credentials")
	ErrNoUser         = errors.New("no such user")
	ErrNotLocal       = errors.New("domain is not local")
	ErrNoMailbox      = errors.New("no such mailbox")
	ErrExists         = errors.New("mailbox exists")
	ErrInvalidName    = errors.New("invalid mailbox name")
	ErrLimit          = errors.New("over a limit")
	ErrNoMessage      = errors.New("message has been expunged")
)

// Client is one node's door. Safe for concurrent use.
type Client struct{}

// Resolve finds the account that mail for address goes to. ErrNoUser, ErrNotLocal, ErrUnavailable.
func (c *Client) Resolve(ctx context.Context, address string) (Account, error) { panic("wired soon") }

// Authenticate checks a password. ErrBadCredentials (also for unknown users, in the same time), ErrUnavailable.
func (c *Client) Authenticate(ctx context.Context, address, password string) (Account, error) { panic("wired soon") }

// MaxMessage is the largest message in bytes that the cluster takes.
func (c *Client) MaxMessage() int64 { panic("wired soon") }

// NewDraft starts taking a message in. Always Close it.
func (c *Client) NewDraft() *Draft { panic("wired soon") }

// Draft is a message on its way in: write its raw bytes, then Deliver or Append it. Bounded memory: a large
// body spools to an unlinked temporary file.
type Draft struct{}

// Write adds raw bytes. ErrLimit once the message is over MaxMessage.
func (d *Draft) Write(p []byte) (int, error) { panic("wired soon") }

// Close drops the draft's spool.
func (d *Draft) Close() error { panic("wired soon") }

// Delivery says for whom a draft is.
type Delivery struct {
	From       string    // envelope sender, "" for bounces
	Recipients []Account // each gets it once in INBOX
}

// Deliver stores the draft once and enters it in every recipient's INBOX. The result has one
// error per recipient, nil only when the bytes are durable on all copies and the entry is committed.
func (c *Client) Deliver(ctx context.Context, d *Draft, to Delivery) []error { panic("wired soon") }

// Append enters the draft in one mailbox. date has the zone that the client gave.
func (c *Client) Append(ctx context.Context, a Account, mailbox string, d *Draft, f Flags, date Date) (uidValidity, uid uint32, err error) { panic("wired soon") }

// Date is an internal date: unix seconds and the zone's offset in minutes, kept as the client gave it.
type Date struct {
	Unix int64
	Zone int16
}

// Mailboxes lists all folders. Strong.
func (c *Client) Mailboxes(ctx context.Context, a Account) ([]Mailbox, error) { panic("wired soon") }

// Subscriptions lists the subscribed names, also of folders that are gone (RFC 3501 section 6.3.9). Strong.
func (c *Client) Subscriptions(ctx context.Context, a Account) ([]string, error) { panic("wired soon") }

// Status is one folder by name. Strong.
func (c *Client) Status(ctx context.Context, a Account, name string) (Mailbox, error) { panic("wired soon") }

// Selected is what opening a mailbox shows.
type Selected struct {
	Mailbox Mailbox
	UIDs    *roaring.Bitmap // all messages; rank is the sequence number
	Unseen  *roaring.Bitmap // those without \Seen
}

// Select opens a folder by name: strong, one consistent snapshot.
func (c *Client) Select(ctx context.Context, a Account, name string) (Selected, error) { panic("wired soon") }

// CreateMailbox makes a folder and its missing parents. specialUse is "" or like `\Archive` (RFC 6154).
func (c *Client) CreateMailbox(ctx context.Context, a Account, name, specialUse string) (Mailbox, error) { panic("wired soon") }

// DeleteMailbox removes a folder and its messages; children stay (RFC 3501 section 6.3.4).
func (c *Client) DeleteMailbox(ctx context.Context, a Account, name string) error { panic("wired soon") }

// RenameMailbox renames a folder with its children; of INBOX it moves the messages (RFC 3501 section 6.3.5).
func (c *Client) RenameMailbox(ctx context.Context, a Account, from, to string) error { panic("wired soon") }

// Subscribe sets or clears a subscription.
func (c *Client) Subscribe(ctx context.Context, a Account, name string, on bool) error { panic("wired soon") }

// Messages calls fn for each message of uids that exists, ascending by UID. fn must not keep m.
func (c *Client) Messages(ctx context.Context, a Account, mailbox uint32, uids *roaring.Bitmap, want Want, fn func(m *Message) error) error { panic("wired soon") }

// Flagged is the set of messages with a system flag (an index.Flag… bit), from summaries alone.
func (c *Client) Flagged(ctx context.Context, a Account, mailbox uint32, flag uint8) (*roaring.Bitmap, error) { panic("wired soon") }

// Changes is what happened since a modseq: new and changed messages, vanished UIDs. ErrNoMailbox when the folder is gone.
func (c *Client) Changes(ctx context.Context, a Account, mailbox uint32, since uint64) (Changes, error) { panic("wired soon") }

// StoreFlags changes flags. unchangedSince 0 means always (RFC 7162 section 3.1.3); failed are the UIDs it held back.
func (c *Client) StoreFlags(ctx context.Context, a Account, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) (changed []FlagChange, failed *roaring.Bitmap, err error) { panic("wired soon") }

// Copy copies messages to a folder by name, in one step for all.
func (c *Client) Copy(ctx context.Context, a Account, mailbox uint32, uids *roaring.Bitmap, to string) (CopyResult, error) { panic("wired soon") }

// Move copies and expunges in one step (RFC 6851).
func (c *Client) Move(ctx context.Context, a Account, mailbox uint32, uids *roaring.Bitmap, to string) (CopyResult, error) { panic("wired soon") }

// Expunge removes messages for good: those of uids, or all when nil; with onlyDeleted only those with \Deleted.
func (c *Client) Expunge(ctx context.Context, a Account, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) { panic("wired soon") }

// Read streams n raw bytes of a message from off (n may reach past the end), verified as they pass.
func (c *Client) Read(ctx context.Context, ref Ref, off, n uint64) (io.ReadCloser, error) { panic("wired soon") }

// Watch wakes its channel (capacity one, never closed before cancel) after each change to the account's
// folder (0: to any of its folders), also after a failover or a lost watch: wake-ups may be spurious, never missed.
func (c *Client) Watch(a Account, mailbox uint32) (wake <-chan struct{}, cancel func()) { panic("wired soon") }
