package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/engine/message"
)

// entry is what a session keeps of a message while it answers for it.
type entry struct {
	uid   uint32
	in    *selected
	flags client.Flags
	mod   uint64 // modseq of the flags
	date  int64
	zone  int16
	saved int64 // when it came into the mailbox
	size  uint64
	ref   client.Ref
	raw   []byte           // the stored summary; nil where it was not asked for
	sum   *client.Summary  // made of raw by summarise, and only kept while the message is answered for
	lines *message.Outline // of raw, by outline; nil when there is none
	seen  bool             // \Seen was set by this very command
	at    int              // place among those that were looked up in columns
	lost  bool             // some of it could not be read, since its bytes are lost
}

// load asks for messages, in the order of their UIDs; those that vanished are missing.
func (s *session) load(sel *selected, uids *roaring.Bitmap, want client.Want) ([]*entry, error) {
	ctx, cancel := s.question()
	defer cancel()
	out := make([]*entry, 0, uids.GetCardinality())
	err := s.mail.Messages(ctx, sel.account, sel.id, uids, want, func(m *client.Message) error {
		e := &entry{uid: m.UID, in: sel, flags: keepFlags(m.Flags), mod: m.ModSeq, date: m.Date, zone: m.Zone, saved: m.Saved(), size: m.Size, ref: m.Ref}
		if want&index.WantSummary != 0 {
			e.raw = append([]byte{}, m.Summary...)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// summarise makes the summary of an entry that was loaded with one, by scanning the message where the stored one cannot be
// read or was cut to size. Summaries are many times larger in memory than as they are stored, those of hostile messages
// above all: so it is done for one message at a time, and forget undoes it.
func (s *session) summarise(e *entry) error {
	if e.raw == nil || e.sum != nil {
		return nil
	}
	sum, err := message.Decode(e.raw)
	if err != nil {
		s.mail.Doubt(e.in.account, e.in.id, e.uid, e.ref)
	}
	if err != nil || sum.Degraded {
		if sum, err = s.scan(e); err != nil {
			return err
		}
	}
	e.sum = sum
	return nil
}

// outline does for what asks for header fields and the envelope what summarise does for all, in a small part of the time. o is the memory for it, one message after the other.
func (s *session) outline(e *entry, o *message.Outline) error {
	if e.raw != nil && o.Read(e.raw) {
		e.lines = o
		return nil
	}
	return s.summarise(e)
}

// envelope is that of an entry that was outlined or summarised.
func (s *session) envelope(e *entry) (*message.Envelope, error) {
	if e.sum == nil && e.lines != nil {
		if v, ok := e.lines.Envelope(); ok {
			return v, nil
		}
	}
	if err := s.summarise(e); err != nil {
		return nil, err
	}
	return &e.sum.Envelope, nil
}

// sentDate is the Date of a message that was outlined or summarised, in unix seconds; 0 when it is unknown.
func (e *entry) sentDate() int64 {
	if e.sum == nil {
		return e.lines.SentDate()
	}
	return e.sum.SentDate
}

// forget drops what an entry that was answered for keeps.
func (e *entry) forget() { e.raw, e.sum, e.lines = nil, nil, nil }

// scan makes a message's summary from its bytes, where the stored one does not do.
func (s *session) scan(e *entry) (*client.Summary, error) {
	r, err := s.openBytes(s.ctx, e, 0, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sc := message.NewScanner()
	if _, err := io.Copy(sc, r); err != nil {
		return nil, fmt.Errorf("scan message %d: %w", e.uid, err)
	}
	return sc.Finish(), nil
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
	done, err := f.s.mail.StoreFlags(ctx, f.sel.account, f.sel.id, unseen, index.OpAdd, systemSeen(), 0)
	if errors.Is(err, client.ErrNoRight) { // it was taken meanwhile: then reading sets no flag
		return nil
	}
	if err != nil {
		return err
	}
	f.noted = append(f.noted, f.sel.claim(&done)...)
	now := make(map[uint32]client.FlagChange, len(done.Changed))
	for _, c := range done.Changed {
		now[c.UID] = c
	}
	for _, e := range list {
		if c, ok := now[e.uid]; ok {
			e.flags, e.mod, e.seen = c.Flags, c.ModSeq, true
		}
	}
	return nil
}

// openBytes streams a message's bytes [off, end).
func (s *session) openBytes(ctx context.Context, e *entry, off, end uint64) (*byteReader, error) {
	r := &byteReader{mail: s.mail, of: source{e.in.account, e.in.id, e.uid, e.ref}, off: off, end: min(end, e.ref.Length), wait: s.srv.cfg.Limits.ProgressTimeout}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.reopen(); err != nil {
		r.cancel()
		return nil, err
	}
	return r, nil
}
