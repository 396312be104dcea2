package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
)

const (
	wantImmutable client.Want = 1 << 1 // the part of a Message with its size and reference

	sizesChunk   = 4096                  // messages asked about at once
	expungeChunk = 10_000                // messages removed by one command
	callTime     = 12 * time.Second      // more than a new leader waits for a silent node that may have the lock
	readTries    = 8                     // to open, and open again, a message's bytes
	readPause    = 20 * time.Millisecond // before the second of them, doubled each time: 2.5 s in all
)

// maildrop is the INBOX as it was at login. Number n is the n-th of uids; deleted is a subset of them.
type maildrop struct {
	store   store
	account client.Account
	box     client.Mailbox
	uids    *roaring.Bitmap
	deleted *roaring.Bitmap
}

// openMaildrop takes the snapshot; Select is strong, so it holds all that was acknowledged before.
func openMaildrop(ctx context.Context, st store, a client.Account) (*maildrop, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	sel, err := st.Select(ctx, a, "INBOX")
	if err != nil {
		return nil, fmt.Errorf("open INBOX of account %d: %w", a.ID, err)
	}
	return &maildrop{store: st, account: a, box: sel.Mailbox, uids: sel.UIDs, deleted: roaring.New()}, nil
}

// count is the number of messages that are not marked.
func (m *maildrop) count() uint64 { return m.uids.GetCardinality() - m.deleted.GetCardinality() }

// uid is the UID of message number n, if there is one that is not marked.
func (m *maildrop) uid(n uint32) (uint32, bool) {
	if n == 0 || uint64(n) > m.uids.GetCardinality() {
		return 0, false
	}
	uid, err := m.uids.Select(n - 1)
	if err != nil || m.deleted.Contains(uid) {
		return 0, false
	}
	return uid, true
}

// name is a message's unique-id (RFC 1939 section 7), which no other message of the account ever has.
func (m *maildrop) name(uid uint32) string { return fmt.Sprintf("%d.%d", m.box.UIDValidity, uid) }

// message fetches the entry of one UID. client.ErrNoMessage when another session has removed it.
func (m *maildrop) message(ctx context.Context, uid uint32) (client.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var found *client.Message
	err := m.store.Messages(ctx, m.account, m.box.ID, roaring.BitmapOf(uid), wantImmutable, func(e *client.Message) error {
		found = &client.Message{UID: e.UID, Size: e.Size, Ref: e.Ref}
		return nil
	})
	if err != nil {
		return client.Message{}, fmt.Errorf("look up message %d of account %d: %w", uid, m.account.ID, err)
	}
	if found == nil {
		return client.Message{}, client.ErrNoMessage
	}
	return *found, nil
}

// size is the sum of all messages that are not marked. Usually nothing is, and the sum is known.
func (m *maildrop) size(ctx context.Context) (uint64, error) {
	total := m.box.Size
	if m.deleted.IsEmpty() {
		return total, nil
	}
	err := m.sizes(ctx, m.deleted, func(_, size uint64) error {
		total -= min(size, total)
		return nil
	})
	return total, err
}

// sizes calls fn with the number and size of each message of set, a subset of uids, that still exists. It
// asks for so many at a time, and holds nothing in the cluster while fn runs.
func (m *maildrop) sizes(ctx context.Context, set *roaring.Bitmap, fn func(number, size uint64) error) error {
	uids := make([]uint32, sizesChunk)
	var found []client.Message
	for it := set.ManyIterator(); ; {
		n := it.NextMany(uids)
		if n == 0 {
			return nil
		}
		found = found[:0]
		call, cancel := context.WithTimeout(ctx, callTime)
		err := m.store.Messages(call, m.account, m.box.ID, roaring.BitmapOf(uids[:n]...), wantImmutable, func(e *client.Message) error {
			found = append(found, client.Message{UID: e.UID, Size: e.Size})
			return nil
		})
		cancel()
		if err != nil {
			return fmt.Errorf("list messages of account %d: %w", m.account.ID, err)
		}
		for _, e := range found {
			if err := fn(m.uids.Rank(e.UID), e.Size); err != nil {
				return err
			}
		}
	}
}

// errReplaced: what stands under INBOX now numbers its messages anew.
var errReplaced = errors.New("the mailbox was replaced meanwhile")

// same makes sure that the UIDs of the snapshot still mean its messages: a mailbox that was restored from an older state has another UIDVALIDITY.
func (m *maildrop) same(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	now, err := m.store.Status(ctx, m.account, "INBOX")
	if err != nil {
		return fmt.Errorf("look at INBOX of account %d: %w", m.account.ID, err)
	}
	if now.ID != m.box.ID || now.UIDValidity != m.box.UIDValidity {
		return errReplaced
	}
	return nil
}

// commit removes what is marked and returns how many messages that was. After an error some may be left; one whose answer was lost may be
// removed and not counted. Before each part it looks whether the session has its lock.
func (m *maildrop) commit(ctx context.Context, by lock) (removed uint64, err error) {
	if m.deleted.IsEmpty() {
		return 0, nil
	}
	if err := m.same(ctx); err != nil {
		return 0, err
	}
	uids := make([]uint32, expungeChunk)
	for it := m.deleted.ManyIterator(); ; {
		n := it.NextMany(uids)
		if n == 0 {
			return removed, nil
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		err := by.Hold(call)
		var gone *roaring.Bitmap
		if err == nil {
			gone, err = m.store.Expunge(call, m.account, m.box.ID, roaring.BitmapOf(uids[:n]...), false)
		}
		cancel()
		if err != nil {
			return removed, fmt.Errorf("remove messages of account %d: %w", m.account.ID, err)
		}
		removed += gone.GetCardinality()
	}
}

// body reads a message's bytes, and goes on from another copy when one fails in the middle.
type body struct {
	ctx  context.Context
	drop *maildrop
	e    client.Message
	size uint64

	at    uint64
	tries int
	r     io.ReadCloser
}

func (m *maildrop) body(ctx context.Context, e client.Message) *body {
	return &body{ctx: ctx, drop: m, e: e, size: e.Size}
}

// Read returns io.EOF only after all of size.
func (b *body) Read(p []byte) (int, error) {
	for {
		if b.at >= b.size {
			return 0, io.EOF
		}
		n, err := b.read(p[:min(uint64(len(p)), b.size-b.at)])
		b.at += uint64(n)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		if b.tries++; b.tries >= readTries || errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrAmended) || b.ctx.Err() != nil {
			return 0, fmt.Errorf("read message at byte %d of %d: %w", b.at, b.size, err)
		}
		select {
		case <-b.ctx.Done():
		case <-time.After(readPause << (b.tries - 1)):
		}
	}
}

// read reads from the copy at hand; after an error the next call opens one again.
func (b *body) read(p []byte) (int, error) {
	if b.r == nil {
		r, err := b.drop.store.Open(b.ctx, b.drop.account, b.drop.box.ID, b.e.UID, b.e.Ref, b.at, b.size-b.at)
		if err != nil {
			return 0, err
		}
		b.r = r
	}
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // unless these were the last bytes
	}
	if err != nil {
		err = errors.Join(err, b.Close())
	}
	return n, err
}

// Close ends reading.
func (b *body) Close() error {
	if b.r == nil {
		return nil
	}
	err := b.r.Close()
	b.r = nil
	return err
}
