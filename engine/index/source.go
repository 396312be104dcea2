package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// reader is what a Txn's batch, a View's snapshot and the database have in common.
type reader interface {
	Get(key []byte) (value []byte, closer io.Closer, err error)
	NewIter(o *pebble.IterOptions) (*pebble.Iterator, error)
}

// source reads one shard's keys through some reader.
type source struct {
	k keys
	r reader
}

func joinClose(err error, c io.Closer) error { return errors.Join(err, c.Close()) }

// get decodes the value of key; decode must copy what it keeps. It reports whether there is one.
func (q source) get(key []byte, decode func(v []byte) error) (bool, error) {
	v, closer, err := q.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %x: %w", key, err)
	}
	if err := decode(v); err != nil {
		return false, joinClose(q.corrupt(key, err.Error()), closer)
	}
	return true, closer.Close()
}

func (q source) has(key []byte) (bool, error) { return q.get(key, decodePresence) }

func (q source) corrupt(key []byte, reason string) error {
	return &CorruptError{Shard: uint32(q.k), Key: append([]byte(nil), key[shardLen:]...), Reason: reason}
}

// scan calls fn for each key from lower to before upper.
func (q source) scan(lower, upper []byte, fn func(key, value []byte) error) error {
	it, err := q.r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("scan from %x: %w", lower, err)
	}
	var step stepper
	for ok := it.First(); ok; ok = step.next(it) {
		v, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), v)
		}
		if err != nil {
			return joinClose(err, it)
		}
	}
	return it.Close()
}

func (q source) scanPrefix(prefix []byte, fn func(key, value []byte) error) error {
	return q.scan(prefix, after(prefix), fn)
}

func (q source) counters(account uint64) (c counters, ok bool, err error) {
	ok, err = q.get(q.k.account(account, tagCounters), func(v []byte) (err error) {
		c, err = decodeCounters(v)
		return err
	})
	return c, ok, err
}

// meta is the stored part of a mailbox, with its id, and its open block (unless open is nil).
func (q source) meta(m mailboxKey, open *block) (mb Mailbox, ok bool, err error) {
	ok, err = q.get(q.k.mailbox(m, tagMailbox), func(v []byte) (err error) {
		mb, err = decodeMeta(v, open)
		return err
	})
	mb.ID = m.id
	return mb, ok, err
}

// mailboxID looks a canonical name up. INBOX is an account's first mailbox and stays, so deliveries need no look.
func (q source) mailboxID(account uint64, name string) (id uint32, ok bool, err error) {
	if name == inbox {
		return inboxID, true, nil
	}
	ok, err = q.get(q.k.name(account, tagName, name), func(v []byte) (err error) {
		id, err = decodeID(v)
		return err
	})
	return id, ok, err
}

func encodeID(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{valueVersion}, id)
}

func decodeID(v []byte) (uint32, error) {
	p := parse(v)
	b := p.take(4)
	if err := p.end(); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

func (q source) keywords(m mailboxKey) (*keywordTable, error) {
	var t *keywordTable
	ok, err := q.get(q.k.mailbox(m, tagKeywords), func(v []byte) (err error) {
		t, err = decodeKeywords(v)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		t = newKeywordTable(nil)
	}
	return t, nil
}

// bitmap gathers all stored blocks of one kind and then extra, if not nil, as block number n.
func (q source) bitmap(m mailboxKey, kind uint8, n uint32, extra *block) (*roaring.Bitmap, error) {
	g := &gatherer{bm: roaring.New()}
	prefix := q.k.kind(m, kind)
	err := q.scanPrefix(prefix, func(key, value []byte) error {
		var b block
		number, err := q.storedBlock(prefix, key, value, &b)
		if err == nil {
			g.add(number, &b)
		}
		return err
	})
	if extra != nil {
		g.add(n, extra)
	}
	g.flush()
	return g.bm, err
}

// storedBlock decodes a block into b, which is empty, and gives its number, which its key has behind prefix.
func (q source) storedBlock(prefix, key, value []byte, b *block) (number uint32, err error) {
	if len(key) != len(prefix)+4 {
		return 0, q.corrupt(key, "length of a block's key")
	}
	if err := b.decode(value); err != nil {
		return 0, q.corrupt(key, err.Error())
	}
	return binary.BigEndian.Uint32(key[len(prefix):]), nil
}

// rows finds messages' rows of one tag by ascending UID.
type rows struct {
	q   source
	m   mailboxKey
	tag byte
	it  *pebble.Iterator // nil: each row by a get of its own
	at  uint32           // UID that it stands at, if valid
	pos bool             // it has been positioned

	step stepper
}

// fewRows is up to where separate gets are cheaper than an iterator.
const fewRows = 8

// stepRows is how far ahead stepping beats seeking.
const stepRows = 16

// rows opens a reader for about n rows between the UIDs first and last.
func (q source) rows(m mailboxKey, tag byte, n uint64, first, last uint32) (*rows, error) {
	r := &rows{q: q, m: m, tag: tag}
	if n <= fewRows {
		return r, nil
	}
	it, err := q.r.NewIter(&pebble.IterOptions{
		LowerBound: q.k.uid(m, tag, first),
		UpperBound: after(q.k.uid(m, tag, last)),
	})
	if err != nil {
		return nil, fmt.Errorf("scan messages: %w", err)
	}
	r.it = it
	return r, nil
}

// get decodes the row of uid, which must exist and be above the one asked for before. decode must copy what it keeps.
func (r *rows) get(uid uint32, decode func(v []byte) error) error {
	if r.it == nil {
		key := r.q.k.uid(r.m, r.tag, uid)
		ok, err := r.q.get(key, decode)
		if err == nil && !ok {
			err = r.q.corrupt(key, "message without this row")
		}
		return err
	}
	if err := r.seek(uid); err != nil {
		return err
	}
	if !r.it.Valid() || r.at != uid {
		if err := r.it.Error(); err != nil {
			return fmt.Errorf("scan messages: %w", err)
		}
		return r.q.corrupt(r.q.k.uid(r.m, r.tag, uid), "message without this row")
	}
	v, err := r.it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("scan messages: %w", err)
	}
	if err := decode(v); err != nil {
		return r.q.corrupt(r.it.Key(), err.Error())
	}
	return nil
}

func (r *rows) seek(uid uint32) (err error) {
	if r.pos && r.it.Valid() && uid > r.at && uid-r.at <= stepRows {
		for r.at < uid && r.step.next(r.it) {
			if r.at, err = tailUID(r.it.Key()); err != nil {
				return r.q.corrupt(r.it.Key(), err.Error())
			}
		}
		return nil
	}
	if r.pos && (!r.it.Valid() || r.at >= uid) {
		return nil
	}
	r.pos = true
	if r.it.SeekGE(r.q.k.uid(r.m, r.tag, uid)) {
		if r.at, err = tailUID(r.it.Key()); err != nil {
			return r.q.corrupt(r.it.Key(), err.Error())
		}
	}
	return nil
}

func (r *rows) Close() error {
	if r.it == nil {
		return nil
	}
	return r.it.Close()
}
