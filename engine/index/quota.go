package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"
)

// What an account holds is the sum of its mailboxes' counts. Who may not hold more than so much is counted: from the first command with limits on, the account's
// counters have the sum, and every change of a mailbox's counts goes into it in the same step (tally), so it is exact and costs no look at the other
// mailboxes. Accounts that never had limits have no sum, and their values are as they were before there were limits. What is deleted counts no
// more at once, also while its rows wait to be swept.

// Limits are how much an account may hold; 0 is any number.
type Limits struct {
	Bytes    uint64 `cbor:"1,keyasint,omitempty"`
	Messages uint64 `cbor:"2,keyasint,omitempty"`
}

// Usage is how much an account holds, in messages as they were received.
type Usage struct {
	Bytes    uint64 `cbor:"1,keyasint,omitempty"`
	Messages uint64 `cbor:"2,keyasint,omitempty"`
}

// QuotaError says which limit an account would exceed. It is part of a command's result.
type QuotaError struct {
	What  string // bytes or messages
	Limit uint64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("over the account's quota of %d %s", e.Limit, e.What)
}

// Exceeded says *QuotaError if an account that holds used may not take more. Nothing may always be added.
func (l Limits) Exceeded(used, more Usage) error {
	for _, r := range []struct {
		what              string
		limit, used, more uint64
	}{{"bytes", l.Bytes, used.Bytes, more.Bytes}, {"messages", l.Messages, used.Messages, more.Messages}} {
		if r.limit > 0 && r.more > 0 && (r.used > r.limit || r.more > r.limit-r.used) {
			return &QuotaError{What: r.what, Limit: r.limit}
		}
	}
	return nil
}

// Allow says *QuotaError if an account may not take more under limits. Its holdings are counted from now on, whatever the answer.
func (t *Txn) Allow(account uint64, limits Limits, more Usage) error {
	return t.settle("quota", t.allow(account, limits, more))
}

func (t *Txn) allow(account uint64, limits Limits, more Usage) error {
	if t.err != nil {
		return t.err
	}
	if limits == (Limits{}) {
		return nil
	}
	a, err := t.account(account)
	if err != nil {
		return err
	}
	if !a.exists {
		return ErrNoAccount
	}
	if !a.counted {
		if err := t.countAccount(account, a); err != nil {
			return err
		}
	}
	return limits.Exceeded(a.used, more)
}

// countAccount sums up an account's mailboxes.
func (t *Txn) countAccount(account uint64, a *accountState) error {
	var sum Usage
	// By their names, which are in the batch at once: values of mailboxes that this Txn changed come with its Commit.
	err := t.q.scanPrefix(t.k.account(account, tagName), func(key, value []byte) error {
		id, err := decodeID(value)
		if err != nil {
			return t.q.corrupt(key, err.Error())
		}
		m := mailboxKey{account, id}
		if mb := t.mailboxes[m]; mb != nil {
			sum.add(&mb.meta)
			return nil
		}
		meta, ok, err := t.q.meta(m, nil)
		if err == nil && !ok {
			err = t.q.corrupt(key, "a name has no mailbox")
		}
		sum.add(&meta)
		return err
	})
	if err != nil {
		return err
	}
	a.counted, a.used, a.dirty = true, sum, true
	return nil
}

// countAgain sums an account up that is counted: the counts of one of its mailboxes were wrong.
func (t *Txn) countAgain(account uint64) error {
	a, err := t.account(account)
	if err == nil && a.counted {
		err = t.countAccount(account, a)
	}
	return err
}

func (u *Usage) add(m *Mailbox) {
	u.Bytes += m.Size
	u.Messages += uint64(m.Messages)
}

// tally enters in a mailbox's counts, and in its account's if that is counted, that so many messages and bytes came, or went if they are negative.
func (t *Txn) tally(mb *mailboxState, messages, bytes int64) error {
	mb.meta.Messages = uint32(int64(mb.meta.Messages) + messages)
	mb.meta.Size += uint64(bytes) // modulo 2^64
	a, err := t.account(mb.key.account)
	if err != nil || !a.counted {
		return err
	}
	a.used.Messages = shifted(a.used.Messages, messages)
	a.used.Bytes = shifted(a.used.Bytes, bytes)
	a.dirty = true
	return nil
}

// shifted is n+by, never below 0: counts that damage has made too low shall not become the highest of all.
func shifted(n uint64, by int64) uint64 {
	if by < 0 && uint64(-by) > n {
		return 0
	}
	return n + uint64(by)
}

// untally takes a mailbox that goes with all its messages out of its account's counts.
func (a *accountState) untally(mb *mailboxState) {
	if a.counted {
		a.used.Messages = shifted(a.used.Messages, -int64(mb.meta.Messages))
		a.used.Bytes = shifted(a.used.Bytes, -int64(mb.meta.Size))
	}
}

// Weigh says how much of a mailbox the messages of a set are that exist.
func (t *Txn) Weigh(account uint64, mailbox uint32, uids *roaring.Bitmap) (u Usage, err error) {
	u, err = t.weigh(account, mailbox, uids)
	return u, t.settle("weigh", err)
}

func (t *Txn) weigh(account uint64, mailbox uint32, uids *roaring.Bitmap) (u Usage, err error) {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return u, err
	}
	if uids, err = t.selection(mb, uids); err != nil {
		return u, err
	}
	list, err := t.pickHot(mb, uids)
	for i := range list {
		u.Messages++
		u.Bytes += list[i].hot.size
	}
	return u, err
}

// Usage is how much an account holds.
func (v *View) Usage(account uint64) (u Usage, err error) {
	c, exists, err := v.q.counters(account)
	switch {
	case err == nil && !exists:
		err = ErrNoAccount
	case err == nil && c.counted:
		u = c.used
	case err == nil:
		u, err = v.sum(account)
	}
	return u, v.wrap("usage", err)
}

func (v *View) sum(account uint64) (u Usage, err error) {
	err = v.q.scanPrefix(v.q.k.account(account, tagMailbox), func(key, value []byte) error {
		m, err := decodeMeta(value, nil)
		if err != nil {
			return v.q.corrupt(key, err.Error())
		}
		u.add(&m)
		return nil
	})
	return u, err
}

// encodeUsage is the end of an account's counters once it is counted.
func (c *counters) encodeUsage(b []byte) []byte {
	if !c.counted {
		return b
	}
	b = binary.AppendUvarint(b, c.used.Bytes)
	return binary.AppendUvarint(b, c.used.Messages)
}

// decodeUsage reads what encodeUsage wrote, if there is anything.
func (c *counters) decodeUsage(p *parser) {
	if p.err == nil && len(p.rest) > 0 {
		c.counted = true
		c.used = Usage{Bytes: p.uvarint(math.MaxUint64), Messages: p.uvarint(math.MaxUint64)}
	}
}
