package index

import (
	"encoding/binary"
	"slices"

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
	prefix := v.q.k.root(tagRef)
	return v.holders(prefix, after(prefix), fn)
}

// HoldersOf calls it for those to one volume.
func (v *View) HoldersOf(id volume.ID, fn func(h Holder) error) error {
	prefix := v.q.k.volume(id)
	return v.holders(prefix, after(prefix), fn)
}

// HoldersBehind calls it for those to a volume's records behind one.
func (v *View) HoldersBehind(id volume.ID, record uint64, fn func(h Holder) error) error {
	return v.holders(v.q.k.numbered(id, record+1), after(v.q.k.volume(id)), fn)
}

// HoldersAt calls it for those to one record.
func (v *View) HoldersAt(id volume.ID, record uint64, fn func(h Holder) error) error {
	prefix := v.q.k.numbered(id, record)
	return v.holders(prefix, after(prefix), fn)
}

// Held lists the volumes that the shard refers to.
func (v *View) Held() (ids []volume.ID, err error) {
	prefix := v.q.k.root(tagRef)
	it, err := v.q.r.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return nil, v.wrap("held volumes", err)
	}
	for ok := it.First(); ok; ok = it.SeekGE(after(v.q.k.volume(ids[len(ids)-1]))) {
		if _, _, whole := splitRef(it.Key()); !whole {
			return nil, v.wrap("held volumes", joinClose(v.q.corrupt(it.Key(), "length of a reference's key"), it))
		}
		ids = append(ids, volume.ID(binary.BigEndian.Uint64(it.Key()[len(prefix):])))
	}
	return ids, v.wrap("held volumes", it.Close())
}

func (v *View) holders(from, to []byte, fn func(h Holder) error) error {
	return v.wrap("holders", v.q.scan(from, to, func(key, _ []byte) error {
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
	var ids []uint32 // by their names, which are in the batch at once: rows of mailboxes made in this Txn come with its Commit
	if err := t.q.scanPrefix(t.k.account(account, tagName), func(key, value []byte) error {
		id, err := decodeID(value)
		if err != nil {
			return t.q.corrupt(key, err.Error())
		}
		ids = append(ids, id)
		return nil
	}); err != nil {
		return err
	}
	slices.Sort(ids) // so that they are numbered as they were made
	for _, id := range ids {
		mb, err := t.mailbox(mailboxKey{account, id})
		if err != nil {
			return err
		}
		if !mb.exists {
			return t.q.corrupt(t.k.mailbox(mb.key, tagMailbox), "a name has no mailbox")
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

// Resident is an account that a shard knows of.
type Resident struct {
	Account uint64
	Place   Place
	Exists  bool // it has folders
}

// Residents calls fn for every account that the shard knows of, by number.
func (v *View) Residents(fn func(r Resident) error) error {
	prefix := v.q.k.root(tagAccount)
	it, err := v.q.r.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return v.wrap("residents", err)
	}
	for ok := it.First(); ok; {
		if len(it.Key()) < len(prefix)+8 {
			return v.wrap("residents", joinClose(v.q.corrupt(it.Key(), "length of an account's key"), it))
		}
		r := Resident{Account: binary.BigEndian.Uint64(it.Key()[len(prefix):])}
		_, r.Exists, err = v.q.counters(r.Account)
		if err == nil {
			r.Place, err = v.q.place(r.Account)
		}
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			return v.wrap("residents", joinClose(err, it))
		}
		ok = it.SeekGE(after(v.q.k.resident(r.Account)))
	}
	return v.wrap("residents", it.Close())
}

// Expel removes all that the shard has of an account, at once and with its place.
func (t *Txn) Expel(account uint64) error {
	return t.settle("expel", t.expel(account))
}

func (t *Txn) expel(account uint64) error {
	if t.err != nil {
		return t.err
	}
	t.forgetAccount(account)
	if err := t.writeRefs(); err != nil {
		return err
	}
	var rows [][]byte
	err := t.q.scanPrefix(t.k.account(account, tagMessage), func(key, _ []byte) error {
		if len(key) != mailboxLen+4 {
			return t.q.corrupt(key, "length of a message's key")
		}
		rows = append(rows, append([]byte{tagMessage}, key[mailboxLen-4:]...))
		return nil
	})
	for _, key := range rows {
		if err == nil {
			err = t.unrefer(account, key)
		}
	}
	if err == nil {
		err = t.writeRefs()
	}
	if err != nil {
		return err
	}
	return t.removePrefix(t.k.resident(account))
}

// Adopt writes keys of an account that another shard has, as Import does; the account is here.
func (t *Txn) Adopt(account uint64, pairs []Pair) error {
	if t.err != nil {
		return t.err
	}
	t.forgetAccount(account)
	return t.settle("adopt", t.importPairs(account, pairs, nil))
}

// Settled forgets that an account ever came from elsewhere, or was about to go.
func (t *Txn) Settled(account uint64) error {
	if t.err != nil {
		return t.err
	}
	t.forgetAccount(account)
	return t.settle("settled", t.remove(t.k.place(account)))
}
