package imap

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/columns"
)

// What searches and sorts compare of messages is remembered in columns, since finding it out is nearly all that they cost. An answer never depends on it:
//
//  1. A value is made in one way, of what the cluster gave, and compared in one way, whether it was remembered or not.
//  2. Before a column is looked at the owner's shard is asked, in each command, which messages there are, and in front of that whether a guest may still read the mailbox. That
//     costs what happened since the client was told last.
//  3. What was not read as a whole, since its bytes are lost, is not remembered.

// recall is what one command finds in columns, and adds to them.
type recall struct {
	s     *session
	sel   *selected
	ctx   context.Context // of reading header fields
	there *roaring.Bitmap // messages that there are; nil: the cluster was not asked
	next  uint32          // the next UID then
	list  []*recalled
	known []entry // memory for those of which no more than columns is needed
}

// recalled is a column in use.
type recalled struct {
	column
	kept  *columns.Column
	cells [][]byte // of the messages that are looked at, in their order; nil: not known
	made  []byte   // memory for a value
}

func (s *session) recall(sel *selected) *recall { return &recall{s: s, sel: sel, ctx: s.ctx} }

// anew is for other columns in the same command.
func (r *recall) anew() *recall {
	return &recall{s: r.s, sel: r.sel, ctx: r.s.ctx, there: r.there, next: r.next}
}

// use takes a column into use.
func (r *recall) use(c column) (*recalled, error) {
	for _, k := range r.list {
		if k.name == c.name {
			return k, nil
		}
	}
	if err := r.ask(); err != nil {
		return nil, err
	}
	k := &recalled{column: c, kept: r.s.srv.memory.columns.Column(columns.Key{Account: r.sel.account.ID, Mailbox: r.sel.id, UIDValidity: r.sel.uidValidity, Name: c.name})}
	k.kept.Keep(r.there, r.next)
	r.list = append(r.list, k)
	return k, nil
}

// ask asks the cluster, once, which messages there are.
func (r *recall) ask() error {
	if r.there != nil {
		return nil
	}
	v := &r.sel.view
	there := roaring.Or(v.uids, v.coming)
	there.AndNot(v.gone)
	for since, more := v.modseq, true; more; {
		ctx, cancel := r.s.question()
		ch, err := r.s.mail.Changes(ctx, r.sel.account, r.sel.id, since)
		cancel()
		if err != nil {
			return err
		}
		for _, c := range ch.Changed {
			there.Add(c.UID)
		}
		there.AndNot(ch.Vanished)
		r.next = ch.UIDNext
		more = ch.More && ch.HighestModSeq > since
		since = ch.HighestModSeq
	}
	r.there = there
	return nil
}

// present leaves of a set what there is, where that was asked for.
func (r *recall) present(uids *roaring.Bitmap) *roaring.Bitmap {
	if r.there == nil {
		return uids
	}
	return roaring.And(uids, r.there)
}

// look looks messages up in a column, whose UIDs ascend.
func (r *recall) look(k *recalled, uids []uint32) {
	if cap(k.cells) < len(uids) {
		k.cells = make([][]byte, len(uids))
	}
	k.cells = k.cells[:len(uids)]
	k.kept.Values(uids, k.cells)
}

// load gives messages in the order of their UIDs, with what was wanted of them; and, where a column does not know them, with what its values are made of.
// They are good until the next load.
func (r *recall) load(some *roaring.Bitmap, want client.Want) ([]*entry, error) {
	if len(r.list) == 0 {
		return r.s.load(r.sel, some, want)
	}
	uids := some.ToArray()
	made, unknown := want, roaring.New()
	for _, k := range r.list {
		r.look(k, uids)
		for i, cell := range k.cells {
			if cell == nil {
				unknown.Add(uids[i])
				made |= k.want
			}
		}
	}
	var known []*entry
	var err error
	switch {
	case want != 0:
		known, err = r.s.load(r.sel, roaring.AndNot(some, unknown), want)
	default:
		known = r.bare(uids, unknown)
	}
	if err != nil || unknown.IsEmpty() {
		return placed(known, uids), err
	}
	loaded, err := r.s.load(r.sel, unknown, made)
	if err != nil {
		return nil, err
	}
	return placed(merge(known, loaded), uids), nil
}

// bare are entries of messages without anything that the cluster would have to give, but for some.
func (r *recall) bare(uids []uint32, but *roaring.Bitmap) (list []*entry) {
	if cap(r.known) < len(uids) {
		r.known = make([]entry, len(uids))
	}
	for i, uid := range uids {
		if but.Contains(uid) {
			continue
		}
		e := &r.known[:len(uids)][i]
		*e = entry{uid: uid, in: r.sel}
		list = append(list, e)
	}
	return list
}

// merge joins two lists in the order of UIDs.
func merge(a, b []*entry) []*entry {
	out := make([]*entry, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].uid < b[0].uid {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// placed notes where among those that were looked up messages are, of which some may be missing.
func placed(list []*entry, uids []uint32) []*entry {
	i := 0
	for _, e := range list {
		for uids[i] != e.uid {
			i++
		}
		e.at = i
	}
	return list
}

// value is a message's in a column, good until the next one of that.
func (r *recall) value(k *recalled, e *entry) ([]byte, error) {
	if v := k.cells[e.at]; v != nil {
		return v, nil
	}
	v, err := k.append(r, k.made[:0], e)
	if k.made = v; err == nil && !e.lost {
		k.kept.Add(e.uid, v)
	}
	return v, err
}

// done has everything remembered that was found out.
func (r *recall) done() {
	for _, k := range r.list {
		k.kept.Flush()
	}
}

// chunkSize is how many messages are loaded at once.
func (r *recall) chunkSize(want client.Want) int {
	for _, k := range r.list {
		want |= k.want
	}
	if want&index.WantSummary != 0 {
		return summaryChunk
	}
	return flagsChunk
}
