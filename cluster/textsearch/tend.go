package textsearch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/fulltext"
)

// tending is the set of mailboxes whose segments are to be merged.
type tending struct {
	wake chan struct{} // capacity one

	mu   sync.Mutex // guards some
	some map[fulltext.Mailbox]bool
}

func newTending() *tending {
	return &tending{wake: make(chan struct{}, 1), some: make(map[fulltext.Mailbox]bool)}
}

// add takes one more. One too many comes with its next message, or the next sweep.
func (t *tending) add(m fulltext.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.some) < maxWaiting {
		t.some[m] = true
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tending) take() (m fulltext.Mailbox, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m := range t.some {
		delete(t.some, m)
		return m, true
	}
	return m, false
}

// tend merges segments of those mailboxes that have many.
func (s *Service) tend(ctx context.Context) {
	p := &pace{rest: restTend}
	for ctx.Err() == nil {
		m, ok := s.tending.take()
		if !ok || s.full() {
			select {
			case <-s.tending.wake:
			case <-time.After(lookEvery):
			case <-ctx.Done():
			}
			continue
		}
		for more := true; more && ctx.Err() == nil; {
			began := time.Now()
			uids, next, err := s.alive(m)
			if err == nil && uids == nil {
				break
			}
			if err == nil {
				more, err = s.cfg.DB.Tend(ctx, m, uids, next)
			}
			if err != nil {
				more = false
				if ctx.Err() == nil {
					s.cfg.Log.Debug("full-text index: segments were not merged", "mailbox", m.String(), "err", err)
					s.metrics.failures.Inc()
				}
			}
			if more {
				s.metrics.merges.Inc()
			}
			p.after(ctx, time.Since(began), false)
		}
	}
}

// alive gives the messages that a mailbox has, and its next UID. That one and those above count as there, since the index may know more than a replica that has just
// started. nil: there is no such mailbox here.
func (s *Service) alive(m fulltext.Mailbox) (uids *roaring.Bitmap, next uint32, err error) {
	g, ok := s.cfg.Host.Group(m.Shard)
	if !ok {
		return nil, 0, nil
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	box, err := mailboxIn(v, m)
	if gone(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	uids, err = v.UIDs(m.Account, m.ID)
	return uids, box.UIDNext, err
}
