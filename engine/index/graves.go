package index

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Deleting a mailbox removes its meta and most of its rows at once, by a few range deletions if there are many. Its message rows say which
// references must go too, one by one, so they stay until swept: a grave key names the mailbox, and every log entry sweeps a
// bounded number of rows, first deleted first. So even a mailbox of ten million messages costs no entry much.

// graveState says whether a sweep could find anything.
type graveState uint8

const (
	gravesUnknown graveState = iota // look
	gravesNone
	gravesSome
)

func iterBounds(lower, upper []byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: lower, UpperBound: upper}
}

// bury removes all of a mailbox but its message rows and its name, and leaves a grave for those rows.
func (t *Txn) bury(mb *mailboxState) error {
	// Forgetting the decoded state first, so that nothing of it comes after the deletions.
	mb.exists, mb.dirty, mb.tableDirty, mb.blocks = false, false, false, nil
	if err := t.removeSmall(mb.key); err != nil {
		return err
	}
	if mb.meta.Messages == 0 {
		return nil
	}
	if err := t.dig(mb.key); err != nil {
		return err
	}
	return t.sweepGraves()
}

// buryKeys is bury of a mailbox that nothing was decoded of. Its message rows need not be as its counts say.
func (t *Txn) buryKeys(m mailboxKey) error {
	if err := t.removeSmall(m); err != nil {
		return err
	}
	return t.dig(m)
}

// dig leaves a grave for a mailbox's message rows.
func (t *Txn) dig(m mailboxKey) error {
	t.s.graves = gravesSome
	return t.put(t.k.grave(t.index, m.account, m.id), presence())
}

// removeSmall removes all of a mailbox but its message rows and its name.
func (t *Txn) removeSmall(m mailboxKey) error {
	for _, key := range [][]byte{t.k.mailbox(m, tagMailbox), t.k.mailbox(m, tagKeywords)} {
		if err := t.remove(key); err != nil {
			return err
		}
	}
	for _, tag := range []byte{tagFlags, tagChange, tagExpunged, tagBlock, tagAnnotation, tagGrant} {
		if err := t.removePrefix(t.k.mailbox(m, tag)); err != nil {
			return err
		}
	}
	return nil
}

// sweepGraves removes up to a number of rows of deleted mailboxes, with their references.
func (t *Txn) sweepGraves() error {
	if t.s.graves == gravesNone {
		return nil
	}
	budget := t.s.db.sweep
	for budget > 0 {
		grave, m, err := t.firstGrave()
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		if grave == nil {
			t.s.graves = gravesNone
			return nil
		}
		n, err := t.sweepRows(m, budget)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		if n < budget { // that was all of it
			if err := t.remove(grave); err != nil {
				return err
			}
		}
		budget -= n
	}
	t.s.graves = gravesSome
	return nil
}

func (t *Txn) firstGrave() (key []byte, m mailboxKey, err error) {
	prefix := t.k.root(tagGrave)
	it, err := t.b.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return nil, m, err
	}
	if it.First() {
		key = append([]byte(nil), it.Key()...)
		rest := key[len(prefix):]
		if len(rest) != 8+8+4 {
			return nil, m, joinClose(t.q.corrupt(key, "length of a grave's key"), it)
		}
		m = mailboxKey{binary.BigEndian.Uint64(rest[8:]), binary.BigEndian.Uint32(rest[16:])}
	}
	return key, m, it.Close()
}

// sweepRows removes up to limit message rows of m and says how many.
func (t *Txn) sweepRows(m mailboxKey, limit int) (n int, err error) {
	prefix := t.k.mailbox(m, tagMessage)
	it, err := t.b.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return 0, err
	}
	var last uint32
	var few [][]byte
	for ok := it.First(); ok && n < limit; ok = it.Next() {
		row, err := decodeCold(it.Value())
		if err == nil {
			last, err = tailUID(it.Key())
		}
		if err != nil {
			return 0, joinClose(t.q.corrupt(it.Key(), err.Error()), it)
		}
		t.changeRef(row.ref, m, last, false)
		if n++; n <= fewKeys {
			few = append(few, slices.Clone(it.Key()))
		}
	}
	if err := it.Close(); err != nil {
		return 0, err
	}
	return n, t.removeThese(few, n > len(few), prefix, after(t.k.uid(m, tagMessage, last)))
}
