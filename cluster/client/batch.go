package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/codec"
	"hongyan/engine/volume"
)

// Bounds of a Batch.
const (
	// MaxBatch is how many messages it takes.
	MaxBatch = mailbox.MaxAppends
	// batchBytes is what its command takes in the log: a shard takes 256 KiB, less a little for what is not counted here.
	batchBytes  = 240 << 10
	entryMargin = 128 // bytes of a message in the command but for its summary and keywords
)

// Sharing says whether every node of the cluster knows feature.Sharing, which batches, replacements, the dates of copies and annotations need.
func (c *Client) Sharing() bool { return c.cfg.Directory.Level() >= feature.Sharing }

// Batch is several messages on their way into one folder: all of them, or none. Their bytes become durable one by one while they come, so that no more than one
// draft is held; nobody sees them before Commit. What is never committed is dead weight in a volume, which its collection removes. Not safe for concurrent use.
type Batch struct {
	c       *Client
	account Account
	name    string
	size    int // of the command so far, about
	list    []placed
}

// placed is a message whose bytes are durable.
type placed struct {
	message  mailbox.Message
	delivery [16]byte
}

// NewBatch begins to append several messages to a folder.
func (c *Client) NewBatch(a Account, name string) *Batch {
	return &Batch{c: c, account: a, name: name, size: len(name)}
}

// Add stores a draft's bytes on every copy of some volume. The draft may be closed then. ErrLimit: the batch takes no more messages.
func (b *Batch) Add(ctx context.Context, d *Draft, f Flags, date Date) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if len(b.list) >= MaxBatch {
		return fmt.Errorf("%w: more than %d messages at once", ErrLimit, MaxBatch)
	}
	if err := d.finish(); err != nil {
		return err
	}
	size := len(d.summary) + entryMargin
	for _, k := range f.Keywords {
		size += len(k) + 2
	}
	if b.size += size; b.size > batchBytes {
		return fmt.Errorf("%w: what lists show of the messages takes more than %d bytes in one command", ErrLimit, batchBytes)
	}
	p, err := b.c.put(ctx, b.account, b.name, d, f, date)
	if err == nil {
		b.list = append(b.list, p)
	}
	return err
}

// put makes a draft's bytes durable on every copy of some volume, for an append to a folder.
func (c *Client) put(ctx context.Context, a Account, name string, d *Draft, f Flags, date Date) (placed, error) {
	var p placed
	rule, err := c.policyOf(ctx, a)
	if err != nil {
		return p, err
	}
	rand.Read(p.delivery[:])
	origin := mailbox.Origin{
		Delivery: p.delivery, Date: date.Unix, Zone: date.Zone, System: f.System, Keywords: f.Keywords,
		Targets: []mailbox.Target{{Account: a.ID, Mailbox: name}}, Arrived: c.cfg.Clock.Now().Unix(),
	}
	meta, err := codec.Marshal(&origin)
	if err != nil {
		return p, err
	}
	p.message = mailbox.Message{Summary: d.summary, Date: date.Unix, Zone: date.Zone, System: f.System, Keywords: f.Keywords}
	if p.message.Ref, err = c.cfg.Volumes.Put(ctx, c.placeOf(rule, a), volume.KindMessage, meta, d.blob); err != nil {
		return p, unavailable(err)
	}
	return p, nil
}

// Commit enters all messages that were added, in one step: nil only when that is committed; after ErrUnavailable, which it waits out as long as ctx lets it, they may still come. Their UIDs follow each other from first.
func (b *Batch) Commit(ctx context.Context) (uidValidity, first uint32, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	l, err := b.c.limits(ctx, b.account)
	if err != nil {
		return 0, 0, err
	}
	r, err := b.c.enter(ctx, b.account, decided(b.c.changeAs), func(number uint32) (shard.RequestID, *mailbox.Command) {
		all := &mailbox.AppendAll{Account: b.account.ID, Mailbox: b.name, Limits: carried(l.Limits)}
		for _, p := range b.list {
			all.List = append(all.List, mailbox.Entering{Message: p.message, Request: mailbox.Request(p.delivery, number)})
		}
		return shard.NewRequestID(), &mailbox.Command{AppendAll: all}
	})
	if errors.Is(err, errCondemned) { // minutes passed since the first was put: rare, and the drafts are gone
		err = unavailable(err)
	}
	if err != nil {
		return 0, 0, err
	}
	return r.UIDValidity, r.FirstUID, nil
}

// Replace appends a draft to the folder name and removes the message uid of folder from, in one step (RFC 8508). ErrNoMessage: that is gone, and nothing was done.
func (c *Client) Replace(ctx context.Context, a Account, from, uid uint32, name string, d *Draft, f Flags, date Date) (uidValidity, added uint32, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := d.finish(); err != nil {
		return 0, 0, err
	}
	l, err := c.limits(ctx, a)
	if err != nil {
		return 0, 0, err
	}
	for range maxPuts {
		var p placed
		if p, err = c.put(ctx, a, name, d, f, date); err != nil {
			return 0, 0, err
		}
		var r *mailbox.Result
		r, err = c.enter(ctx, a, c.changeAs, func(number uint32) (shard.RequestID, *mailbox.Command) {
			replace := &mailbox.Replace{Account: a.ID, Mailbox: name, Message: p.message, From: from, UID: uid, Limits: carried(l.Limits)}
			return mailbox.Request(p.delivery, number), &mailbox.Command{Replace: replace}
		})
		if err == nil {
			return r.UIDValidity, r.FirstUID, nil
		}
		if !errors.Is(err, errCondemned) {
			return 0, 0, err
		}
	}
	return 0, 0, unavailable(err)
}
