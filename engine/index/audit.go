package index

import (
	"errors"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"

	"hongyan/engine/volume"
)

// What a mailbox says of itself, its counts, its next UID, and the blocks that list and flag its messages, follows from the messages' rows. Where the two
// contradict each other the rows are right: Recount makes the rest follow from them again. It takes nothing away. A UID that is listed and has no rows, and a row
// whose other half is gone, are left as they are and only told of: nobody knows any more what they were.

// maxNamed bounds the UIDs that an Audit names of each kind.
const maxNamed = 1000

// Audit holds a mailbox's own words against its rows.
type Audit struct {
	Says   Mailbox `cbor:"1,keyasint"` // without keywords and subscription
	Counts Mailbox `cbor:"2,keyasint"` // as the rows have it: Messages, Unseen, Deleted, Size; UIDNext and HighestModSeq are never below what the mailbox says

	Flagged  uint64   `cbor:"3,keyasint,omitempty"` // bits in the blocks of system flags that are not as the rows say
	Unlisted []uint32 `cbor:"4,keyasint,omitempty"` // whole messages that the mailbox does not list
	Broken   []uint32 `cbor:"5,keyasint,omitempty"` // UIDs that lack one of their rows, or both: nothing mends them
	// Unreferenced are messages without their reference key, so that the garbage collector does not know their bytes to be live. From View.Audit only.
	Unreferenced []uint32 `cbor:"6,keyasint,omitempty"`
}

// Contradicts says whether Recount would change something.
func (a *Audit) Contradicts() bool {
	s, c := &a.Says, &a.Counts
	return s.Messages != c.Messages || s.Unseen != c.Unseen || s.Deleted != c.Deleted || s.Size != c.Size || s.UIDNext != c.UIDNext ||
		s.HighestModSeq != c.HighestModSeq || a.Flagged > 0 || len(a.Unlisted) > 0
}

// tally is what the rows of a mailbox add up to.
type tally struct {
	audit Audit
	sets  [kinds]*roaring.Bitmap // as the blocks should be
}

// tally reads all small rows of a mailbox, and of the large ones those that are in question. says and the bitmap of its listed UIDs are what the mailbox has.
func (q source) tally(m mailboxKey, says Mailbox, listed *roaring.Bitmap, blocks func(kind uint8) (*roaring.Bitmap, error)) (*tally, error) {
	t := &tally{audit: Audit{Says: says, Counts: says}}
	c := &t.audit.Counts
	c.Messages, c.Unseen, c.Deleted, c.Size = 0, 0, 0, 0
	for kind := range t.sets {
		t.sets[kind] = roaring.New()
	}
	unlisted, broken := roaring.New(), listed.Clone()
	err := q.scanPrefix(q.k.mailbox(m, tagFlags), func(key, value []byte) error {
		uid, err := tailUID(key)
		if err != nil {
			return q.corrupt(key, err.Error())
		}
		row, err := decodeHot(value)
		if err != nil {
			return q.corrupt(key, err.Error())
		}
		if !listed.Contains(uid) {
			whole, err := q.get(q.k.uid(m, tagMessage, uid), func(v []byte) error { _, err := decodeCold(v); return err })
			if err != nil {
				return err
			}
			if !whole {
				broken.Add(uid)
				return nil
			}
			unlisted.Add(uid)
		}
		broken.Remove(uid)
		t.add(uid, &row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.audit.Unlisted, t.audit.Broken = named(unlisted), named(broken)
	for it := broken.Iterator(); it.HasNext(); { // what is listed stays so
		if uid := it.Next(); listed.Contains(uid) {
			t.sets[kindUIDs].Add(uid)
		}
	}
	c.Messages = uint32(t.sets[kindUIDs].GetCardinality())
	if !t.sets[kindUIDs].IsEmpty() {
		c.UIDNext = max(c.UIDNext, t.sets[kindUIDs].Maximum()+1)
	}
	last, err := q.lastExpunged(m)
	if err != nil {
		return nil, err
	}
	c.HighestModSeq = max(c.HighestModSeq, last)
	for kind := uint8(1); kind < kinds; kind++ {
		have, err := blocks(kind)
		if err != nil {
			return nil, err
		}
		have.Xor(t.sets[kind])
		t.audit.Flagged += have.GetCardinality()
	}
	return t, nil
}

// add counts a message.
func (t *tally) add(uid uint32, row *hotRow) {
	c := &t.audit.Counts
	c.Size += row.size
	c.HighestModSeq = max(c.HighestModSeq, row.modseq)
	if row.system&FlagSeen == 0 {
		c.Unseen++
	}
	if row.system&FlagDeleted != 0 {
		c.Deleted++
	}
	t.sets[kindUIDs].Add(uid)
	for flag := FlagSeen; flag <= FlagDraft; flag <<= 1 {
		if row.system&flag != 0 {
			t.sets[kindFlag(flag)].Add(uid)
		}
	}
}

func named(set *roaring.Bitmap) []uint32 {
	list := make([]uint32, min(set.GetCardinality(), maxNamed))
	return list[:set.ManyIterator().NextMany(list)]
}

// lastExpunged is the modseq of the latest expunge that a mailbox remembers, 0 if there is none.
func (q source) lastExpunged(m mailboxKey) (modseq uint64, err error) {
	prefix := q.k.mailbox(m, tagExpunged)
	it, err := q.r.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return 0, err
	}
	if it.Last() {
		if modseq, _, err = tailModSeq(it.Key()); err != nil {
			return 0, joinClose(q.corrupt(it.Key(), err.Error()), it)
		}
	}
	return modseq, it.Close()
}

// Audit holds a mailbox against its rows, which takes as long as reading them.
func (v *View) Audit(account uint64, id uint32) (*Audit, error) {
	a, err := v.audit(mailboxKey{account, id})
	return a, v.wrap("audit", err)
}

func (v *View) audit(m mailboxKey) (*Audit, error) {
	var open block
	says, ok, err := v.q.meta(m, &open)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, v.missing(m.account)
	}
	last := says.UIDNext >> blockShift
	listed, err := v.q.bitmap(m, kindUIDs, last, &open)
	if err != nil {
		return nil, err
	}
	t, err := v.q.tally(m, says, listed, func(kind uint8) (*roaring.Bitmap, error) { return v.q.bitmap(m, kind, 0, nil) })
	if err != nil {
		return nil, err
	}
	bare := roaring.New()
	err = v.q.scanPrefix(v.q.k.mailbox(m, tagMessage), func(key, value []byte) error {
		uid, err := tailUID(key)
		if err != nil || !t.sets[kindUIDs].Contains(uid) {
			return err
		}
		row, err := decodeCold(value)
		if err != nil {
			return v.q.corrupt(key, err.Error())
		}
		there, err := v.q.has(v.q.k.ref(row.ref, m, uid))
		if !there {
			bare.Add(uid)
		}
		return err
	})
	t.audit.Unreferenced = named(bare)
	return &t.audit, err
}

// Behind says whether a mailbox has a message at or behind its next UID, which would be given a second time. It costs one look.
func (v *View) Behind(account uint64, box Mailbox) (bool, error) {
	m := mailboxKey{account, box.ID}
	it, err := v.q.r.NewIter(&pebble.IterOptions{LowerBound: v.q.k.uid(m, tagFlags, box.UIDNext), UpperBound: after(v.q.k.mailbox(m, tagFlags))})
	if err != nil {
		return false, v.wrap("behind", err)
	}
	found := it.First()
	return found, v.wrap("behind", it.Close())
}

// Recount makes a mailbox's counts, its next UID, its highest modseq and its blocks follow from its messages, and says whether anything was otherwise. It reads the
// small rows of all messages. UIDNext and HighestModSeq only grow.
func (t *Txn) Recount(account uint64, id uint32) (changed bool, err error) {
	changed, err = t.recount(account, id)
	return changed, t.settle("recount", beyond(err))
}

// beyond is nil of rows that cannot be read: whoever asked for a repair is told that nothing was done, and the shard goes on as before.
func beyond(err error) error {
	if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) {
		return nil
	}
	return err
}

func (t *Txn) recount(account uint64, id uint32) (bool, error) {
	mb, err := t.selectable(account, id)
	if err != nil {
		return false, err
	}
	if err := t.writeMailbox(mb); err != nil {
		return false, err
	}
	listed, err := t.bitmap(mb, kindUIDs)
	if err != nil {
		return false, err
	}
	sum, err := t.q.tally(mb.key, mb.meta, listed, func(kind uint8) (*roaring.Bitmap, error) { return t.bitmap(mb, kind) })
	if err != nil || !sum.audit.Contradicts() {
		return false, err
	}
	c := &sum.audit.Counts
	mb.meta.Messages, mb.meta.Unseen, mb.meta.Deleted, mb.meta.Size = c.Messages, c.Unseen, c.Deleted, c.Size
	mb.meta.UIDNext, mb.meta.HighestModSeq = c.UIDNext, c.HighestModSeq
	if err := t.countAgain(account); err != nil {
		return false, err
	}
	mb.dirty, mb.entry, mb.blocks = true, 0, nil
	mb.setOpen(&cachedBlock{block: cut(sum.sets[kindUIDs])[mb.openBlock()]})
	return true, t.writeSets(mb, &sum.sets)
}

// writeSets writes all blocks of a mailbox anew but the open one.
func (t *Txn) writeSets(mb *mailboxState, sets *[kinds]*roaring.Bitmap) error {
	if err := t.removePrefix(t.k.mailbox(mb.key, tagBlock)); err != nil {
		return err
	}
	for kind, set := range sets {
		blocks := cut(set)
		for _, n := range slices.Sorted(maps.Keys(blocks)) {
			if kind == kindUIDs && n == mb.openBlock() {
				continue
			}
			b := blocks[n]
			if err := t.put(t.k.block(mb.key, uint8(kind), n), b.encode()); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut makes blocks of a set, those with members.
func cut(set *roaring.Bitmap) map[uint32]block {
	out := make(map[uint32]block)
	for it := set.Iterator(); it.HasNext(); {
		uid := it.Next()
		b := out[uid>>blockShift]
		b.set(uid % blockBits)
		out[uid>>blockShift] = b
	}
	return out
}

// Amendment is an entry as it should be, for one that is as it was seen.
type Amendment struct {
	UID  uint32     `cbor:"1,keyasint"`
	Seen volume.Ref `cbor:"2,keyasint"` // what the entry refers to; otherwise nothing is done

	Ref     volume.Ref `cbor:"3,keyasint"`
	Size    uint64     `cbor:"4,keyasint"`
	Date    int64      `cbor:"5,keyasint"`
	Zone    int16      `cbor:"6,keyasint,omitempty"`
	Summary []byte     `cbor:"7,keyasint"`
}

// Amend corrects what an entry says of its message, and makes sure of its reference key. It says whether anything was otherwise. The message keeps its UID
// and flags, and gets a new modseq: without one a move of the account to another shard might leave the change behind (since.go). ErrCondemned: the new
// place takes no references any more.
func (t *Txn) Amend(account uint64, mailbox uint32, a *Amendment) (changed bool, err error) {
	changed, err = t.amend(account, mailbox, a)
	return changed, t.settle("amend", beyond(err))
}

func (t *Txn) amend(account uint64, mailbox uint32, a *Amendment) (bool, error) {
	if len(a.Summary) > MaxSummaryBytes {
		return false, &LimitError{What: "bytes in a summary", Limit: MaxSummaryBytes}
	}
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return false, err
	}
	set, err := t.selection(mb, roaring.BitmapOf(a.UID))
	if err != nil || set.IsEmpty() {
		return false, err
	}
	list, err := t.pick(mb, set)
	if err != nil {
		return false, err
	}
	was := list[0]
	if was.cold.ref != a.Seen {
		return false, nil
	}
	return t.rewrite(mb, was, a)
}

// rewrite puts an amended entry's rows and references in place of the old ones.
func (t *Txn) rewrite(mb *mailboxState, was stored, a *Amendment) (changed bool, err error) {
	now := was
	now.cold.ref, now.cold.summary = a.Ref, a.Summary
	now.hot.size, now.hot.date, now.hot.zone = a.Size, a.Date, a.Zone
	if err := t.writeRefs(); err != nil {
		return false, err
	}
	referred, err := t.q.has(t.k.ref(a.Ref, mb.key, a.UID))
	if err != nil {
		return false, err
	}
	cold := now.cold.encode()
	if referred && string(now.hot.encode()) == string(was.hot.encode()) && string(cold) == string(was.cold.encode()) {
		return false, nil
	}
	if !referred { // else the record counts as live already
		if err := t.admit(a.Ref.Volume); err != nil {
			return false, err
		}
	}
	if a.Ref != a.Seen {
		t.changeRef(a.Seen, mb.key, a.UID, false)
	}
	t.changeRef(a.Ref, mb.key, a.UID, true)
	if err := t.tally(mb, 0, int64(a.Size-was.hot.size)); err != nil {
		return false, err
	}
	if err := t.applyFlags(mb, []flagEdit{{a.UID, was.hot, now.hot}}, t.nextModSeq(mb)); err != nil {
		return false, err
	}
	return true, t.put(t.k.uid(mb.key, tagMessage, a.UID), cold)
}
