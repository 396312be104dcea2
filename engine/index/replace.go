package index

import "github.com/RoaringBitmap/roaring/v2"

// Replace enters a message in dst and removes the one with the UID from src, which may be the same mailbox, in one step (RFC 8508). Nothing of the old
// message passes to the new one. ErrNoMessage if there is no such message: then none is entered either.
func (t *Txn) Replace(account uint64, src, uid, dst uint32, m NewMessage) (added, uidValidity uint32, err error) {
	added, uidValidity, err = t.replace(account, src, uid, dst, m)
	return added, uidValidity, t.settle("replace message", err)
}

func (t *Txn) replace(account uint64, src, uid, dst uint32, m NewMessage) (added, uidValidity uint32, err error) {
	from, err := t.selectable(account, src)
	if err != nil {
		return 0, 0, err
	}
	old, err := t.selection(from, roaring.BitmapOf(uid))
	if err == nil && old.IsEmpty() {
		err = ErrNoMessage
	}
	if err != nil {
		return 0, 0, err
	}
	uids, uidValidity, err := t.addMessages(account, dst, []NewMessage{m})
	if err != nil {
		return 0, 0, err
	}
	return uids[0], uidValidity, t.eraseAll(from, old) // which nothing refuses
}
