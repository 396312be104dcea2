package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// A message whose entry contradicts the volumes is looked into on access, by package reconcile; here is what the door does of that: it notices, it asks, and it
// carries out the changes.

// What a message may have met, besides ErrUnavailable.
var (
	// ErrLost: every volume that could hold the message's bytes was read, and none does. The entry stays. Asking again does not help; an operator may.
	ErrLost = errors.New("the message's bytes are in no volume")
	// ErrAmended: the entry said something wrong of the message and has been corrected: load it again.
	ErrAmended = errors.New("the message's entry has been corrected")
)

// Mender looks into contradictions between entries and volumes.
type Mender interface {
	// Mend says where the message is that an entry, which refers to seen, is of. ErrLost, ErrNoMessage, or ErrUnavailable: not known now.
	Mend(ctx context.Context, a Account, folder, uid uint32, seen Ref) (Ref, error)
	// Doubt begins the same and waits for nothing.
	Doubt(a Account, folder, uid uint32, seen Ref)
	// Recount makes a folder's counts follow from its messages, if they do not.
	Recount(ctx context.Context, a Account, folder uint32) (changed bool, err error)
}

// Open is Read of a message of a folder. If its bytes are not where its entry says the entry is looked into: ErrLost, ErrAmended, or the bytes from where they are.
func (c *Client) Open(ctx context.Context, a Account, folder, uid uint32, ref Ref, off, n uint64) (io.ReadCloser, error) {
	r, err := c.cfg.Volumes.Read(ctx, ref, off, n)
	if err == nil {
		return r, nil
	}
	m := c.mender()
	if m == nil || ctx.Err() != nil {
		return nil, unavailable(err)
	}
	if !errors.Is(err, wire.ErrNotFound) { // it may be more than a node that is down
		m.Doubt(a.owned(), folder, uid, ref)
		return nil, unavailable(err)
	}
	now, mendErr := m.Mend(ctx, a.owned(), folder, uid, ref)
	switch {
	case mendErr != nil:
		return nil, fmt.Errorf("%w; %w", mendErr, err)
	case now.Hash != ref.Hash || now.Length != ref.Length:
		return nil, ErrAmended
	}
	return c.Read(ctx, now, off, n)
}

// Doubt has a message's entry looked into, whose summary cannot be read. It waits for nothing.
func (c *Client) Doubt(a Account, folder, uid uint32, ref Ref) {
	if m := c.mender(); m != nil {
		m.Doubt(a.owned(), folder, uid, ref)
	}
}

func (c *Client) mender() Mender {
	if c.cfg.Mender == nil || c.cfg.Directory.Level() < feature.Moves { // older programs do not know the commands
		return nil
	}
	return c.cfg.Mender()
}

// Shard is where an account is, as far as this door has heard.
func (c *Client) Shard(a Account) uint32 { return c.places.of(a.ID, a.Shard) }

// Entry is one message's entry with all that was acknowledged before the call. ErrNoMessage.
func (c *Client) Entry(ctx context.Context, a Account, folder, uid uint32) (Message, error) {
	set, err := mailbox.EncodeUIDs(roaring.BitmapOf(uid))
	if err != nil {
		return Message{}, err
	}
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Mailbox: folder, Kind: mailbox.QueryMessages, UIDs: set, Want: uint8(index.WantImmutable | index.WantSummary)}
	f, err := c.one(ctx, q, true)
	if err != nil {
		return Message{}, err
	}
	if len(f.Messages) == 0 {
		return Message{}, ErrNoMessage
	}
	return f.Messages[0], nil
}

// Listed is the set of a folder's messages, with all that was acknowledged before the call; unlike Select it mends nothing.
func (c *Client) Listed(ctx context.Context, a Account, name string) (*roaring.Bitmap, error) {
	f, err := c.named(ctx, a, mailbox.QuerySelect, name)
	if err != nil {
		return nil, err
	}
	return mailbox.DecodeUIDs(f.UIDs)
}

// Amend corrects an entry that still is as it was seen, and says whether it did.
func (c *Client) Amend(ctx context.Context, a Account, folder uint32, entry index.Amendment) (changed bool, err error) {
	r, err := c.changeAccount(ctx, a, &mailbox.Command{Amend: &mailbox.Amend{Account: a.ID, Mailbox: folder, Entry: entry}})
	if errors.Is(err, errCondemned) {
		err = unavailable(err)
	}
	return err == nil && r.Done, err
}

// Recount makes a folder's counts follow from its messages, and says whether they did not.
func (c *Client) Recount(ctx context.Context, a Account, folder uint32) (changed bool, err error) {
	r, err := c.changeAccount(ctx, a, &mailbox.Command{Recount: &mailbox.Recount{Account: a.ID, Mailbox: folder}})
	return err == nil && r.Done, err
}

// Copied is a message whose bytes were put once more.
type Copied struct {
	Ref     Ref
	Summary []byte // encoded
}

// Again puts a message's bytes once more, for an account, with the metadata that its record has. from has to give all of them; what they are not, by length and
// hash, is refused.
func (c *Client) Again(ctx context.Context, a Account, ref Ref, meta []byte, from io.Reader) (Copied, error) {
	rule, err := c.policyOf(ctx, a)
	if err != nil {
		return Copied{}, err
	}
	return c.AgainUnder(ctx, replica.Place{Home: a.Home, Policy: rule}, ref, meta, from)
}

// AgainUnder is Again in a place that the caller names.
func (c *Client) AgainUnder(ctx context.Context, to replica.Place, ref Ref, meta []byte, from io.Reader) (Copied, error) {
	d := c.NewDraft()
	defer func() { _ = d.Close() }() // what matters is put by then
	if _, err := io.Copy(d, from); err != nil {
		return Copied{}, fmt.Errorf("copy a message: %w", err)
	}
	if err := d.finish(); err != nil {
		return Copied{}, err
	}
	if d.blob.Length() != ref.Length || d.blob.Hash() != ref.Hash {
		return Copied{}, unavailable(fmt.Errorf("record %d of volume %s has other bytes than its header says: scrub it", ref.Record, ref.Volume))
	}
	placed, err := c.cfg.Volumes.Put(ctx, to, volume.KindMessage, meta, d.blob)
	if err != nil {
		return Copied{}, unavailable(err)
	}
	return Copied{Ref: placed, Summary: d.summary}, nil
}
