package index

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// An account that is frozen must not be read in full: a mailbox may have a million messages. What has changed in a mailbox since another shard got it
// follows from its modseqs: every change of a message but one gets a modseq above all before (state.go), so later change and expunged keys
// name the messages, and new ones have new UIDs. The exception is Rebind, which only ever happens to messages that were just saved: of those the rows
// themselves have to be compared (AccountRecent).

// Base is how far another shard has a mailbox.
type Base struct {
	Mailbox uint32 `cbor:"1,keyasint"`
	ModSeq  uint64 `cbor:"2,keyasint"` // HIGHESTMODSEQ
	UIDNext uint32 `cbor:"3,keyasint"`
}

// smallTags are those whose keys are few.
var smallTags = []byte{tagBlock, tagCounters, tagSharer, tagMailbox, tagName, tagSubscribe, tagGrant, tagKeywords, tagAnnotation}

// AccountSmall is Account without what there is of every message and change.
func (v *View) AccountSmall(account uint64, fn func(key, value []byte) error) error {
	for _, tag := range smallTags {
		prefix := v.q.k.account(account, tag)
		if err := v.q.scanPrefix(prefix, func(key, value []byte) error { return fn(key[len(prefix)-1:], value) }); err != nil {
			return v.wrap("account", err)
		}
	}
	return nil
}

// BaseOf reads a mailbox's key and value as Account gives them; ok is false if it is another kind of key.
func BaseOf(p Pair) (b Base, ok bool, err error) {
	if len(p.Key) != 1+4 || p.Key[0] != tagMailbox {
		return b, false, nil
	}
	m, err := decodeMeta(p.Value, nil)
	return Base{Mailbox: binary.BigEndian.Uint32(p.Key[1:]), ModSeq: m.HighestModSeq, UIDNext: m.UIDNext}, true, err
}

// AccountSince calls put for what AccountSmall leaves out and may have changed since a shard had bases, and for all of it of mailboxes that are not
// among them; and remove for what is gone. Of mailboxes that are gone nothing is said. Neither function may keep what it gets.
func (v *View) AccountSince(account uint64, bases []Base, put func(key, value []byte) error, remove func(key []byte) error) error {
	known := make(map[uint32]Base, len(bases))
	for _, b := range bases {
		known[b.Mailbox] = b
	}
	boxes, err := v.bases(account)
	s := &since{v: v, account: account, put: put, remove: remove}
	for _, now := range boxes {
		if err == nil && now != known[now.Mailbox] {
			err = s.mailbox(now, known[now.Mailbox])
		}
	}
	return v.wrap("account since", err)
}

// AccountRecent calls fn for the rows of messages that were saved at a time (unix seconds) or later, and perhaps for some between them, in the order of
// their keys. fn may not keep what it gets.
func (v *View) AccountRecent(account uint64, saved int64, fn func(key, value []byte) error) error {
	boxes, err := v.bases(account)
	s := &since{v: v, account: account, put: fn}
	for _, b := range boxes {
		if err == nil {
			err = s.recent(mailboxKey{account, b.Mailbox}, saved)
		}
	}
	return v.wrap("account recent", err)
}

// bases are how far an account's mailboxes are here, in the order of their ids.
func (v *View) bases(account uint64) (boxes []Base, err error) {
	prefix := v.q.k.account(account, tagMailbox)
	err = v.q.scanPrefix(prefix, func(key, value []byte) error {
		b, _, err := BaseOf(Pair{Key: key[len(prefix)-1:], Value: value})
		boxes = append(boxes, b)
		return err
	})
	return boxes, err
}

type since struct {
	v       *View
	account uint64
	put     func(key, value []byte) error
	remove  func(key []byte) error
}

func (s *since) mailbox(now, base Base) error {
	m := mailboxKey{s.account, now.Mailbox}
	first := max(base.UIDNext, 1)
	for _, tag := range []byte{tagFlags, tagMessage} {
		if err := s.rows(s.v.q.k.uid(m, tag, first), after(s.v.q.k.mailbox(m, tag))); err != nil {
			return err
		}
	}
	both := func(uid uint32) error { // most changes are of flags alone; Amend's need not be
		return errors.Join(s.one(m, tagFlags, uid), s.one(m, tagMessage, uid))
	}
	for _, tag := range []byte{tagChange, tagExpunged} {
		if err := s.changes(m, tag, base.ModSeq, both); err != nil {
			return err
		}
	}
	return nil
}

// suffix is a key from its tag on.
func (s *since) suffix(key []byte) []byte { return key[shardLen+1+8:] }

func (s *since) rows(lower, upper []byte) error {
	return s.v.q.scan(lower, upper, func(key, value []byte) error { return s.put(s.suffix(key), value) })
}

// changes passes the keys of changes above a modseq on, and each one's UID to fn.
func (s *since) changes(m mailboxKey, tag byte, modseq uint64, fn func(uid uint32) error) error {
	return s.v.q.scan(s.v.q.k.modseq(m, tag, modseq+1, 0), after(s.v.q.k.mailbox(m, tag)), func(key, value []byte) error {
		_, uid, err := tailModSeq(key)
		if err == nil {
			err = s.put(s.suffix(key), value)
		}
		if err == nil {
			err = fn(uid)
		}
		return err
	})
}

// one passes a message's row on, or that it is gone.
func (s *since) one(m mailboxKey, tag byte, uid uint32) error {
	key := s.v.q.k.uid(m, tag, uid)
	var err error
	there, failed := s.v.q.get(key, func(v []byte) error {
		err = s.put(s.suffix(key), v)
		return nil
	})
	switch {
	case failed != nil:
		return failed
	case !there:
		return s.remove(s.suffix(key))
	}
	return err
}

// manyOlder is behind how many messages that were saved earlier none is looked for.
const manyOlder = 256

// recent passes the message rows on from the first that was just saved, which is looked for from the end.
func (s *since) recent(m mailboxKey, saved int64) error {
	prefix := s.v.q.k.mailbox(m, tagMessage)
	it, err := s.v.q.r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	var first []byte
	for ok, older := it.Last(), 0; ok && older < manyOlder; ok = it.Prev() {
		row, err := decodeCold(it.Value())
		if err != nil {
			return joinClose(s.v.q.corrupt(it.Key(), err.Error()), it)
		}
		if older++; row.saveDate >= saved { // else it was copied here after others
			first, older = append(first[:0], it.Key()...), 0
		}
	}
	if err := it.Close(); err != nil || first == nil {
		return err
	}
	return s.rows(first, after(prefix))
}
