package index

import (
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Changes tells what happened to a mailbox since a modseq (RFC 7162, QRESYNC). It stops after about limit
// messages (0: never), at the end of a modseq, so that the next call can go on from HighestModSeq. Changes of flags with a modseq of but are left out.
func (v *View) Changes(account uint64, id uint32, since uint64, limit int, but ...uint64) (Changes, error) {
	c, err := v.changes(mailboxKey{account, id}, since, limit, but)
	return c, v.wrap("changes", err)
}

func (v *View) changes(mb mailboxKey, since uint64, limit int, but []uint64) (c Changes, err error) {
	c.Vanished = roaring.New()
	var open block
	meta, err := v.mailboxWith(mb, &open)
	if err != nil {
		return c, err
	}
	c.HighestModSeq, c.UIDNext = meta.HighestModSeq, meta.UIDNext
	if since >= meta.HighestModSeq {
		return c, nil
	}
	feeds, err := v.feeds(mb, since, uidBlocks{mb, meta.UIDNext >> blockShift, &open})
	defer func() {
		for _, f := range feeds {
			err = joinFirst(err, f.it.Close())
		}
	}()
	if err != nil {
		return c, err
	}
	table := newKeywordTable(meta.Keywords)
	for n, modseq := 0, uint64(0); ; n++ {
		next, err := earliest(feeds)
		if err != nil || next == nil {
			return c, err
		}
		if next.tag == tagChange && slices.Contains(but, next.modseq) {
			next.settle(next.it.SeekGE(v.q.k.modseq(mb, tagChange, next.modseq+1, 0)))
			n--
			continue
		}
		if limit > 0 && n >= limit && next.modseq != modseq {
			c.HighestModSeq, c.More = modseq, true
			return c, nil
		}
		modseq = next.modseq
		if next.tag == tagExpunged {
			c.Vanished.Add(next.uid)
		} else if err := v.addChange(&c, next, table); err != nil {
			return c, err
		}
		next.settle(next.it.Next())
	}
}

func (v *View) addChange(c *Changes, at *feed, table *keywordTable) error {
	row := at.row
	if at.tag == tagChange {
		var err error
		if row, err = decodeChange(at.it.Value()); err != nil {
			return v.q.corrupt(at.it.Key(), err.Error())
		}
	}
	flags, err := table.flags(&row)
	if err != nil {
		return v.q.corrupt(at.it.Key(), err.Error())
	}
	c.Changed = append(c.Changed, FlagChange{UID: at.uid, ModSeq: at.modseq, Flags: flags})
	return nil
}

// feed walks one kind of change in the order of modseqs: change keys, expunged keys, or the rows of fresh messages, among
// which the order of UIDs is that of modseqs.
type feed struct {
	tag    byte
	it     *pebble.Iterator
	valid  bool
	modseq uint64
	uid    uint32
	row    hotRow // of a fresh message
	err    error
}

// feeds opens the three of a mailbox since a modseq. Those that were opened are returned also with an error.
func (v *View) feeds(mb mailboxKey, since uint64, uids uidBlocks) (list []*feed, err error) {
	for _, tag := range []byte{tagFlags, tagChange, tagExpunged} {
		prefix := v.q.k.mailbox(mb, tag)
		upper := after(prefix)
		if tag == tagFlags {
			last, err := v.lastUID(uids)
			if err != nil {
				return list, err
			}
			upper = after(v.q.k.uid(mb, tag, last)) // behind it there may be thousands that were removed, each of which an iterator would step over
		}
		it, err := v.q.r.NewIter(iterBounds(prefix, upper))
		if err != nil {
			return list, fmt.Errorf("scan changes: %w", err)
		}
		f := &feed{tag: tag, it: it}
		list = append(list, f)
		if tag == tagFlags {
			err = v.seekCreated(f, uids, since)
		} else {
			f.settle(it.SeekGE(v.q.k.modseq(mb, tag, since+1, 0)))
		}
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// uidBlocks are the blocks of a mailbox's UIDs: those with keys of their own, and the open one with its number.
type uidBlocks struct {
	mb     mailboxKey
	number uint32
	open   *block
}

// lastUID is the newest message's, 0 if there is none.
func (v *View) lastUID(uids uidBlocks) (uid uint32, err error) {
	return uid, v.backwards(uids, func(first uint32, b *block) (enough bool, err error) {
		low, _ := b.last()
		uid = first + low
		return true, nil
	})
}

// backwards goes through the blocks of a mailbox's UIDs that have members, the newest one first, until fn has enough. first is the UID that the block's first bit stands for.
func (v *View) backwards(uids uidBlocks, fn func(first uint32, b *block) (enough bool, err error)) error {
	if _, ok := uids.open.last(); ok {
		if enough, err := fn(uids.number<<blockShift, uids.open); enough || err != nil {
			return err
		}
	}
	prefix := v.q.k.kind(uids.mb, kindUIDs)
	it, err := v.q.r.NewIter(iterBounds(prefix, v.q.k.block(uids.mb, kindUIDs, uids.number)))
	if err != nil {
		return fmt.Errorf("scan blocks: %w", err)
	}
	for ok := it.Last(); ok; ok = it.Prev() {
		var b block
		number, err := v.q.storedBlock(prefix, it.Key(), it.Value(), &b)
		if err != nil {
			return joinClose(err, it)
		}
		if _, ok := b.last(); !ok {
			continue
		}
		if enough, err := fn(number<<blockShift, &b); enough || err != nil {
			return joinClose(err, it)
		}
	}
	return joinFirst(it.Error(), it.Close())
}

// seekCreated puts f at the first message that entered the mailbox after since. Such modseqs grow with the UIDs, so halving finds it, among the messages of
// one block: between them there may be thousands that were removed, which an iterator would step over. Most callers are up to date, so the newest message is looked at first.
func (v *View) seekCreated(f *feed, uids uidBlocks, since uint64) error {
	if !f.it.Last() {
		f.settle(false)
		return f.err
	}
	created, err := f.created()
	if err != nil || created <= since {
		return err
	}
	start := f.uid
	entered := func(uid uint32) (later bool, err error) {
		if !f.it.SeekGE(v.q.k.uid(uids.mb, tagFlags, uid)) {
			return true, f.it.Error()
		}
		created, err := f.created()
		return created > since, err
	}
	err = v.backwards(uids, func(first uint32, b *block) (enough bool, err error) {
		low, _ := b.next(0)
		later, err := entered(first + low)
		if err != nil {
			return false, err
		}
		if later {
			start = first + low
			return false, nil
		}
		low++ // all below low entered by since, all from high on later
		for high := uint32(blockBits); low < high; {
			middle := low + (high-low)/2
			member, ok := b.next(middle)
			if !ok || member >= high {
				high = middle
				continue
			}
			if later, err = entered(first + member); err != nil {
				return false, err
			}
			if later {
				start, high = first+member, middle
			} else {
				low = member + 1
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	f.settle(f.it.SeekGE(v.q.k.uid(uids.mb, tagFlags, start)))
	return f.err
}

// created reads the row that f stands at.
func (f *feed) created() (uint64, error) {
	if f.uid, f.err = tailUID(f.it.Key()); f.err == nil {
		f.row, f.err = decodeHot(f.it.Value())
	}
	return f.row.created, f.err
}

// settle reads what f now stands at; ok is what moving it returned. Messages that are not fresh have change keys.
func (f *feed) settle(ok bool) {
	for ; ok; ok = f.it.Next() {
		if f.tag != tagFlags {
			f.modseq, f.uid, f.err = tailModSeq(f.it.Key())
			f.valid = f.err == nil
			return
		}
		if _, err := f.created(); err != nil {
			f.valid = false
			return
		}
		if f.row.fresh() {
			f.modseq, f.valid = f.row.modseq, true
			return
		}
	}
	f.valid, f.err = false, f.it.Error()
}

// earliest is the feed with the lowest modseq, nil when all are at their end.
func earliest(feeds []*feed) (*feed, error) {
	var first *feed
	for _, f := range feeds {
		if f.err != nil {
			return nil, fmt.Errorf("scan changes: %w", f.err)
		}
		if f.valid && (first == nil || f.modseq < first.modseq) {
			first = f
		}
	}
	return first, nil
}

// joinFirst is the first error that there is.
func joinFirst(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
