package index

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// SetFlags changes the flags of those of uids that exist. With unchangedSince above zero, messages whose modseq is above it are
// left alone and given back as failed (RFC 7162 section 3.1.3). modified has those whose flags did
// change, ascending; a message that already had them keeps its modseq.
func (t *Txn) SetFlags(account uint64, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) (modified []FlagChange, failed *roaring.Bitmap, err error) {
	modified, failed, err = t.setFlags(account, mailbox, uids, op, f, unchangedSince)
	return modified, failed, t.settle("set flags", err)
}

func (t *Txn) setFlags(account uint64, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) ([]FlagChange, *roaring.Bitmap, error) {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return nil, nil, err
	}
	if f.System&^flagsKnown != 0 || op > OpRemove {
		return nil, nil, fmt.Errorf("%w: unknown system flag or operation", ErrInvalidName)
	}
	found, err := t.selection(mb, uids)
	if err != nil {
		return nil, nil, err
	}
	if err := bounded(found); err != nil {
		return nil, nil, err
	}
	table, err := t.keywordTable(mb)
	if err != nil {
		return nil, nil, err
	}
	if op != OpRemove && !found.IsEmpty() {
		if table, err = table.extend(f.Keywords); err != nil {
			return nil, nil, err
		}
	}
	change := flagRow{system: f.System, keywords: table.numbers(f.Keywords)}
	failed := roaring.New()
	edits, err := t.planFlags(mb, found, op, change, unchangedSince, failed)
	if err != nil || len(edits) == 0 {
		return nil, failed, err
	}
	mb.setTable(table)
	modified := make([]FlagChange, 0, len(edits))
	modseq := t.nextModSeq(mb)
	for _, e := range edits {
		e.to.modseq = modseq
		if err := t.applyFlags(mb, e); err != nil {
			return nil, nil, err
		}
		flags, err := table.flags(e.to)
		if err != nil {
			return nil, nil, t.q.corrupt(t.k.uid(mb.key, tagFlags, e.uid), err.Error())
		}
		modified = append(modified, FlagChange{UID: e.uid, ModSeq: modseq, Flags: flags})
	}
	return modified, failed, nil
}

type flagEdit struct {
	uid      uint32
	from, to flagRow
}

// planFlags finds the messages that change and enters those held back in failed.
func (t *Txn) planFlags(mb *mailboxState, uids *roaring.Bitmap, op FlagOp, change flagRow, unchangedSince uint64, failed *roaring.Bitmap) ([]flagEdit, error) {
	var edits []flagEdit
	err := t.eachRow(mb, uids, tagFlags, func(uid uint32, v []byte) error {
		row, err := decodeFlags(v)
		if err != nil {
			return err
		}
		if unchangedSince > 0 && row.modseq > unchangedSince {
			failed.Add(uid)
			return nil
		}
		if to := op.apply(row, change); to.system != row.system || string(to.keywords) != string(row.keywords) {
			row.keywords = nil // aliases v
			edits = append(edits, flagEdit{uid, row, to})
		}
		return nil
	})
	return edits, err
}

// apply gives the flags after op. The result does not alias row.
func (op FlagOp) apply(row, change flagRow) flagRow {
	switch op {
	case OpAdd:
		return flagRow{system: row.system | change.system, keywords: union(row.keywords, change.keywords)}
	case OpRemove:
		return flagRow{system: row.system &^ change.system, keywords: without(row.keywords, change.keywords)}
	default:
		return change
	}
}

func (t *Txn) applyFlags(mb *mailboxState, e flagEdit) error {
	mb.count(e.from.system, e.to.system, false)
	if err := t.remove(t.k.modseq(mb.key, tagChange, e.from.modseq, e.uid)); err != nil {
		return err
	}
	if err := t.putFlags(mb, e.uid, e.to); err != nil {
		return err
	}
	return t.markFlags(mb, e.uid, e.from.system, e.to.system)
}
