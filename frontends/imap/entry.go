package imap

import (
	"context"
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
	flags client.Flags
	date  int64
	zone  int16
	size  uint64
	ref   client.Ref
	sum   *client.Summary // nil where it was not asked for
	seen  bool            // \Seen was set by this very command
}

// load asks for messages, in the order of their UIDs; those that vanished are missing.
func (s *session) load(sel *selected, uids *roaring.Bitmap, want client.Want) ([]*entry, error) {
	ctx, cancel := s.question()
	defer cancel()
	out := make([]*entry, 0, uids.GetCardinality())
	var unread []*entry // whose summary does not do: it cannot be read, or was cut to size
	if want&index.WantSummary != 0 {
		want |= index.WantImmutable // to scan the bytes instead
	}
	err := s.mail.Messages(ctx, s.account, sel.id, uids, want, func(m *client.Message) error {
		e := &entry{uid: m.UID, flags: keepFlags(m.Flags), date: m.Date, zone: m.Zone, size: m.Size, ref: m.Ref}
		if want&index.WantSummary != 0 {
			sum, err := message.Decode(m.Summary)
			if err != nil || sum.Degraded {
				unread = append(unread, e)
			}
			e.sum = sum
		}
		out = append(out, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range unread {
		if e.sum, err = s.scan(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scan makes a message's summary from its bytes, where the stored one does not do.
func (s *session) scan(e *entry) (*client.Summary, error) {
	r, err := s.openBytes(s.ctx, e.ref, 0, math.MaxUint64)
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

// openBytes streams a message's bytes [off, end).
func (s *session) openBytes(ctx context.Context, ref client.Ref, off, end uint64) (*byteReader, error) {
	r := &byteReader{mail: s.mail, ref: ref, off: off, end: min(end, ref.Length), wait: s.srv.cfg.Limits.ProgressTimeout}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.reopen(); err != nil {
		r.cancel()
		return nil, err
	}
	return r, nil
}
