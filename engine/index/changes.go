package index

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Changes tells what happened to a mailbox since a modseq (RFC 7162, QRESYNC). It stops after about limit
// messages (0: never), at the end of a modseq, so that the next call can go on from HighestModSeq.
func (v *View) Changes(account uint64, id uint32, since uint64, limit int) (Changes, error) {
	c, err := v.changes(mailboxKey{account, id}, since, limit)
	return c, v.wrap("changes", err)
}

func (v *View) changes(mb mailboxKey, since uint64, limit int) (c Changes, err error) {
	c.Vanished = roaring.New()
	meta, err := v.mailbox(mb.account, mb.id)
	if err != nil {
		return c, err
	}
	c.HighestModSeq, c.UIDNext = meta.HighestModSeq, meta.UIDNext
	if since >= meta.HighestModSeq {
		return c, nil
	}
	changed, err := v.feed(mb, tagChange, since)
	if err != nil {
		return c, err
	}
	defer func() { err = joinFirst(err, changed.it.Close()) }()
	vanished, err := v.feed(mb, tagExpunged, since)
	if err != nil {
		return c, err
	}
	defer func() { err = joinFirst(err, vanished.it.Close()) }()
	table := newKeywordTable(meta.Keywords)
	for n, modseq := 0, uint64(0); ; n++ {
		next := earlier(changed, vanished)
		if next == nil {
			return c, firstError(changed, vanished)
		}
		if limit > 0 && n >= limit && next.modseq != modseq {
			c.HighestModSeq, c.More = modseq, true
			return c, nil
		}
		modseq = next.modseq
		if next == vanished {
			c.Vanished.Add(next.uid)
		} else if err := v.addChange(&c, next, table); err != nil {
			return c, err
		}
		next.advance(next.it.Next())
	}
}

func (v *View) addChange(c *Changes, at *feed, table *keywordTable) error {
	row, err := decodeChange(at.it.Value(), at.modseq)
	if err != nil {
		return v.q.corrupt(at.it.Key(), err.Error())
	}
	flags, err := table.flags(row)
	if err != nil {
		return v.q.corrupt(at.it.Key(), err.Error())
	}
	c.Changed = append(c.Changed, FlagChange{UID: at.uid, ModSeq: at.modseq, Flags: flags})
	return nil
}

// feed walks keys that end in modseq and UID.
type feed struct {
	it     *pebble.Iterator
	valid  bool
	modseq uint64
	uid    uint32
	err    error
}

func (v *View) feed(mb mailboxKey, tag byte, since uint64) (*feed, error) {
	it, err := v.q.r.NewIter(iterBounds(v.q.k.modseq(mb, tag, since+1, 0), after(v.q.k.mailbox(mb, tag))))
	if err != nil {
		return nil, fmt.Errorf("scan changes: %w", err)
	}
	f := &feed{it: it}
	f.advance(it.First())
	return f, nil
}

func (f *feed) advance(ok bool) {
	if f.valid = ok; ok {
		f.modseq, f.uid, f.err = tailModSeq(f.it.Key())
		f.valid = f.err == nil
	} else {
		f.err = f.it.Error()
	}
}

// earlier is the feed with the lower modseq, nil when both are at their end or one failed.
func earlier(a, b *feed) *feed {
	switch {
	case a.err != nil || b.err != nil || !a.valid && !b.valid:
		return nil
	case !b.valid || a.valid && a.modseq <= b.modseq:
		return a
	default:
		return b
	}
}

func firstError(a, b *feed) error { return joinFirst(a.err, b.err) }

// joinFirst is the first error that there is.
func joinFirst(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
