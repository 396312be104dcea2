package fulltext

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// State is how far a mailbox is indexed.
type State struct {
	Mailbox
	UIDValidity uint32
	Through     uint32 // the last UID
	Messages    uint64 // expunged ones too, until they are merged away
	Segments    int
}

func stateOf(m Mailbox, e *entry) State {
	if e == nil {
		return State{Mailbox: m}
	}
	return State{m, e.UIDValidity, e.Through, e.messages(), len(e.Segments)}
}

// State says how far a mailbox is indexed; one that is not has a zero UIDVALIDITY.
func (db *DB) State(m Mailbox) (s State, err error) {
	err = db.use(func(p *pebble.DB) error {
		e, err := readEntry(p, m)
		s = stateOf(m, e)
		return err
	})
	return s, err
}

// States calls fn for every mailbox of a shard that something is known of, in order.
func (db *DB) States(shard uint32, fn func(s State) error) error {
	return db.use(func(p *pebble.DB) (err error) {
		lower := shardKey(shard)
		it, err := p.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
		if err != nil {
			return fmt.Errorf("list the mailboxes of shard %d: %w", shard, err)
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		for ok := it.First(); ok; {
			m, ours := mailboxOf(it.Key())
			if !ours {
				return fmt.Errorf("%w: key %x", errDamage, it.Key())
			}
			if it.Key()[mailboxLen] == tagEntry {
				v, err := it.ValueAndErr()
				if err != nil {
					return err
				}
				e, err := decodeEntry(v)
				if err != nil {
					return fmt.Errorf("%w: entry of %v: %w", errDamage, m, err)
				}
				if err := fn(stateOf(m, e)); err != nil {
					return err
				}
			}
			ok = it.SeekGE(after(m.root()))
		}
		return it.Error()
	})
}

// Shards lists the shards that something is known of.
func (db *DB) Shards() (list []uint32, err error) {
	err = db.use(func(p *pebble.DB) (err error) {
		it, err := p.NewIter(&pebble.IterOptions{UpperBound: formatKey})
		if err != nil {
			return fmt.Errorf("list shards: %w", err)
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		for ok := it.First(); ok; {
			m, ours := mailboxOf(it.Key())
			if !ours {
				return fmt.Errorf("%w: key %x", errDamage, it.Key())
			}
			list = append(list, m.Shard)
			ok = it.SeekGE(after(shardKey(m.Shard)))
		}
		return it.Error()
	})
	return list, err
}

// Commit adds a batch, which may be empty: of its mailbox, every message up to through is in it, was indexed before, or is gone. What was known of
// the mailbox under another UIDVALIDITY is dropped. A batch that does not begin where the mailbox is indexed up to, because that was dropped or begun anew meanwhile, is refused.
func (db *DB) Commit(b *Batch, through uint32) error {
	err := db.use(func(p *pebble.DB) error {
		db.change.Lock()
		defer db.change.Unlock()
		e, err := readEntry(p, b.m)
		if err != nil {
			return err
		}
		w := p.NewBatch()
		if e == nil || e.UIDValidity != b.uidValidity {
			if err := w.DeleteRange(b.m.root(), after(b.m.root()), nil); err != nil {
				return errors.Join(err, w.Close())
			}
			e = &entry{UIDValidity: b.uidValidity}
		}
		if b.after != e.Through || b.Len() > 0 && b.uids[0] <= b.after {
			return errors.Join(fmt.Errorf("messages after %d: they are indexed up to %d", b.after, e.Through), w.Close())
		}
		if b.Len() > 0 {
			s, err := b.write(db.segmentID(), func(key, value []byte) error { return w.Set(key, value, nil) })
			if err != nil {
				return errors.Join(err, w.Close())
			}
			e.Segments = append(e.Segments, s)
		}
		e.Through = max(e.Through, through)
		if err := putEntry(w, b.m, e); err != nil {
			return errors.Join(err, w.Close())
		}
		return errors.Join(w.Commit(pebble.NoSync), w.Close())
	})
	if err != nil {
		return fmt.Errorf("index messages of %v: %w", b.m, err)
	}
	return nil
}

// Drop forgets a mailbox.
func (db *DB) Drop(m Mailbox) error { return db.drop(m.root()) }

// DropShard forgets all mailboxes of a shard.
func (db *DB) DropShard(shard uint32) error { return db.drop(shardKey(shard)) }

func (db *DB) drop(prefix []byte) error {
	err := db.use(func(p *pebble.DB) error {
		db.change.Lock()
		defer db.change.Unlock()
		return p.DeleteRange(prefix, after(prefix), pebble.NoSync)
	})
	if err != nil {
		return fmt.Errorf("drop from the full-text index what is under %x: %w", prefix, err)
	}
	return nil
}

// splitBlock gives the segment and the rest of a block's key: class and first term.
func splitBlock(key []byte) (id uint64, first []byte, err error) {
	if len(key) < blockLen+1 {
		return 0, nil, fmt.Errorf("%w: key %x", errDamage, key)
	}
	return binary.BigEndian.Uint64(key[mailboxLen+1:]), key[segmentLen+1:], nil
}
