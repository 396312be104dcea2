package fulltext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Bounds on a search. What is left out makes more candidates and nothing else.
const (
	maxWork = 20_000_000 // entries of lists that one piece may cost in a segment
	// A piece that goes through all terms of a segment is left out when so few messages are left, or one of so many: looking into them is as cheap.
	fewLeft  = 4
	rareLeft = 512
)

// searchTime is how long a search takes at most; segments that are left then are undecided.
const searchTime = 3 * time.Second

// Answer is what a search gives.
type Answer struct {
	Through uint32          // up to this UID
	UIDs    *roaring.Bitmap // these may have the text, and perhaps some that are gone; no other has it
}

// Search looks for the messages of a mailbox that may contain needle. One that is not indexed, or of another UIDVALIDITY, gives an Answer up to 0.
func (db *DB) Search(ctx context.Context, m Mailbox, uidValidity uint32, needle string) (a Answer, err error) {
	a.UIDs = roaring.New()
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	err = db.use(func(p *pebble.DB) (err error) {
		snap := p.NewSnapshot()
		defer func() { err = errors.Join(err, snap.Close()) }()
		e, err := readEntry(snap, m)
		if err != nil || e == nil || e.UIDValidity != uidValidity {
			return err
		}
		q := &query{ctx: ctx, r: snap, m: m, pieces: pieces(needle)}
		for _, s := range e.Segments {
			if err := q.segment(s, a.UIDs); err != nil {
				return err
			}
		}
		a.Through = e.Through
		return nil
	})
	if err != nil {
		return Answer{UIDs: roaring.New()}, fmt.Errorf("search %v: %w", m, err)
	}
	return a, nil
}

// query is a search under way.
type query struct {
	ctx    context.Context
	r      pebble.Reader
	m      Mailbox
	pieces []piece
	uids   []uint32 // scratch
}

// segment adds its candidates to found.
func (q *query) segment(s segment, found *roaring.Bitmap) error {
	var some *roaring.Bitmap // nil: all
	for _, p := range q.pieces {
		if q.ctx.Err() != nil {
			break
		}
		if some != nil && (some.IsEmpty() || p.where >= back && some.GetCardinality() <= max(fewLeft, uint64(s.Messages/rareLeft))) {
			break
		}
		with, decided, err := q.piece(s, p)
		if err != nil {
			return err
		}
		switch {
		case !decided:
		case some == nil:
			some = with
		default:
			some.And(with)
		}
	}
	if some == nil {
		found.AddRange(uint64(s.First), uint64(s.Last)+1)
		return nil
	}
	found.Or(some)
	partial, err := readPartial(q.r, q.m, s)
	if err == nil {
		found.Or(partial)
	}
	return err
}

// piece finds the messages of a segment that have a piece; decided is false when that would take too long.
func (q *query) piece(s segment, p piece) (with *roaring.Bitmap, decided bool, err error) {
	prefix := append(q.m.segment(s.ID), tagTerms, byte(p.class))
	it, err := q.r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, false, fmt.Errorf("terms of segment %x: %w", s.ID, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	with, work := roaring.New(), 0
	pattern := p.pattern()
	for ok := q.first(it, s, p); ok && !q.past(it, p, len(prefix)); ok = it.Next() {
		block, err := it.ValueAndErr()
		if err != nil {
			return nil, false, fmt.Errorf("terms of segment %x: %w", s.ID, err)
		}
		if numbers := hits(block, pattern); len(numbers) > 0 {
			n, err := q.lists(s, it.Key(), numbers, with)
			if err != nil {
				return nil, false, err
			}
			work += n
		}
		if work > maxWork || q.ctx.Err() != nil {
			return nil, false, nil
		}
	}
	if err := it.Error(); err != nil {
		return nil, false, fmt.Errorf("terms of segment %x: %w", s.ID, err)
	}
	return with, true, nil
}

// first goes to the first block that may have the piece.
func (q *query) first(it *pebble.Iterator, s segment, p piece) bool {
	if p.where >= back {
		return it.First()
	}
	term := append([]byte{byte(p.class)}, p.text...)
	return it.SeekLT(append(q.m.block(s.ID, tagTerms, term), 0)) || it.First()
}

// past says that this block, and so all behind it, begins behind every term that may have the piece.
func (q *query) past(it *pebble.Iterator, p piece, prefix int) bool {
	first := it.Key()[prefix:]
	switch p.where {
	case whole:
		return bytes.Compare(first, p.text) > 0
	case front:
		return bytes.Compare(first, p.text) > 0 && !bytes.HasPrefix(first, p.text)
	}
	return false
}

// lists adds the messages that have the terms of these numbers in a block, and says how many entries that were.
func (q *query) lists(s segment, key []byte, numbers []int, with *roaring.Bitmap) (n int, err error) {
	key = bytes.Clone(key)
	key[segmentLen] = tagLists
	rest, closer, err := q.r.Get(key)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			err = errDamage
		}
		return 0, fmt.Errorf("lists of segment %x: %w", s.ID, err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	for at := 0; len(numbers) > 0; at++ {
		var head uint64
		var body []byte
		if head, body, rest, err = cutList(rest); err != nil {
			return n, fmt.Errorf("%w: segment %x: %w", errDamage, s.ID, err)
		}
		if at < numbers[0] {
			continue
		}
		numbers = numbers[1:]
		q.uids = q.uids[:0]
		if err := eachOf(head, body, s.First, s.Last, func(uid uint32) { q.uids = append(q.uids, uid) }); err != nil {
			return n, fmt.Errorf("%w: segment %x: %w", errDamage, s.ID, err)
		}
		n += len(q.uids)
		with.AddMany(q.uids)
	}
	return n, nil
}
