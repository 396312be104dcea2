package smtp

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"

	"hongyan/cluster/client"
)

// A message that some recipients got and others did not is answered with 451, for SMTP has one reply for all, and its sender sends it to all again: every
// half hour for days, if one mailbox stays full. So that the others get it once:
//
//  1. With the 451, the node remembers for whom the message is durable: the sender, the bytes as they came and the account together are the key.
//  2. A message that comes again is not delivered to those; they count as delivered.
//  3. With a positive reply they are forgotten: who sends the same message once more after that means it. So they are partlyFor after it reached them, however often it came since.
//
// All that only where the bytes have a Message-ID, which is that of one message and no other (RFC 5322 section 3.6.4). A device that says the same every day and has
// been told 451 means each of them, whether or not it tries again: to swallow one would be worse than to deliver one twice.
//
// A sender that is given another node next time, or this one after a restart, delivers twice as before.

const (
	partlySize = 1 << 16            // accounts, some 10 MB; the oldest goes first
	partlyFor  = 6 * 24 * time.Hour // senders try for five days (RFC 5321 section 4.5.4.1), and once more before they give up
)

// partKey names a message for one account.
type partKey [16]byte

// partly is the memory of step 1. Safe for concurrent use.
type partly struct {
	size int

	mu    sync.Mutex // guards what follows
	items map[partKey]*list.Element
	order *list.List // of part, the latest first
}

type part struct {
	key   partKey
	until time.Time
}

func newPartly(size int) *partly {
	return &partly{size: size, items: make(map[partKey]*list.Element), order: list.New()}
}

func (p *partly) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.order.Len() == 0
}

func (p *partly) has(k partKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.items[k]
	return ok && time.Now().Before(e.Value.(part).until)
}

// put remembers k, from when it is first said.
func (p *partly) put(k partKey) {
	if p.has(k) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(p.items[k])
	if p.order.Len() >= p.size {
		p.remove(p.order.Back())
	}
	p.items[k] = p.order.PushFront(part{k, time.Now().Add(partlyFor)})
}

func (p *partly) drop(k partKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(p.items[k])
}

func (p *partly) remove(e *list.Element) {
	if e != nil {
		delete(p.items, e.Value.(part).key)
		p.order.Remove(e)
	}
}

// digest knows a message again.
type digest struct {
	sum hash.Hash
	ids fieldCounter
}

// digest is to be fed with the message's bytes, or nil where no reply can be for several, neither this time nor before.
func (s *session) digest(tx *transaction) *digest {
	if s.lmtp || len(tx.accounts) < 2 && s.srv.partly.empty() {
		return nil
	}
	return &digest{sum: sha256.New(), ids: fieldCounter{name: "message-id:"}}
}

// Write never fails.
func (d *digest) Write(p []byte) (int, error) {
	_, _ = d.ids.Write(p)
	return d.sum.Write(p)
}

// keys are the message's for each account, or nil where it cannot be known again. The folder counts: mail for another one is another message.
func (d *digest) keys(t *transaction) []partKey {
	if d == nil || d.ids.n == 0 {
		return nil
	}
	sum := d.sum.Sum(nil)
	keys := make([]partKey, len(t.accounts))
	for i, a := range t.accounts {
		b := binary.BigEndian.AppendUint64(sum[:len(sum):len(sum)], a.ID)
		b = binary.BigEndian.AppendUint64(b, uint64(len(t.from)))
		b = append(append(b, t.from...), a.Detail...)
		whole := sha256.Sum256(b)
		keys[i] = partKey(whole[:])
	}
	return keys
}

// store delivers to those who do not have the message (step 2). It returns an error for each account.
func (s *session) store(ctx context.Context, tx *transaction, d draft, keys []partKey) []error {
	errs := make([]error, len(tx.accounts))
	to := client.Delivery{From: tx.from}
	var rest []int // accounts by number
	for i, a := range tx.accounts {
		if keys != nil && s.srv.partly.has(keys[i]) {
			s.srv.log.Info("recipient has the message from an earlier try", "id", tx.id, "to", a.Address)
			continue
		}
		to.Recipients = append(to.Recipients, a)
		rest = append(rest, i)
	}
	if len(rest) == 0 {
		return errs
	}
	got := s.srv.store.Deliver(ctx, d, to)
	if len(got) != len(rest) {
		s.srv.log.Error("deliver answered for other recipients", "id", tx.id, "want", len(rest), "got", len(got))
		got = make([]error, len(rest))
		for k := range got {
			got[k] = fmt.Errorf("no answer: %w", client.ErrUnavailable)
		}
	}
	for k, i := range rest {
		errs[i] = got[k]
	}
	return errs
}

// settle notes who has a message that is answered with code (steps 1 and 3).
func (p *partly) settle(code int, keys []partKey, errs []error) {
	for i, k := range keys {
		switch {
		case code/100 == 2:
			p.drop(k)
		case errs[i] == nil:
			p.put(k)
		}
	}
}
