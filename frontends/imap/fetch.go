package imap

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
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
	s      *session
	sel    *selected
	items  []command.Item
	want   client.Want
	seqs   walker
	uid    bool // UIDs are told although they were not asked for
	flags  bool // flags were asked for
	modseq bool // modification sequences were

	structure bool            // the structure of messages was asked for
	lines     message.Outline // of the message that is answered for, where that does
	needBytes bool            // some section may have to be read
	setsSeen  bool            // reading sets \Seen
	lost      bool            // a message vanished meanwhile
	void      error           // of a message whose content is lost
	noted     []uint64        // modseqs of \Seen that it set
}

// fetch answers FETCH and UID FETCH.
func (s *session) fetch(c *call) error {
	asked, err := command.ParseFetch(s.dec, c.uid)
	if err != nil {
		return err
	}
	sel, err := s.open()
	if err != nil {
		return err
	}
	uids, lost, err := sel.resolve(asked.Set)
	if err != nil {
		return err
	}
	if asked.Page != nil { // of all, not of those that changed (RFC 9394 section 3.4)
		uids = pageOf(uids, asked.Page)
	}
	if uids, err = s.onlyChanged(sel, asked, uids); err != nil {
		return s.answer("fetch from "+sel.name, err)
	}
	f := &fetching{s: s, sel: sel, items: asked.Items, seqs: walker{v: &sel.view},
		uid: c.uid && !asked.Has(command.ItemUID), flags: asked.Has(command.ItemFlags), modseq: asked.Has(command.ItemModSeq)}
	f.plan()
	if f.want != 0 {
		err = chunks(uids, f.chunkSize(), f.chunk)
	} else if err = s.mayRead(sel); err == nil {
		err = f.uidsOnly(uids)
	}
	if err == nil {
		err = f.void // the others are answered
	}
	if err != nil {
		sel.disown(f.noted)
		return s.answer("fetch from "+sel.name, err)
	}
	if lost || f.lost && !c.uid {
		return expungeIssued()
	}
	return nil
}

// plan finds out what must be asked for.
func (f *fetching) plan() {
	for i := range f.items {
		switch it := &f.items[i]; it.Kind {
		case command.ItemFlags, command.ItemModSeq, command.ItemInternalDate, command.ItemSize:
			f.want |= index.WantFlags // all in the small row
		case command.ItemEmailID, command.ItemSaveDate:
			f.want |= index.WantImmutable
		case command.ItemEnvelope:
			f.want |= index.WantSummary
		case command.ItemBody, command.ItemBodyStructure:
			f.structure = true
			f.want |= index.WantSummary
		case command.ItemPreview:
			f.needBytes = true
			f.want |= index.WantImmutable | index.WantSummary
		case command.ItemSection, command.ItemBinary, command.ItemBinarySize:
			f.needBytes = true
			f.want |= index.WantImmutable
			if len(it.Section.Part) > 0 || it.Section.Specifier != goimap.PartSpecifierNone {
				f.want |= index.WantSummary
			}
			if !it.Section.Peek && it.Kind != command.ItemBinarySize && !f.sel.readOnly && f.sel.rights.Has(client.RightSeen) {
				f.setsSeen = true
				f.want |= index.WantFlags
			}
		}
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
	out := f.s.out
	for it := uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		out.Raw("* ").Num(uint64(f.seqs.seqOf(uid))).Raw(" FETCH (UID ").Num(uint64(uid)).Line(")")
	}
	return out.Err()
}

// chunk answers for some messages.
func (f *fetching) chunk(uids *roaring.Bitmap) error {
	if err := f.s.out.FlushStale(); err != nil {
		return err
	}
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
	if f.needBytes {
		return f.pipeline(list)
	}
	for _, e := range list {
		err := f.summarise(e)
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

// sections are the values of a message's sections, in the order of the command: the first ones. A command may name
// thousands, so those that do not fit in readyBytes are made one by one, as they are written.
type sections struct {
	ready []*piece
	err   error
	held  int64
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
	for _, p := range v.ready {
		p.close()
	}
}

// job is a message to be prepared, and where its sections go.
type job struct {
	e  *entry
	to chan<- *sections
}

// prepareAll works on jobs until there are no more. A few goroutines do so, rather than one for each message: what grows a stack is done for every message.
func (f *fetching) prepareAll(ctx context.Context, jobs <-chan job) {
	for j := range jobs {
		j.to <- f.prepare(ctx, j.e)
	}
}

// pipeline writes messages in order while it reads the bytes of the next small ones.
func (f *fetching) pipeline(list []*entry) error {
	ctx, cancel := context.WithCancel(f.s.ctx)
	ahead := make([]chan *sections, len(list))
	jobs := make(chan job, prefetchDepth+1) // as many as there are at once
	next, workers := 0, 0
	defer func() {
		cancel()
		close(jobs)
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
				jobs <- job{to, ch}
				if workers < prefetchDepth {
					workers++
					go f.prepareAll(ctx, jobs)
				}
			}
		}
		v := f.await(ctx, ahead, i, e)
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

// await is the i-th message's sections. Where they must be waited for, output that has waited too leaves: a failure of that shows
// when the message is written.
func (f *fetching) await(ctx context.Context, ahead []chan *sections, i int, e *entry) *sections {
	ch := ahead[i]
	if ch == nil {
		_ = f.s.out.FlushStale()
		return f.prepare(ctx, e)
	}
	ahead[i] = nil
	select {
	case v := <-ch:
		return v
	default:
		_ = f.s.out.FlushStale()
		return <-ch
	}
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
	if v.err = f.s.summarise(e); v.err == nil {
		v.err = f.decodable(e)
	}
	if v.err != nil {
		return v
	}
	for i := range f.items {
		it := &f.items[i]
		if it.Kind < command.ItemSection {
			continue
		}
		p, err := f.s.section(ctx, e, it)
		if err != nil {
			v.err = err
			return v
		}
		if v.ready = append(v.ready, p); v.full(p) {
			return v
		}
	}
	return v
}

// summarise makes of a message's summary what is needed to write its values.
func (f *fetching) summarise(e *entry) error {
	switch {
	case e.raw == nil:
		return nil
	case f.structure:
		return f.s.summarise(e)
	}
	err := f.s.outline(e, &f.lines)
	if err == nil {
		_, err = f.s.envelope(e)
	}
	return err
}

// write answers for one message. Once it has begun a section that then cannot be read to its end, there is no answer
// left but to hang up.
func (f *fetching) write(ctx context.Context, e *entry, v *sections) error {
	out, next := f.s.out, 0
	if len(e.flags.Keywords) > 0 {
		f.s.tellKeywords(f.sel, e.flags.Keywords)
	}
	out.Raw("* ").Num(uint64(f.seqs.seqOf(e.uid))).Raw(" FETCH (")
	if f.uid {
		out.Raw("UID ").Num(uint64(e.uid)).SP()
	}
	if e.seen && !f.flags {
		out.Raw("FLAGS ").Flags(f.s.flagsOf(f.sel, e.uid, e.flags)).SP()
	}
	if e.seen && !f.modseq && f.s.condstore {
		f.s.tellModSeq(e.mod)
		out.SP()
	}
	for i := range f.items {
		it := &f.items[i]
		if i > 0 {
			out.SP()
		}
		out.Raw(it.Label).SP()
		if it.Kind < command.ItemSection {
			f.value(e, it.Kind)
			continue
		}
		if err := f.bytes(ctx, e, it, v, next); err != nil {
			f.s.c.abort()
			return err
		}
		next++
	}
	f.s.srv.stats.fetched.Add(1)
	return out.Line(")").Err()
}

// value writes what is known of a message without its bytes.
func (f *fetching) value(e *entry, kind command.ItemKind) {
	switch out := f.s.out; kind {
	case command.ItemFlags:
		out.Flags(f.s.flagsOf(f.sel, e.uid, e.flags))
	case command.ItemUID:
		out.Num(uint64(e.uid))
	case command.ItemModSeq:
		out.Raw("(").Num(e.mod).Raw(")")
	case command.ItemInternalDate:
		out.DateTime(dateOut(e.date, e.zone))
	case command.ItemSize:
		out.Num(e.size)
	case command.ItemEnvelope:
		v, _ := f.s.envelope(e) // it has been made
		envelopeOut(out, v)
	case command.ItemBody, command.ItemBodyStructure:
		structureOut(out, e.sum.Structure, kind == command.ItemBodyStructure)
	case command.ItemEmailID:
		out.Raw("(").Raw(emailID(e.ref)).Raw(")")
	case command.ItemSaveDate:
		out.DateTime(dateOut(e.saved, 0))
	case command.ItemThreadID:
		out.Raw("NIL")
	}
}

// bytes writes the value of the n-th section.
func (f *fetching) bytes(ctx context.Context, e *entry, it *command.Item, v *sections, n int) error {
	var p *piece
	if n < len(v.ready) {
		p = v.ready[n]
	} else {
		var err error
		if p, err = f.s.section(ctx, e, it); err != nil {
			return err
		}
	}
	defer p.close()
	out := f.s.out
	switch {
	case it.Kind == command.ItemBinarySize:
		return out.Num(uint64(p.n)).Err()
	case it.Kind == command.ItemPreview:
		return out.String(string(p.data)).Err()
	case p.binary:
		out.Binary(p.n)
	default:
		out.Literal(p.n)
	}
	if err := p.writeTo(out); err != nil {
		if !f.s.c.isClosed() {
			f.s.log.Error("IMAP literal broken off", "mailbox", f.sel.name, "error", err)
		}
		return err
	}
	f.s.srv.stats.fetchedBytes.Add(uint64(p.n))
	p.data = nil
	return nil
}
