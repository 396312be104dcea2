package index

import (
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"
)

// AddMessages enters messages in a mailbox and gives their UIDs, in the order of list.
func (t *Txn) AddMessages(account uint64, mailbox uint32, list []NewMessage) (uids []uint32, uidValidity uint32, err error) {
	uids, uidValidity, err = t.addMessages(account, mailbox, list)
	return uids, uidValidity, t.settle("add messages", err)
}

func (t *Txn) addMessages(account uint64, mailbox uint32, list []NewMessage) ([]uint32, uint32, error) {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return nil, 0, err
	}
	if err := mb.room(len(list)); err != nil {
		return nil, 0, err
	}
	table, err := t.keywordTable(mb)
	if err != nil {
		return nil, 0, err
	}
	for i := range list {
		if err := t.admit(list[i].Ref.Volume); err != nil {
			return nil, 0, err
		}
		if len(list[i].Summary) > MaxSummaryBytes {
			return nil, 0, &LimitError{What: "bytes in a summary", Limit: MaxSummaryBytes}
		}
		if list[i].Flags.System&^flagsKnown != 0 {
			return nil, 0, fmt.Errorf("%w: unknown system flag", ErrInvalidName)
		}
		if table, err = table.extend(list[i].Flags.Keywords); err != nil {
			return nil, 0, err
		}
	}
	mb.setTable(table)
	uids := make([]uint32, len(list))
	for i := range list {
		m := &list[i]
		uids[i], err = t.insert(mb, stored{
			hot:  hotRow{system: m.Flags.System, size: m.Size, date: m.Date, zone: m.Zone, keywords: table.numbers(m.Flags.Keywords)},
			cold: coldRow{saveDate: m.SaveDate, ref: m.Ref, summary: m.Summary},
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return uids, mb.meta.UIDValidity, nil
}

// room says whether n more messages may enter.
func (mb *mailboxState) room(n int) error {
	switch {
	case n > MaxChange:
		return &LimitError{What: "messages in one change", Limit: MaxChange}
	case uint64(mb.meta.Messages)+uint64(n) > MaxMessages:
		return &LimitError{What: "messages in a mailbox", Limit: MaxMessages}
	case uint64(mb.meta.UIDNext)+uint64(n) > math.MaxUint32:
		return &LimitError{What: "UIDs in a mailbox", Limit: math.MaxUint32}
	}
	return nil
}

// stored is a message with its rows. uid is where it was read from.
type stored struct {
	uid  uint32
	hot  hotRow
	cold coldRow
}

// insert gives a message the next UID and writes its rows, reference, counts and blocks. There must be room.
func (t *Txn) insert(mb *mailboxState, m stored) (uint32, error) {
	uid := mb.meta.UIDNext
	m.hot.modseq = t.nextModSeq(mb)
	m.hot.created = m.hot.modseq
	if err := t.tally(mb, 1, int64(m.hot.size)); err != nil {
		return 0, err
	}
	mb.count(m.hot.system)
	if err := t.put(t.k.uid(mb.key, tagFlags, uid), m.hot.encode()); err != nil {
		return 0, err
	}
	if err := t.put(t.k.uid(mb.key, tagMessage, uid), m.cold.encode()); err != nil {
		return 0, err
	}
	t.changeRef(m.cold.ref, mb.key, uid, true)
	if err := t.mark(mb, kindUIDs, uid, true); err != nil {
		return 0, err
	}
	if mb.meta.UIDNext++; mb.openBlock() != uid>>blockShift {
		mb.setOpen(new(cachedBlock))
	}
	return uid, t.markFlags(mb, uid, 0, m.hot.system)
}

// count and uncount move the flag counters for one message.
func (mb *mailboxState) count(system uint8) {
	if system&FlagSeen == 0 {
		mb.meta.Unseen++
	}
	if system&FlagDeleted != 0 {
		mb.meta.Deleted++
	}
}

func (mb *mailboxState) uncount(system uint8) {
	if system&FlagSeen == 0 {
		mb.meta.Unseen--
	}
	if system&FlagDeleted != 0 {
		mb.meta.Deleted--
	}
}

// fewUIDs is up to where looking each UID up beats gathering the mailbox's bitmap.
const fewUIDs = 64

// selection is those of uids (nil: all) that the mailbox has.
func (t *Txn) selection(mb *mailboxState, uids *roaring.Bitmap) (*roaring.Bitmap, error) {
	if uids != nil && uids.GetCardinality() <= fewUIDs {
		out := roaring.New()
		for it := uids.Iterator(); it.HasNext(); {
			uid := it.Next()
			b, err := t.blockOf(mb, kindUIDs, uid)
			if err != nil {
				return nil, err
			}
			if b.has(uid % blockBits) {
				out.Add(uid)
			}
		}
		return out, nil
	}
	out, err := t.bitmap(mb, kindUIDs)
	if err == nil && uids != nil {
		out.And(uids)
	}
	return out, err
}

// bitmap gathers a kind's blocks as this Txn sees them.
func (t *Txn) bitmap(mb *mailboxState, kind uint8) (*roaring.Bitmap, error) {
	if err := t.writeBlocks(mb); err != nil {
		return nil, err
	}
	var open *block
	if kind == kindUIDs {
		open = &mb.blocks[mb.openBlock()][kindUIDs].block
	}
	return t.q.bitmap(mb.key, kind, mb.openBlock(), open)
}

func bounded(uids *roaring.Bitmap) error {
	if uids.GetCardinality() > MaxChange {
		return &LimitError{What: "messages in one change", Limit: MaxChange}
	}
	return nil
}

// CopyMessages copies those of uids that exist to dst, with flags, dates and references; move removes them from src in the same
// step (RFC 6851). The copies were saved at a time in unix seconds (RFC 8514); 0 leaves that as it is. The results pair the old and new UIDs, ascending.
func (t *Txn) CopyMessages(account uint64, src uint32, uids *roaring.Bitmap, dst uint32, move bool, at int64) (srcUIDs, dstUIDs []uint32, err error) {
	srcUIDs, dstUIDs, err = t.copyMessages(account, src, uids, dst, move, at)
	return srcUIDs, dstUIDs, t.settle("copy messages", err)
}

func (t *Txn) copyMessages(account uint64, src uint32, uids *roaring.Bitmap, dst uint32, move bool, at int64) ([]uint32, []uint32, error) {
	from, err := t.selectable(account, src)
	if err != nil {
		return nil, nil, err
	}
	to, err := t.selectable(account, dst)
	if err != nil {
		return nil, nil, err
	}
	if uids, err = t.selection(from, uids); err != nil {
		return nil, nil, err
	}
	picked, err := t.pick(from, uids)
	if err != nil {
		return nil, nil, err
	}
	if err := to.room(len(picked)); err != nil {
		return nil, nil, err
	}
	if at != 0 {
		for i := range picked {
			picked[i].cold.copied = at
		}
	}
	placed, err := t.place(from, to, picked)
	if err != nil {
		return nil, nil, err
	}
	if move {
		err = t.erase(from, picked)
	}
	return uids.ToArray(), placed, err
}

// pick reads messages with both rows, within the limits of one change.
func (t *Txn) pick(mb *mailboxState, uids *roaring.Bitmap) ([]stored, error) {
	list, err := t.pickHot(mb, uids)
	if err != nil {
		return nil, err
	}
	i, size := 0, 0
	err = t.eachRow(mb, uids, tagMessage, func(_ uint32, v []byte) (err error) {
		cold := &list[i].cold
		i++
		*cold, err = decodeCold(v)
		if size += len(cold.summary); size <= MaxCopyBytes {
			cold.summary = append([]byte(nil), cold.summary...)
		} else {
			cold.summary = nil
		}
		return err
	})
	if err == nil && size > MaxCopyBytes {
		err = &LimitError{What: "bytes in one change", Limit: MaxCopyBytes}
	}
	return list, err
}

func (t *Txn) pickHot(mb *mailboxState, uids *roaring.Bitmap) ([]stored, error) {
	if err := bounded(uids); err != nil {
		return nil, err
	}
	list := make([]stored, 0, uids.GetCardinality())
	err := t.eachRow(mb, uids, tagFlags, func(uid uint32, v []byte) (err error) {
		m := stored{uid: uid}
		m.hot, err = decodeHot(v)
		m.hot.keywords = append([]byte(nil), m.hot.keywords...)
		list = append(list, m)
		return err
	})
	return list, err
}

// eachRow calls fn with the row of a tag of each of uids, which must exist, ascending.
func (t *Txn) eachRow(mb *mailboxState, uids *roaring.Bitmap, tag byte, fn func(uid uint32, v []byte) error) error {
	if uids.IsEmpty() {
		return nil
	}
	r, err := t.q.rows(mb.key, tag, uids.GetCardinality(), uids.Minimum(), uids.Maximum())
	if err != nil {
		return err
	}
	for it := uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		if err := r.get(uid, func(v []byte) error { return fn(uid, v) }); err != nil {
			return joinClose(err, r)
		}
	}
	return r.Close()
}

// place enters picked messages of from in to. Keywords that to cannot number are refused before anything is written.
func (t *Txn) place(from, to *mailboxState, picked []stored) ([]uint32, error) {
	source, err := t.keywordTable(from)
	if err != nil {
		return nil, err
	}
	target, err := t.keywordTable(to)
	if err != nil {
		return nil, err
	}
	names := make([]Flags, len(picked))
	for i := range picked {
		if names[i], err = source.flags(&picked[i].hot); err != nil {
			return nil, t.q.corrupt(t.k.uid(from.key, tagFlags, picked[i].uid), err.Error())
		}
		if target, err = target.extend(names[i].Keywords); err != nil {
			return nil, err
		}
	}
	to.setTable(target)
	uids := make([]uint32, len(picked))
	for i, m := range picked {
		m.hot.keywords = target.numbers(names[i].Keywords)
		if uids[i], err = t.insert(to, m); err != nil {
			return nil, err
		}
	}
	return uids, nil
}

// Expunge removes messages for good and says which: those of uids with \Deleted, or all of uids unless onlyDeleted. uids
// nil means all that have \Deleted.
func (t *Txn) Expunge(account uint64, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) {
	gone, err := t.expunge(account, mailbox, uids, onlyDeleted || uids == nil)
	return gone, t.settle("expunge", err)
}

func (t *Txn) expunge(account uint64, mailbox uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return nil, err
	}
	if onlyDeleted && mb.meta.Deleted == 0 {
		return roaring.New(), nil
	}
	gone, err := t.selection(mb, uids)
	if err != nil {
		return nil, err
	}
	if onlyDeleted {
		deleted, err := t.bitmap(mb, kindFlag(FlagDeleted))
		if err != nil {
			return nil, err
		}
		gone.And(deleted)
	}
	return gone, t.eraseAll(mb, gone)
}

// eraseAll removes the messages of a set, which must exist.
func (t *Txn) eraseAll(mb *mailboxState, gone *roaring.Bitmap) error {
	list, err := t.pickHot(mb, gone)
	if err != nil {
		return err
	}
	i := 0
	if err := t.eachRow(mb, gone, tagMessage, func(_ uint32, v []byte) (err error) {
		list[i].cold, err = decodeCold(v)
		list[i].cold.summary = nil
		i++
		return err
	}); err != nil {
		return err
	}
	return t.erase(mb, list)
}

// erase removes messages that were read before; their summaries do not matter.
func (t *Txn) erase(mb *mailboxState, list []stored) error {
	if len(list) == 0 {
		return nil
	}
	modseq := t.nextModSeq(mb)
	for _, m := range list {
		if err := t.tally(mb, -1, -int64(m.hot.size)); err != nil {
			return err
		}
		mb.uncount(m.hot.system)
		if err := t.removeRows(mb, m); err != nil {
			return err
		}
		if err := t.put(t.k.modseq(mb.key, tagExpunged, modseq, m.uid), presence()); err != nil {
			return err
		}
		if err := t.mark(mb, kindUIDs, m.uid, false); err != nil {
			return err
		}
		if err := t.markFlags(mb, m.uid, m.hot.system, 0); err != nil {
			return err
		}
	}
	return nil
}

func (t *Txn) removeRows(mb *mailboxState, m stored) error {
	t.changeRef(m.cold.ref, mb.key, m.uid, false)
	if !m.hot.fresh() {
		if err := t.remove(t.k.modseq(mb.key, tagChange, m.hot.modseq, m.uid)); err != nil {
			return err
		}
	}
	if err := t.remove(t.k.uid(mb.key, tagFlags, m.uid)); err != nil {
		return err
	}
	return t.remove(t.k.uid(mb.key, tagMessage, m.uid))
}
