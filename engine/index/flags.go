package index

import (
	"bytes"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// SetFlags changes the flags of those of uids that exist. With unchangedSince above zero, messages whose modseq is above it are
// left alone and given back as failed (RFC 7162 section 3.1.3). modified has those whose flags did
// change, ascending; a message that already had them keeps its modseq.
func (t *Txn) SetFlags(account uint64, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) (modified []FlagChange, failed *roaring.Bitmap, err error) {
	return t.SetFlagsOf(AllFlags(), account, mailbox, uids, op, f, unchangedSince)
}

// FlagScope says which flags a change concerns; the others stay as they are.
type FlagScope struct {
	System   uint8 // Flag… bits
	Keywords bool
}

// AllFlags is the scope of all flags.
func AllFlags() FlagScope { return FlagScope{System: flagsKnown, Keywords: true} }

// Limit leaves of some flags those in the scope.
func (c FlagScope) Limit(f Flags) Flags {
	f.System &= c.System
	if !c.Keywords {
		f.Keywords = nil
	}
	return f
}

// Others is the scope of all flags that are not in this one.
func (c FlagScope) Others() FlagScope {
	return FlagScope{System: flagsKnown &^ c.System, Keywords: !c.Keywords}
}

// SetFlagsOf is SetFlags of the flags in a scope.
func (t *Txn) SetFlagsOf(scope FlagScope, account uint64, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) (modified []FlagChange, failed *roaring.Bitmap, err error) {
	modified, failed, err = t.setFlags(scope, account, mailbox, uids, op, f, unchangedSince)
	return modified, failed, t.settle("set flags", err)
}

func (t *Txn) setFlags(scope FlagScope, account uint64, mailbox uint32, uids *roaring.Bitmap, op FlagOp, f Flags, unchangedSince uint64) ([]FlagChange, *roaring.Bitmap, error) {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return nil, nil, err
	}
	if f.System&^flagsKnown != 0 || op > OpRemove {
		return nil, nil, fmt.Errorf("%w: unknown system flag or operation", ErrInvalidName)
	}
	f = scope.Limit(f)
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
	change := hotRow{system: f.System, keywords: table.numbers(f.Keywords)}
	failed := roaring.New()
	edits, err := t.planFlags(mb, found, scope, op, change, unchangedSince, failed)
	if err != nil || len(edits) == 0 {
		return nil, failed, err
	}
	mb.setTable(table)
	modified := make([]FlagChange, 0, len(edits))
	modseq := t.nextModSeq(mb)
	if err := t.applyFlags(mb, edits, modseq); err != nil {
		return nil, nil, err
	}
	for i := range edits {
		e := &edits[i]
		flags, err := table.flags(&e.to)
		if err != nil {
			return nil, nil, t.q.corrupt(t.k.uid(mb.key, tagFlags, e.uid), err.Error())
		}
		modified = append(modified, FlagChange{UID: e.uid, ModSeq: modseq, Flags: flags})
	}
	return modified, failed, nil
}

// flagEdit is a message before, and with its new flags.
type flagEdit struct {
	uid      uint32
	from, to hotRow
}

// planFlags finds the messages that change and enters those held back in failed.
func (t *Txn) planFlags(mb *mailboxState, uids *roaring.Bitmap, scope FlagScope, op FlagOp, change hotRow, unchangedSince uint64, failed *roaring.Bitmap) ([]flagEdit, error) {
	var edits []flagEdit
	err := t.eachRow(mb, uids, tagFlags, func(uid uint32, v []byte) error {
		row, err := decodeHot(v)
		if err != nil {
			return err
		}
		if unchangedSince > 0 && row.modseq > unchangedSince {
			failed.Add(uid)
			return nil
		}
		to := row
		to.system, to.keywords = op.apply(&row, &change)
		to.system = row.system&^scope.System | to.system&scope.System
		if !scope.Keywords {
			to.keywords = bytes.Clone(row.keywords)
		}
		if to.system != row.system || string(to.keywords) != string(row.keywords) {
			row.keywords = nil // aliases v
			edits = append(edits, flagEdit{uid, row, to})
		}
		return nil
	})
	return edits, err
}

// apply gives the flags after op. They do not alias row's.
func (op FlagOp) apply(row, change *hotRow) (system uint8, keywords []byte) {
	switch op {
	case OpAdd:
		return row.system | change.system, union(row.keywords, change.keywords)
	case OpRemove:
		return row.system &^ change.system, without(row.keywords, change.keywords)
	default:
		return change.system, change.keywords
	}
}

// applyFlags writes edits, which have ascending UIDs. Rows go into the batch one kind after the other, in the order of their keys: pebble enters a key beside the last
// one without looking for its place.
func (t *Txn) applyFlags(mb *mailboxState, edits []flagEdit, modseq uint64) error {
	for i := range edits {
		e := &edits[i]
		mb.uncount(e.from.system)
		mb.count(e.to.system)
		e.to.modseq = modseq
		if err := t.put(t.k.uid(mb.key, tagFlags, e.uid), e.to.encode()); err != nil {
			return err
		}
		if err := t.markFlags(mb, e.uid, e.from.system, e.to.system); err != nil {
			return err
		}
	}
	for i := range edits {
		if e := &edits[i]; !e.from.fresh() {
			if err := t.remove(t.k.modseq(mb.key, tagChange, e.from.modseq, e.uid)); err != nil {
				return err
			}
		}
	}
	for i := range edits {
		if e := &edits[i]; !e.to.fresh() { // a message that entered with this very log entry stays fresh
			if err := t.put(t.k.modseq(mb.key, tagChange, modseq, e.uid), e.to.encodeChange()); err != nil {
				return err
			}
		}
	}
	return nil
}
