package fulltext

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// Limits on what is indexed of a message. One that has more is a candidate of every search.
const (
	MaxText  = 2 << 20 // bytes of text, decoded
	MaxTerms = 50_000  // different ones
)

// listCost is what a term of a batch takes in memory besides its text, about.
const listCost = 120

// Batch gathers messages of one mailbox, by ascending UID.
type Batch struct {
	m           Mailbox
	uidValidity uint32
	after       uint32
	lists       map[string]*list
	uids        []uint32
	partial     *roaring.Bitmap
	size        int

	terms terms
	now   struct { // the message under way
		uid   uint32
		text  int // bytes
		terms int
	}
}

// list is of a term in a batch: what each UID is above the one before.
type list struct {
	last  uint32
	steps []byte
}

// NewBatch begins one with the messages after a UID, up to which the mailbox is indexed.
func NewBatch(m Mailbox, uidValidity, after uint32) *Batch {
	b := &Batch{m: m, uidValidity: uidValidity, after: after, lists: make(map[string]*list), partial: roaring.New()}
	b.terms.emit = b.term
	return b
}

// Size is about what the batch takes in memory, in bytes.
func (b *Batch) Size() int { return b.size }

// Len is how many messages it has.
func (b *Batch) Len() int { return len(b.uids) }

// Begin takes the next message, whose texts follow.
func (b *Batch) Begin(uid uint32) {
	b.uids = append(b.uids, uid)
	b.now.uid, b.now.text, b.now.terms = uid, 0, 0
}

// Partial says that the message under way is not wholly indexed.
func (b *Batch) Partial() { b.partial.Add(b.now.uid) }

// Text takes a text of the message under way, whole: terms do not reach from one to the next. full says that no more is taken of it; then it is noted as
// not wholly indexed.
func (b *Batch) Text(text []byte) (full bool) {
	if b.now.text += len(text); b.now.text <= MaxText {
		b.terms.text(text)
	}
	if b.now.text > MaxText || b.now.terms > MaxTerms {
		b.Partial()
		return true
	}
	return false
}

// term notes that the message under way has it.
func (b *Batch) term(term []byte) {
	l := b.lists[string(term)]
	if l == nil {
		if b.now.terms > MaxTerms {
			return
		}
		l = new(list)
		b.lists[string(term)] = l
		b.size += listCost + len(term)
	} else if l.last == b.now.uid {
		return
	}
	b.now.terms++
	before := len(l.steps)
	l.steps = binary.AppendUvarint(l.steps, uint64(b.now.uid-l.last))
	l.last = b.now.uid
	b.size += len(l.steps) - before
}

// write gives put the blocks of the batch as a segment, and the segment.
func (b *Batch) write(id uint64, put func(key, value []byte) error) (segment, error) {
	s := segment{ID: id, First: b.uids[0], Last: b.uids[len(b.uids)-1], Messages: uint32(len(b.uids)), Partial: !b.partial.IsEmpty()}
	w := &blocks{m: b.m, id: id, base: s.First, put: put}
	var uids []uint32
	for _, term := range slices.Sorted(maps.Keys(b.lists)) {
		uids = uids[:0]
		uid := uint32(0)
		for steps := b.lists[term].steps; len(steps) > 0; {
			step, n := binary.Uvarint(steps)
			steps, uid = steps[n:], uid+uint32(step)
			uids = append(uids, uid)
		}
		if err := w.add([]byte(term), uids); err != nil {
			return s, err
		}
	}
	if err := w.flush(); err != nil {
		return s, err
	}
	return s, putPartial(b.m, id, b.partial, put)
}

func putPartial(m Mailbox, id uint64, partial *roaring.Bitmap, put func(key, value []byte) error) error {
	set, err := encodeSet(partial)
	if err != nil || set == nil {
		return err
	}
	if err := put(m.partial(id), set); err != nil {
		return fmt.Errorf("write what is not wholly indexed: %w", err)
	}
	return nil
}
