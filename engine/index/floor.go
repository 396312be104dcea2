package index

import (
	"hongyan/engine/volume"
)

// A volume whose dead records are to be taken away is condemned first, in every shard. From that log entry on the shard refuses
// messages whose bytes were put in it (AddMessages; a reference from outside is always to a volume as it was appended to, generation
// 0), and what the shard refers to of it, at that entry or later, is all that it ever will: copies and moves inside the shard only spread
// references that are there. The floor of a volume is the generation that it was condemned for; it stays for good.

// Condemn raises a volume's floor to a generation, which is at least 1. A lower one changes nothing.
func (t *Txn) Condemn(id volume.ID, generation uint32) error {
	if t.err != nil {
		return t.err
	}
	floor, err := t.q.floor(id)
	if err == nil && floor < generation {
		t.admitted = 0
		err = t.put(t.k.floor(id), encodeID(generation))
	}
	return t.settle("condemn", err)
}

// admit says ErrCondemned of a volume that takes no new references. Deliveries of one transaction mostly have one volume.
func (t *Txn) admit(id volume.ID) error {
	if t.admitted == id && id != 0 {
		return nil
	}
	floor, err := t.q.floor(id)
	if err != nil {
		return err
	}
	if floor > 0 {
		return ErrCondemned
	}
	t.admitted = id
	return nil
}

func (q source) floor(id volume.ID) (generation uint32, err error) {
	_, err = q.get(q.k.floor(id), func(v []byte) (err error) {
		generation, err = decodeID(v)
		return err
	})
	return generation, err
}

// Floor is the generation that a volume was last condemned for, 0 if it never was.
func (v *View) Floor(id volume.ID) (uint32, error) {
	floor, err := v.q.floor(id)
	return floor, v.wrap("floor", err)
}

// Reference is a record of a volume that a message of a mailbox has its bytes in.
type Reference struct {
	Record  uint64
	Account uint64
	Mailbox uint32
}

// References calls fn for each record of a volume and each mailbox with a message that refers to it, ascending by record, account and
// mailbox. Mailboxes that were deleted do not count, whether their rows have been swept or not: nothing brings them back.
func (v *View) References(id volume.ID, fn func(r Reference) error) error {
	var last Reference
	there := make(map[mailboxKey]bool)
	return v.wrap("references", v.q.scanPrefix(v.q.k.volume(id), func(key, _ []byte) error {
		record, m, ok := splitRef(key)
		if !ok {
			return v.q.corrupt(key, "length of a reference's key")
		}
		r := Reference{Record: record, Account: m.account, Mailbox: m.id}
		if r == last {
			return nil
		}
		last = r
		exists, known := there[m]
		if !known {
			var err error
			if _, exists, err = v.q.meta(m, nil); err != nil {
				return err
			}
			if len(there) >= maxKnownMailboxes {
				clear(there)
			}
			there[m] = exists
		}
		if !exists {
			return nil
		}
		return fn(r)
	}))
}

// maxKnownMailboxes bounds what References remembers of mailboxes.
const maxKnownMailboxes = 1 << 16
