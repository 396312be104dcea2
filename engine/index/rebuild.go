package index

import (
	"encoding/binary"

	"hongyan/engine/volume"
)

// Holder is a message that refers to a record of a volume.
type Holder struct {
	Volume  volume.ID
	Record  uint64
	Account uint64
	Mailbox uint32
	UID     uint32
}

// Holders calls fn for every reference of the shard, ascending by volume and record.
func (v *View) Holders(fn func(h Holder) error) error {
	return v.wrap("holders", v.q.scanPrefix(v.q.k.root(tagRef), func(key, _ []byte) error {
		record, m, ok := splitRef(key)
		if !ok {
			return v.q.corrupt(key, "length of a reference's key")
		}
		return fn(Holder{
			Volume: volume.ID(binary.BigEndian.Uint64(key[shardLen+1:])), Record: record,
			Account: m.account, Mailbox: m.id, UID: binary.BigEndian.Uint32(key[len(key)-4:]),
		})
	}))
}

// Revalidate gives every mailbox of an account a new UIDVALIDITY: its state was rebuilt from an older one, so clients must not trust
// what they remember of it.
func (t *Txn) Revalidate(account uint64, now int64) error {
	return t.settle("revalidate", t.revalidate(account, now))
}

func (t *Txn) revalidate(account uint64, now int64) error {
	if t.err != nil {
		return t.err
	}
	a, err := t.account(account)
	if err != nil || !a.exists {
		return err
	}
	if err := a.room(int(a.mailboxes), now); err != nil {
		return err
	}
	var ids []uint32
	prefix := t.k.account(account, tagMailbox)
	if err := t.q.scanPrefix(prefix, func(key, _ []byte) error {
		ids = append(ids, keyMailbox(key))
		return nil
	}); err != nil {
		return err
	}
	for _, id := range ids {
		mb, err := t.mailbox(mailboxKey{account, id})
		if err != nil {
			return err
		}
		a.uidValidity = uint32(a.validity(now))
		mb.meta.UIDValidity, mb.dirty, a.dirty = a.uidValidity, true, true
	}
	return nil
}

// Clear empties the shard, durably. It waits for the shard's Txn to end.
func (s *Shard) Clear() error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.swap(nil, 0); err != nil {
		return s.errorf("clear: %w", err)
	}
	return nil
}
