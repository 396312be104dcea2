package textsearch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"hongyan/cluster/pause"
	"hongyan/engine/fulltext"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Sizes of a batch.
const (
	batchMessages  = 512
	batchSummaries = 4 << 20         // bytes
	batchMemory    = 16 << 20        // bytes, about
	readAhead      = 8               // messages whose texts are in memory
	freshReaders   = 4               // of old ones one message is read after the other
	freshWait      = 5 * time.Second // for a message's bytes
	oldWait        = 30 * time.Second
	maxSegments    = 100 // of a mailbox: merging comes first
)

// run indexes the mailboxes of a lane as they come.
func (s *Service) run(ctx context.Context, l lane) {
	p := new(pace)
	for ctx.Err() == nil {
		if s.full() {
			pause.For(ctx, lookEvery)
			continue
		}
		m, wait, ok := s.queue.take(l, time.Now())
		if !ok {
			timer := time.NewTimer(wait)
			select {
			case <-s.queue.wake[l]:
				pause.For(ctx, shortRest)
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		began := time.Now()
		left, err := s.index(ctx, l, m)
		again, next := left > 0, l
		if left > mostFresh {
			next = old
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug("full-text index: a mailbox was not indexed, will be tried again", "mailbox", m.String(), "err", err)
			s.metrics.failures.Inc()
			again, next = true, old
		}
		if !s.queue.done(m, again, next) {
			s.sweepAgain(m.Shard)
		}
		now, urgent := time.Now(), false
		switch {
		case l == fresh:
			p.rest, urgent = restFresh, s.queue.late(fresh, now, urgentLag)
		case s.queue.late(old, now, muchLag):
			p.rest = restMuch
		default:
			p.rest = restOld
		}
		p.after(ctx, now.Sub(began), urgent)
	}
}

// index takes the next messages of a mailbox into the index and says how many are left, about.
func (s *Service) index(ctx context.Context, l lane, m fulltext.Mailbox) (left int, err error) {
	if m.ID == 0 { // the account's folders changed: perhaps it has just come
		if err := s.account(m.Shard, m.Account); err != nil {
			s.queue.fail(m, 0, time.Now())
			return 0, err
		}
		s.queue.succeed(m)
		return 0, nil
	}
	most := batchMessages
	if l == fresh {
		most = mostFresh
	}
	t, err := s.todo(m, most)
	if err != nil {
		s.queue.fail(m, 0, time.Now())
		return 0, err
	}
	if t != nil && l == fresh && len(t.messages) == mostFresh && t.end < t.next-1 { // it has moved here, or was filled at once: nobody waits for all that
		return t.left(), nil
	}
	if t == nil || len(t.messages) == 0 && t.end <= t.through {
		s.queue.succeed(m)
		return 0, nil
	}
	if t.segments > maxSegments {
		s.tending.add(m)
		pause.For(ctx, lookEvery/4)
		return 1, nil
	}
	b := fulltext.NewBatch(m, t.validity, t.through)
	end, failed := s.fill(ctx, l, m, t, b)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if b.Len() > 0 || end > t.through {
		if err := s.cfg.DB.Commit(b, end); err != nil {
			s.queue.fail(m, 0, time.Now())
			return 0, err
		}
	}
	s.metrics.messages.Add(float64(b.Len()))
	if t.segments+1 >= 8 {
		s.tending.add(m)
	}
	if failed == nil {
		s.queue.succeed(m)
	}
	return int(t.next - 1 - end), failed
}

// todo is what of a mailbox is to be indexed next.
type todo struct {
	validity uint32
	through  uint32 // so far
	segments int
	next     uint32 // the mailbox's next UID
	end      uint32 // up to here all that there is is in messages
	messages []item
}

// left is how many messages there are to index, about.
func (t *todo) left() int { return int(t.next - 1 - t.through) }

// item is a message.
type item struct {
	uid     uint32
	ref     volume.Ref
	summary []byte
}

var errEnough = errors.New("enough for one batch")

// todo gives nil for a mailbox that is not here, and at most so many messages.
func (s *Service) todo(m fulltext.Mailbox, most int) (t *todo, err error) {
	g, ok := s.cfg.Host.Group(m.Shard)
	if !ok {
		return nil, nil
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	box, err := mailboxIn(v, m)
	if gone(err) {
		return nil, s.cfg.DB.Drop(m)
	}
	if err != nil {
		return nil, err
	}
	was, err := s.cfg.DB.State(m)
	if err != nil {
		return nil, err
	}
	t = &todo{validity: box.UIDValidity, next: box.UIDNext, segments: was.Segments}
	if was.UIDValidity == box.UIDValidity {
		t.through = was.Through
	}
	if t.end = t.through; t.through+1 >= box.UIDNext {
		return t, nil
	}
	uids := roaring.New()
	uids.AddRange(uint64(t.through)+1, uint64(box.UIDNext))
	size := 0
	err = v.Messages(m.Account, m.ID, uids, index.WantImmutable|index.WantSummary, func(e *index.Message) error {
		if len(t.messages) == most || size > batchSummaries {
			return errEnough
		}
		t.messages = append(t.messages, item{e.UID, e.Ref, append([]byte(nil), e.Summary...)})
		size += len(e.Summary)
		t.end = e.UID
		return nil
	})
	if errors.Is(err, errEnough) {
		return t, nil
	}
	t.end = box.UIDNext - 1
	return t, err
}

// mailboxIn looks a mailbox up that this shard may show.
func mailboxIn(v *index.View, m fulltext.Mailbox) (index.Mailbox, error) {
	if err := v.Readable(m.Account); err != nil {
		return index.Mailbox{}, err
	}
	return v.Mailbox(m.Account, m.ID)
}

// gone says of an error about a mailbox that there is none, or not here.
func gone(err error) bool {
	var moved *index.MovedError
	return errors.Is(err, index.ErrNoMailbox) || errors.Is(err, index.ErrNoAccount) || errors.As(err, &moved) && moved.Shard != 0
}

// fill reads messages into a batch and says up to which UID it is complete. failed is why it ends before the last.
func (s *Service) fill(ctx context.Context, l lane, m fulltext.Mailbox, t *todo, b *fulltext.Batch) (end uint32, failed error) {
	wait, readers := oldWait, 1
	if l == fresh {
		wait, readers = freshWait, freshReaders
	}
	end = t.through
	for from := 0; from < len(t.messages); from += readAhead {
		some := t.messages[from:min(from+readAhead, len(t.messages))]
		read := make([]*texts, len(some))
		errs := make([]error, len(some))
		var group errgroup.Group
		group.SetLimit(readers)
		for i := range some {
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, wait)
				defer cancel()
				read[i], errs[i] = s.gather(ctx, &some[i])
				return nil
			})
		}
		err := group.Wait()
		if err == nil {
			err = s.limit.WaitN(ctx, int(min(s.read.Swap(0), int64(s.limit.Burst()))))
		}
		if err != nil {
			return end, err
		}
		for i, e := range some {
			if ctx.Err() != nil {
				return end, ctx.Err()
			}
			if errs[i] != nil && !s.queue.hopeless(m, e.uid) {
				tries := s.queue.fail(m, e.uid, time.Now())
				return end, fmt.Errorf("read message %d of %v, try %d: %w", e.uid, m, tries, errs[i])
			}
			b.Begin(e.uid)
			if errs[i] != nil {
				s.cfg.Log.Warn("full-text index: a message cannot be read; every search will try to", "mailbox", m.String(), "uid", e.uid, "err", errs[i])
				b.Partial()
			} else {
				s.metrics.bytes.Add(float64(read[i].into(b)))
			}
			end = e.uid
		}
		if b.Size() > batchMemory {
			return end, nil
		}
	}
	return t.end, nil
}
