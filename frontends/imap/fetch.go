package imap

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

const (
	flagsChunk   = 1024 // messages asked for at once, without summaries
	summaryChunk = 128  // with them

	prefetchDepth = 4         // messages whose bytes are read ahead
	prefetchBytes = 128 << 10 // of a message that is
	readyBytes    = 1 << 20   // of one message's sections that are made ready before its response is begun
)

// fetching is a FETCH under way. Messages go through it in chunks: metadata of a chunk is asked for, \Seen is set
// where reading sets it, then each message's response is written, while the bytes of the next ones are being read.
type fetching struct {
	s    *session
	sel  *selected
	w    *imapserver.FetchWriter
	o    *goimap.FetchOptions
	want client.Want
	seqs walker

	needBytes bool     // some section may have to be read
	setsSeen  bool     // reading sets \Seen
	lost      bool     // a message vanished meanwhile
	void      error    // of a message whose content is lost
	noted     []uint64 // modseqs of \Seen that it set
}

// Fetch answers FETCH and UID FETCH.
func (s *session) Fetch(w *imapserver.FetchWriter, set goimap.NumSet, o *goimap.FetchOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sel, err := s.open()
	if err != nil {
		return err
	}
	uids, lost, err := sel.resolve(set)
	if err != nil {
		return err
	}
	f := &fetching{s: s, sel: sel, w: w, o: o, seqs: walker{v: &sel.view}}
	f.plan()
	if f.want == 0 {
		err = f.uidsOnly(uids)
	} else {
		err = chunks(uids, f.chunkSize(), f.chunk)
	}
	if err == nil {
		err = f.void // the others are answered
	}
	if err != nil {
		sel.disown(f.noted)
		return s.answer("fetch from "+sel.name, err)
	}
	if lost || f.lost && s.c.command() != "UID FETCH" {
		return expungeIssued()
	}
	return nil
}

// plan finds out what must be asked for.
func (f *fetching) plan() {
	o := f.o
	if o.Flags {
		f.want |= index.WantFlags
	}
	if o.InternalDate || o.RFC822Size {
		f.want |= index.WantImmutable
	}
	if o.Envelope || o.BodyStructure != nil {
		f.want |= index.WantSummary
	}
	read := func(peek, summary bool) {
		f.needBytes = true
		f.want |= index.WantImmutable
		if summary {
			f.want |= index.WantSummary
		}
		if !peek && !f.sel.readOnly {
			f.setsSeen = true
			f.want |= index.WantFlags
		}
	}
	for _, b := range o.BodySection {
		read(b.Peek, len(b.Part) > 0 || b.Specifier != goimap.PartSpecifierNone)
	}
	for _, b := range o.BinarySection {
		read(b.Peek, len(b.Part) > 0)
	}
	for _, b := range o.BinarySectionSize {
		read(true, len(b.Part) > 0)
	}
}

func (f *fetching) chunkSize() int {
	if f.needBytes || f.want&index.WantSummary != 0 {
		return summaryChunk
	}
	return flagsChunk
}

// uidsOnly answers FETCH (UID) from the view.
func (f *fetching) uidsOnly(uids *roaring.Bitmap) error {
	for it := uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		r := f.w.CreateMessage(f.seqs.seqOf(uid))
		r.WriteUID(goimap.UID(uid))
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// chunk answers for some messages.
func (f *fetching) chunk(uids *roaring.Bitmap) error {
	list, err := f.s.load(f.sel, uids, f.want)
	if err != nil {
		return err
	}
	if uint64(len(list)) < uids.GetCardinality() {
		f.lost = true
	}
	if f.setsSeen {
		if err := f.markSeen(list); err != nil {
			return err
		}
	}
	if !f.needBytes {
		for _, e := range list {
			err := f.s.summarise(e)
			if errors.Is(err, client.ErrLost) {
				f.void = err
				continue
			}
			if err == nil {
				err = f.write(f.s.ctx, e, &sections{})
			}
			if err != nil {
				return err
			}
			e.forget()
		}
		return nil
	}
	return f.pipeline(list)
}

// markSeen sets \Seen on the messages that are about to be read, in one step.
func (f *fetching) markSeen(list []*entry) error {
	unseen := roaring.New()
	for _, e := range list {
		if e.flags.System&index.FlagSeen == 0 {
			unseen.Add(e.uid)
		}
	}
	if unseen.IsEmpty() {
		return nil
	}
	ctx, cancel := f.s.question()
	defer cancel()
	changed, _, err := f.s.mail.StoreFlags(ctx, f.s.account, f.sel.id, unseen, index.OpAdd, systemSeen(), 0)
	if err != nil {
		return err
	}
	f.sel.stale = true
	now := make(map[uint32]client.Flags, len(changed))
	for _, c := range changed {
		f.sel.own[c.ModSeq] = struct{}{}
		if n := len(f.noted); n == 0 || f.noted[n-1] != c.ModSeq {
			f.noted = append(f.noted, c.ModSeq)
		}
		now[c.UID] = c.Flags
	}
	for _, e := range list {
		if flags, ok := now[e.uid]; ok {
			e.flags, e.seen = flags, true
		}
	}
	return nil
}

// sections are the values of a message's sections, in the order of the command: the first ones. A command may name
// thousands, so those that do not fit in readyBytes are made one by one, as they are written.
type sections struct {
	body, binary []*piece
	sizes        []uint32
	err          error
	held         int64
}

// full counts what a piece holds, and says whether that is enough for now.
func (v *sections) full(p *piece) bool {
	v.held += int64(len(p.data))
	if p.r != nil {
		v.held += smallPiece // a stream has buffers
	}
	return v.held >= readyBytes
}

func (v *sections) close() {
	for _, p := range v.body {
		p.close()
	}
	for _, p := range v.binary {
		p.close()
	}
}

// pipeline writes messages in order while it reads the bytes of the next small ones.
func (f *fetching) pipeline(list []*entry) error {
	ctx, cancel := context.WithCancel(f.s.ctx)
	ahead := make([]chan *sections, len(list))
	next := 0
	defer func() {
		cancel()
		for _, ch := range ahead[:next] { // what was read ahead and not used any more
			if ch != nil {
				(<-ch).close()
			}
		}
	}()
	for i, e := range list {
		for ; next < len(list) && next <= i+prefetchDepth; next++ {
			if to := list[next]; to.size <= prefetchBytes {
				ch := make(chan *sections, 1)
				ahead[next] = ch
				go func() { ch <- f.prepare(ctx, to) }()
			}
		}
		var v *sections
		if ahead[i] != nil {
			v = <-ahead[i]
			ahead[i] = nil
		} else {
			v = f.prepare(ctx, e)
		}
		if errors.Is(v.err, client.ErrAmended) {
			v.close()
			if e, v = f.anew(ctx, e); e == nil {
				continue
			}
		}
		err := v.err
		switch {
		case err == nil:
			err = f.write(ctx, e, v)
		case errors.Is(err, client.ErrLost):
			f.void, err = err, nil
		}
		v.close()
		e.forget()
		if err != nil {
			return err
		}
	}
	return nil
}

// anew loads a message again whose entry was corrected meanwhile; nil if it is gone.
func (f *fetching) anew(ctx context.Context, old *entry) (*entry, *sections) {
	list, err := f.s.load(f.sel, roaring.BitmapOf(old.uid), f.want)
	if err != nil {
		return old, &sections{err: err}
	}
	if len(list) == 0 {
		f.lost = true
		return nil, nil
	}
	list[0].seen = old.seen
	return list[0], f.prepare(ctx, list[0])
}

// prepare makes a message's sections ready. It must not panic, since it may run in a goroutine of its own.
func (f *fetching) prepare(ctx context.Context, e *entry) (v *sections) {
	v = new(sections)
	defer func() {
		if p := recover(); p != nil {
			f.s.srv.stats.panics.Add(1)
			v.err = fmt.Errorf("panic while preparing message %d: %v", e.uid, p)
		}
	}()
	if v.err = f.s.summarise(e); v.err != nil {
		return v
	}
	for _, item := range f.o.BodySection {
		p, err := f.s.bodySection(ctx, e, item)
		if err != nil {
			v.err = err
			return v
		}
		if v.body = append(v.body, p); v.full(p) {
			return v
		}
	}
	for _, item := range f.o.BinarySection {
		p, err := f.s.binarySection(ctx, e, item.Part, item.Partial)
		if err != nil {
			v.err = err
			return v
		}
		if v.binary = append(v.binary, p); v.full(p) {
			return v
		}
	}
	for _, item := range f.o.BinarySectionSize {
		n, err := f.s.binarySize(ctx, e, item.Part)
		if err != nil {
			v.err = err
			return v
		}
		v.sizes = append(v.sizes, n)
	}
	return v
}

// write answers for one message. Once it has begun a section that then cannot be read to its end, there is no answer
// left but to hang up.
func (f *fetching) write(ctx context.Context, e *entry, v *sections) error {
	o := f.o
	r := f.w.CreateMessage(f.seqs.seqOf(e.uid))
	if o.UID {
		r.WriteUID(goimap.UID(e.uid))
	}
	if o.Flags || e.seen {
		r.WriteFlags(flagsOut(e.flags))
	}
	if o.InternalDate {
		r.WriteInternalDate(dateOut(e.date, e.zone))
	}
	if o.RFC822Size {
		r.WriteRFC822Size(int64(e.size))
	}
	if o.Envelope {
		r.WriteEnvelope(envelopeOut(&e.sum.Envelope, e.sum.SentDate))
	}
	if o.BodyStructure != nil {
		r.WriteBodyStructure(structureOut(e.sum.Structure))
	}
	err := f.writeSections(ctx, r, e, v)
	if err != nil {
		f.s.c.abort()
	}
	f.s.srv.stats.fetched.Add(1)
	if closed := r.Close(); err == nil {
		err = closed
	}
	return err
}

func (f *fetching) writeSections(ctx context.Context, r *imapserver.FetchResponseWriter, e *entry, v *sections) error {
	for i, item := range f.o.BodySection {
		p, err := at(v.body, i, func() (*piece, error) { return f.s.bodySection(ctx, e, item) })
		if err == nil {
			err = f.send(r.WriteBodySection(item, p.n), p)
		}
		if err != nil {
			return err
		}
	}
	for i, item := range f.o.BinarySection {
		p, err := at(v.binary, i, func() (*piece, error) { return f.s.binarySection(ctx, e, item.Part, item.Partial) })
		if err == nil {
			err = f.send(r.WriteBinarySection(item, p.n), p)
		}
		if err != nil {
			return err
		}
	}
	for i, item := range f.o.BinarySectionSize {
		n, err := at(v.sizes, i, func() (uint32, error) { return f.s.binarySize(ctx, e, item.Part) })
		if err != nil {
			return err
		}
		r.WriteBinarySectionSize(item, n)
	}
	return nil
}

// at is the i-th value if it is ready, else what make gives.
func at[T any](ready []T, i int, make func() (T, error)) (T, error) {
	if i < len(ready) {
		return ready[i], nil
	}
	return make()
}

// send writes a section's value and closes it.
func (f *fetching) send(w io.WriteCloser, p *piece) error {
	defer p.close()
	if err := p.writeTo(w); err != nil {
		if !f.s.c.isClosed() {
			f.s.log.Error("IMAP literal broken off", "mailbox", f.sel.name, "error", err)
		}
		return err
	}
	f.s.srv.stats.fetchedBytes.Add(uint64(p.n))
	p.data = nil
	return w.Close()
}
