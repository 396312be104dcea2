package imap

import (
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
)

// errViewOrder means that a message appeared in front of ones that the client already numbered. UIDs only grow, so
// this cannot be; a session that meets it must end rather than number messages differently than its client.
var errViewOrder = errors.New("a new message has a lower UID than a known one")

// view is what a client believes of its mailbox: the message with sequence number n has the n-th lowest UID.
//
// Invariants: uids changes only when the client is told, in expunge (EXPUNGE), drop (VANISHED) and arrive (EXISTS); gone is a subset
// of uids, coming has none of them; what the client learned is complete up to modseq, but for gone and coming.
//
// Changes come in the order of modseqs, many of them in several parts. A new message whose flags were changed comes after
// newer ones, perhaps in a later part; so no new message gets its number before the last part is there.
type view struct {
	uids   *roaring.Bitmap
	gone   *roaring.Bitmap // vanished, and the client not told yet
	coming *roaring.Bitmap // new, and without a number yet
	modseq uint64
}

func newView(uids *roaring.Bitmap, modseq uint64) view {
	if uids == nil {
		uids = roaring.New()
	} else {
		uids = uids.Clone()
	}
	uids.RunOptimize()
	return view{uids: uids, gone: roaring.New(), coming: roaring.New(), modseq: modseq}
}

// count is the number of messages as the client knows it.
func (v *view) count() uint32 { return uint32(v.uids.GetCardinality()) }

// last is the highest UID, 0 when there is none.
func (v *view) last() uint32 {
	if v.uids.IsEmpty() {
		return 0
	}
	return v.uids.Maximum()
}

// seq is the sequence number of a UID, 0 when it has none.
func (v *view) seq(uid uint32) uint32 {
	if !v.uids.Contains(uid) {
		return 0
	}
	return uint32(v.uids.Rank(uid))
}

// uid is the UID of a sequence number, 0 when there is none.
func (v *view) uid(seq uint32) uint32 {
	if seq == 0 {
		return 0
	}
	uid, err := v.uids.Select(seq - 1)
	if err != nil {
		return 0
	}
	return uid
}

// vanish notes messages that are gone; the client keeps their numbers until expunge, and never hears of new ones.
func (v *view) vanish(uids *roaring.Bitmap) {
	if uids == nil || uids.IsEmpty() {
		return
	}
	v.coming.AndNot(uids)
	v.gone.Or(roaring.And(uids, v.uids))
}

// arrive adds new messages at the end. The caller says EXISTS.
func (v *view) arrive(uids *roaring.Bitmap) error {
	if uids.IsEmpty() {
		return nil
	}
	if uids.Minimum() <= v.last() {
		return errViewOrder
	}
	v.uids.Or(uids)
	return nil
}

// expunge takes the messages that are gone out of the view, telling each one's sequence number at that moment: from
// the last to the first, so that none changes another's.
func (v *view) expunge(tell func(seq uint32) error) error {
	if v.gone.IsEmpty() {
		return nil
	}
	for it := v.gone.ReverseIterator(); it.HasNext(); {
		if err := tell(v.seq(it.Next())); err != nil {
			return err
		}
	}
	v.drop()
	return nil
}

// drop takes the messages that are gone out of the view. The caller says VANISHED, or the client knows.
func (v *view) drop() {
	v.uids.AndNot(v.gone)
	v.gone.Clear()
}

// walker gives the sequence numbers of ascending UIDs in little more than one step each.
type walker struct {
	v   *view
	it  roaring.IntPeekable
	seq uint32 // of the last UID taken from it
}

// seqOf is view.seq for a UID higher than those before.
func (w *walker) seqOf(uid uint32) uint32 {
	const stride = 64 // more steps than this cost more than a new start
	for step := 0; w.it != nil && w.it.HasNext() && step < stride; step++ {
		switch next := w.it.PeekNext(); {
		case next > uid:
			return 0
		case next == uid:
			w.it.Next()
			w.seq++
			return w.seq
		}
		w.it.Next()
		w.seq++
	}
	seq := w.v.seq(uid)
	if seq == 0 {
		return 0
	}
	w.it = w.v.uids.Iterator()
	w.it.AdvanceIfNeeded(uid)
	w.it.Next()
	w.seq = seq
	return seq
}
