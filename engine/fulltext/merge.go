package fulltext

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

const (
	fanIn      = 8       // segments of one size become one of the next
	maxSegment = 1 << 15 // messages of a segment that is merged no further
	maxInputs  = 32
)

// Tend does one piece of what keeps a mailbox's segments few, and says whether there may be more to do: it merges some, leaving out what is neither in uids,
// the messages that the mailbox has, nor at next or above; removes one that has no message left; clears away what a crash left. Calls for one mailbox must not overlap.
func (db *DB) Tend(ctx context.Context, m Mailbox, uids *roaring.Bitmap, next uint32) (more bool, err error) {
	alive := living{uids, next}
	err = db.use(func(p *pebble.DB) error {
		var in []segment
		var out uint64
		e, err := readEntry(p, m)
		if err != nil || e == nil || len(e.Pending) == 0 && len(plan(e, alive)) == 0 {
			return err
		}
		err = db.changeEntry(p, m, func(e *entry, w *pebble.Batch) error {
			if err := clearPending(m, e, w); err != nil {
				return err
			}
			if in = plan(e, alive); len(in) > 0 {
				out = db.segmentID()
				e.Pending = []uint64{out}
			}
			return nil
		})
		if err != nil || len(in) == 0 {
			return err
		}
		more = true
		return db.merge(ctx, p, m, in, out, alive)
	})
	if err != nil {
		return false, fmt.Errorf("merge segments of %v: %w", m, err)
	}
	return more, nil
}

// changeEntry has fn change a mailbox's entry, if there is one, and write what goes with it.
func (db *DB) changeEntry(p *pebble.DB, m Mailbox, fn func(e *entry, w *pebble.Batch) error) error {
	db.change.Lock()
	defer db.change.Unlock()
	e, err := readEntry(p, m)
	if err != nil || e == nil {
		return err
	}
	w := p.NewBatch()
	if err = fn(e, w); err == nil {
		err = putEntry(w, m, e)
	}
	if err == nil {
		err = w.Commit(pebble.NoSync)
	}
	return errors.Join(err, w.Close())
}

func clearPending(m Mailbox, e *entry, w *pebble.Batch) error {
	for _, id := range e.Pending {
		if err := w.DeleteRange(m.segment(id), after(m.segment(id)), nil); err != nil {
			return err
		}
	}
	e.Pending = nil
	return nil
}

// size is the power of fanIn that a number of messages has reached.
func size(messages uint32) (n int) {
	for ; messages >= fanIn; messages /= fanIn {
		n++
	}
	return n
}

// living are the messages that a mailbox has, and all UIDs from next on, which is 1 at least.
type living struct {
	uids *roaring.Bitmap
	next uint32
}

// through is how many there are up to a UID.
func (l living) through(uid uint32) uint64 {
	if uid < l.next {
		return l.uids.Rank(uid)
	}
	return l.uids.Rank(l.next-1) + uint64(uid-l.next) + 1
}

// plan chooses segments that are next to each other to become one.
func plan(e *entry, alive living) []segment {
	for i, s := range e.Segments {
		left := alive.through(s.Last)
		if s.First > 0 {
			left -= alive.through(s.First - 1)
		}
		if left*2 < uint64(s.Messages) {
			return e.Segments[i : i+1]
		}
	}
	for want := size(maxSegment); want >= 0; want-- {
		from, same, total := len(e.Segments), 0, uint32(0)
		for from > 0 && len(e.Segments)-from < maxInputs {
			s := e.Segments[from-1]
			if size(s.Messages) > want || s.Messages >= maxSegment || total+s.Messages > 2*maxSegment {
				break
			}
			if size(s.Messages) == want {
				same++
			}
			total += s.Messages
			from--
		}
		if same >= fanIn {
			return slices.Clone(e.Segments[from:])
		}
	}
	return nil
}

// merge writes the segment out in place of those of in.
func (db *DB) merge(ctx context.Context, p *pebble.DB, m Mailbox, in []segment, out uint64, alive living) error {
	g := &merger{p: p, m: m, in: in, out: out, alive: aliveIn(alive, in), w: p.NewBatch()}
	made, err := g.run(ctx)
	if err = errors.Join(err, g.close()); err != nil {
		return err
	}
	replaced := false
	err = db.changeEntry(p, m, func(e *entry, w *pebble.Batch) error {
		at := slices.IndexFunc(e.Segments, func(s segment) bool { return s.ID == in[0].ID })
		if at < 0 || at+len(in) > len(e.Segments) || !slices.Equal(e.Segments[at:at+len(in)], in) {
			return clearPending(m, e, w) // the mailbox was dropped meanwhile
		}
		replaced = true
		for _, key := range g.gone {
			if err := w.Delete(key, nil); err != nil {
				return err
			}
		}
		e.Segments = slices.Delete(e.Segments, at, at+len(in))
		if made.Messages > 0 {
			e.Segments = slices.Insert(e.Segments, at, made)
		}
		e.Pending = nil
		return nil
	})
	if err == nil && !replaced {
		err = p.DeleteRange(m.segment(out), after(m.segment(out)), pebble.NoSync)
	}
	return err
}

// among is a set of UIDs for quick looks.
type among struct {
	first uint32
	bits  []uint64
	count uint32
}

func aliveIn(alive living, in []segment) *among {
	a := &among{first: in[0].First}
	last := in[len(in)-1].Last
	a.bits = make([]uint64, (last-a.first)/64+1)
	set := func(uid uint32) {
		n := uid - a.first
		a.bits[n/64] |= 1 << (n % 64)
		a.count++
	}
	it := alive.uids.Iterator()
	for it.AdvanceIfNeeded(a.first); it.HasNext() && it.PeekNext() <= min(last, alive.next-1); {
		set(it.Next())
	}
	for uid := uint64(max(a.first, alive.next)); uid <= uint64(last); uid++ {
		set(uint32(uid))
	}
	return a
}

func (a *among) has(uid uint32) bool {
	n := uid - a.first
	return a.bits[n/64]>>(n%64)&1 == 1
}

// merger writes one segment from several.
type merger struct {
	p     *pebble.DB
	m     Mailbox
	in    []segment
	out   uint64
	alive *among
	w     *pebble.Batch
	heads cursors
	gone  [][]byte // keys of the old segments
}

func (g *merger) close() error {
	errs := []error{g.w.Close()}
	for _, c := range g.heads {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

func (g *merger) run(ctx context.Context) (made segment, err error) {
	made = segment{ID: g.out, First: g.in[0].First, Last: g.in[len(g.in)-1].Last}
	for _, s := range g.in {
		made.Messages += s.Messages
	}
	made.Messages = min(made.Messages, g.alive.count)
	for _, s := range g.in {
		if err := g.enter(s); err != nil {
			return made, err
		}
	}
	if made.Messages == 0 {
		return made, g.forget()
	}
	if made.Partial, err = g.partial(); err != nil {
		return made, err
	}
	heap.Init(&g.heads)
	blocks := &blocks{m: g.m, id: g.out, base: made.First, put: func(key, value []byte) error { return g.put(ctx, key, value) }}
	var term []byte
	var uids []uint32
	for len(g.heads) > 0 {
		term = append(term[:0], g.heads[0].term...)
		uids = uids[:0]
		for len(g.heads) > 0 && bytes.Equal(g.heads[0].term, term) {
			if uids, err = g.take(uids); err != nil {
				return made, err
			}
		}
		if len(uids) > 0 {
			if err := blocks.add(term, uids); err != nil {
				return made, err
			}
		}
	}
	if err := blocks.flush(); err != nil {
		return made, err
	}
	return made, g.w.Commit(pebble.NoSync)
}

// enter opens a segment, of which nothing is in heads if it has no terms.
func (g *merger) enter(s segment) error {
	if s.Partial {
		g.gone = append(g.gone, g.m.partial(s.ID))
	}
	c, err := newCursor(g.p, g.m, s)
	if err != nil {
		return err
	}
	if c.term == nil {
		return c.close()
	}
	g.heads = append(g.heads, c)
	return nil
}

// forget gathers the keys of segments of which nothing is left.
func (g *merger) forget() error {
	for _, c := range g.heads {
		for c.term != nil {
			c.block = nil
			if err := c.next(); err != nil {
				return err
			}
		}
		g.gone = append(g.gone, c.keys...)
	}
	return nil
}

// take adds the living messages of the first cursor's term and moves it on.
func (g *merger) take(uids []uint32) ([]uint32, error) {
	c := g.heads[0]
	err := eachOf(c.head, c.body, c.seg.First, c.seg.Last, func(uid uint32) {
		if g.alive.has(uid) {
			uids = append(uids, uid)
		}
	})
	if err != nil {
		return uids, fmt.Errorf("%w: segment %x: %w", errDamage, c.seg.ID, err)
	}
	if err := c.next(); err != nil {
		return uids, err
	}
	if c.term != nil {
		heap.Fix(&g.heads, 0)
		return uids, nil
	}
	heap.Pop(&g.heads)
	g.gone = append(g.gone, c.keys...)
	return uids, c.close()
}

// put writes a pair, many at once.
func (g *merger) put(ctx context.Context, key, value []byte) error {
	if err := g.w.Set(key, value, nil); err != nil || g.w.Len() < writeBatch {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := g.w.Commit(pebble.NoSync); err != nil {
		return err
	}
	g.w.Reset()
	return nil
}

// partial joins the sets of messages that are not wholly indexed.
func (g *merger) partial() (some bool, err error) {
	all := roaring.New()
	for _, s := range g.in {
		set, err := readPartial(g.p, g.m, s)
		if err != nil {
			return false, err
		}
		all.Or(set)
	}
	for it := all.Clone().Iterator(); it.HasNext(); {
		if uid := it.Next(); uid < g.alive.first || !g.alive.has(uid) {
			all.Remove(uid)
		}
	}
	return !all.IsEmpty(), putPartial(g.m, g.out, all, func(key, value []byte) error { return g.w.Set(key, value, nil) })
}

func readPartial(r pebble.Reader, m Mailbox, s segment) (*roaring.Bitmap, error) {
	if !s.Partial {
		return roaring.New(), nil
	}
	v, closer, err := r.Get(m.partial(s.ID))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("%w: segment %x lacks its list of messages that are not wholly indexed", errDamage, s.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("messages of segment %x that are not wholly indexed: %w", s.ID, err)
	}
	set, err := decodeSet(v)
	if err != nil {
		err = fmt.Errorf("%w: segment %x: %w", errDamage, s.ID, err)
	}
	return set, errors.Join(err, closer.Close())
}

// cursors are a heap by term; of one term, the segment with the lower UIDs comes first.
type cursors []*cursor

func (h cursors) Len() int { return len(h) }
func (h cursors) Less(i, j int) bool {
	c := bytes.Compare(h[i].term, h[j].term)
	return c < 0 || c == 0 && h[i].seg.First < h[j].seg.First
}
func (h cursors) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *cursors) Push(x any) { *h = append(*h, x.(*cursor)) }

// Pop implements heap.Interface.
func (h *cursors) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
