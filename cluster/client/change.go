package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// changeBatch is how many messages one command may touch: a large change goes in several, so that it never holds up the
// shard's other mailboxes for long.
const changeBatch = 10_000

// MaxCopy is how many messages one Copy or Move takes: it writes more for each.
const MaxCopy = 1_000

// batches calls fn with runs of at most n of the set's UIDs, encoded, ascending.
func batches(uids *roaring.Bitmap, n int, fn func(set []byte) error) error {
	it := uids.ManyIterator()
	buf := make([]uint32, n)
	for {
		k := it.NextMany(buf)
		if k == 0 {
			return nil
		}
		set, err := mailbox.EncodeUIDs(roaring.BitmapOf(buf[:k]...))
		if err != nil {
			return err
		}
		if err := fn(set); err != nil {
			return err
		}
	}
}

// CreateMailbox makes a folder and its missing parents. specialUse is "" or like `\Archive` (RFC 6154).
func (c *Client) CreateMailbox(ctx context.Context, a Account, name, specialUse string) (Mailbox, error) {
	r, err := c.changeAccount(ctx, a, &mailbox.Command{Create: &mailbox.Create{Account: a.ID, Name: name, SpecialUse: specialUse}})
	if err != nil {
		return Mailbox{}, err
	}
	if r.Mailbox == nil {
		return Mailbox{}, unavailable(errors.New("the folder's state is missing in the answer"))
	}
	return *r.Mailbox, nil
}

// DeleteMailbox removes a folder and its messages; children stay (RFC 3501 section 6.3.4).
func (c *Client) DeleteMailbox(ctx context.Context, a Account, name string) error {
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Delete: &mailbox.Delete{Account: a.ID, Name: name}})
	return err
}

// RenameMailbox renames a folder with its children; of INBOX it moves the messages (RFC 3501 section 6.3.5).
func (c *Client) RenameMailbox(ctx context.Context, a Account, from, to string) error {
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Rename: &mailbox.Rename{Account: a.ID, From: from, To: to}})
	return err
}

// Subscribe sets or clears a subscription.
func (c *Client) Subscribe(ctx context.Context, a Account, name string, on bool) error {
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Subscribe: &mailbox.Subscribe{Account: a.ID, Name: name, On: on}})
	return err
}

// Stored is what a change of flags came to.
type Stored struct {
	Changed []FlagChange    // of many messages as they were a moment later, when others may have changed them again
	Failed  *roaring.Bitmap // those that unchangedSince held back
	Own     []uint64        // modseqs that this change gave, and no other, as far as that is certain
}

// StoreFlags changes flags. unchangedSince 0 means always (RFC 7162 section 3.1.3).
func (c *Client) StoreFlags(ctx context.Context, a Account, folder uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) (Stored, error) {
	out := Stored{Failed: roaring.New()}
	err := batches(uids, changeBatch, func(set []byte) error {
		r, err := c.changeAccount(ctx, a, &mailbox.Command{Store: &mailbox.Store{
			Account: a.ID, Mailbox: folder, UIDs: set, Op: uint8(op), System: f.System, Keywords: f.Keywords, UnchangedSince: unchangedSince,
		}})
		if err != nil {
			return err
		}
		held, err := mailbox.DecodeUIDs(r.Failed)
		if err != nil {
			return err
		}
		out.Failed.Or(held)
		out.Changed = append(out.Changed, r.Changed...)
		if len(r.Changed) > 0 {
			out.Own = append(out.Own, r.Changed[0].ModSeq)
		}
		return c.readStored(ctx, a, folder, r, &out)
	})
	return out, err
}

// readStored reads the flags that a result was too small for. An entry gives what it changes one modseq, which is its number unless the mailbox was beyond
// that already, and what is changed later gets a higher one: so where the entry's number is found, it is the modseq of this change.
func (c *Client) readStored(ctx context.Context, a Account, folder uint32, r *mailbox.Result, out *Stored) error {
	many, err := mailbox.DecodeUIDs(r.UIDs)
	if err != nil || many.IsEmpty() {
		return err
	}
	own := false
	err = c.Messages(ctx, a, folder, many, index.WantFlags, func(m *Message) error {
		out.Changed = append(out.Changed, FlagChange{UID: m.UID, ModSeq: m.ModSeq, Flags: m.Flags})
		own = own || m.ModSeq == r.Entry
		return nil
	})
	if own {
		out.Own = append(out.Own, r.Entry)
	}
	return err
}

// CopyResult pairs the UIDs of copied or moved messages (RFC 4315, COPYUID).
type CopyResult struct {
	UIDValidity uint32   // of the destination
	Source      []uint32 // ascending
	Dest        []uint32 // same length, in the order of Source
}

// Copy copies up to MaxCopy messages to a folder by name, all of them or none. After ErrUnavailable, which it waits out as long as ctx lets it, they may still be copied.
func (c *Client) Copy(ctx context.Context, a Account, folder uint32, uids *roaring.Bitmap, to string) (CopyResult, error) {
	l, err := c.limits(ctx, a)
	if err != nil {
		return CopyResult{}, err
	}
	return c.copy(ctx, a, &mailbox.Copy{Account: a.ID, Mailbox: folder, To: to, Limits: carried(l.Limits)}, uids)
}

// Move is Copy that expunges what it copied, in the same step (RFC 6851).
func (c *Client) Move(ctx context.Context, a Account, folder uint32, uids *roaring.Bitmap, to string) (CopyResult, error) {
	return c.copy(ctx, a, &mailbox.Copy{Account: a.ID, Mailbox: folder, To: to, Move: true}, uids)
}

func (c *Client) copy(ctx context.Context, a Account, cmd *mailbox.Copy, uids *roaring.Bitmap) (out CopyResult, err error) {
	if n := uids.GetCardinality(); n > MaxCopy {
		return out, fmt.Errorf("%w: %d messages are to be copied at once, and %d may be", ErrLimit, n, MaxCopy)
	}
	if cmd.UIDs, err = mailbox.EncodeUIDs(uids.Clone()); err != nil {
		return out, err
	}
	cmd.Dated = c.Sharing()
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.enter(ctx, a, decided(c.changeAs), anew(&mailbox.Command{Copy: cmd}))
	if err != nil {
		return out, err
	}
	from, err := mailbox.DecodeUIDs(r.UIDs)
	if err != nil {
		return out, err
	}
	out.UIDValidity, out.Source = r.UIDValidity, from.ToArray()
	for i := range out.Source {
		out.Dest = append(out.Dest, r.FirstUID+uint32(i))
	}
	return out, nil
}

// Expunge removes messages for good: those of uids, with onlyDeleted only if they have \Deleted; when uids is nil, all
// that have it.
func (c *Client) Expunge(ctx context.Context, a Account, folder uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) {
	if uids == nil {
		var err error
		if uids, err = c.Flagged(ctx, a, folder, index.FlagDeleted); err != nil {
			return nil, err
		}
		onlyDeleted = true
	}
	gone := roaring.New()
	err := batches(uids, changeBatch, func(set []byte) error {
		r, err := c.changeAccount(ctx, a, &mailbox.Command{Expunge: &mailbox.Expunge{Account: a.ID, Mailbox: folder, UIDs: set, OnlyDeleted: onlyDeleted}})
		if err != nil {
			return err
		}
		part, err := mailbox.DecodeUIDs(r.UIDs)
		if err != nil {
			return err
		}
		gone.Or(part)
		return nil
	})
	return gone, err
}
