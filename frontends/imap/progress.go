package imap

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// pace is how far a command is, for a client that waits for it (RFC 9585).
type pace struct {
	tag         string
	next        time.Time // when the client is told
	done, total uint64    // messages; total 0: not known
}

// progress notes how many of the messages that a command is about are done, and tells it when it is time to.
func (s *session) progress(done, total uint64) {
	s.pace.done, s.pace.total = done, total
	if now := time.Now(); !now.Before(s.pace.next) {
		s.tellProgress(now)
	}
}

// tellProgress tells it now. A failure is in out.
func (s *session) tellProgress(now time.Time) {
	p := &s.pace
	p.next = now.Add(s.srv.cfg.Limits.ProgressInterval)
	s.out.Raw("* OK [INPROGRESS (").String(p.tag)
	if p.total == 0 {
		s.out.Raw(" NIL NIL")
	} else {
		s.out.SP().Num(p.done).SP().Num(p.total)
	}
	s.out.Line(")] Still at it")
	_ = s.out.Flush() // the encoder keeps it
}

// steps is chunks for a command that may take long.
func (s *session) steps(all *roaring.Bitmap, n int, fn func(*roaring.Bitmap) error) error {
	done, total := uint64(0), all.GetCardinality()
	return chunks(all, n, func(some *roaring.Bitmap) error {
		if done == 0 {
			s.pace.done, s.pace.total = 0, total
		} else {
			s.progress(done, total)
		}
		done += some.GetCardinality()
		return fn(some)
	})
}

// patiently asks the cluster what may take long, and tells the client meanwhile that it is still at it. ask must write nothing.
func (s *session) patiently(ask func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				s.srv.stats.panics.Add(1)
				err = fmt.Errorf("panic in a question to the cluster: %v, in %s", p, debug.Stack())
			}
			done <- err
		}()
		err = ask()
	}()
	timer := time.NewTimer(time.Until(s.pace.next))
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return err
		case now := <-timer.C:
			s.tellProgress(now)
			timer.Reset(s.srv.cfg.Limits.ProgressInterval)
		}
	}
}
