package imap

import (
	"context"
	"errors"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/cluster/client"
)

const (
	updateTimeout = 5 * time.Second // for one question about changes: the command that causes it has been done
	retryUpdates  = time.Second     // what IDLE waits after it could not learn what a wake-up was about
)

// Poll tells what happened since the last command. The library calls it before each command's OK, and forbids
// EXPUNGE for FETCH, STORE and SEARCH (RFC 9051 section 7.5.1).
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sel == nil {
		return nil
	}
	switch s.c.command() {
	case "NOOP", "CHECK":
		s.sel.stale = true
	}
	if err := s.update(w, allowExpunge); err != nil && !errors.Is(err, client.ErrUnavailable) {
		return err
	}
	return nil // the command itself succeeded; updates come when the mailbox can be asked again
}

// Idle tells what happens, until stop. A wake-up is taken before the question that it causes, so none is missed.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.idling.Add(1)
	defer s.idling.Done()
	s.srv.stats.idle.Add(1)
	defer s.srv.stats.idle.Add(-1)
	var wake <-chan struct{}
	s.mu.Lock()
	if s.sel != nil {
		wake = s.sel.wake
		s.sel.stale = true
	}
	s.mu.Unlock()
	for {
		err := s.idleUpdate(w, stop)
		var retry <-chan time.Time
		if errors.Is(err, client.ErrUnavailable) {
			retry = time.After(retryUpdates)
		} else if err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		case <-retry:
		case <-wake:
			s.mu.Lock()
			if s.sel != nil {
				s.sel.stale = true
			}
			s.mu.Unlock()
		}
	}
}

// idleUpdate tells one batch of updates, unless IDLE is over.
func (s *session) idleUpdate(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-stop:
		return nil
	default:
	}
	if s.sel == nil {
		return nil
	}
	s.c.hold()
	err := s.update(w, true)
	if released := s.c.release(); err == nil {
		err = released
	}
	return err
}

// update asks for changes if there may be any and tells the client, EXPUNGE only where allowed. It returns
// client.ErrUnavailable when it could not ask.
func (s *session) update(w *imapserver.UpdateWriter, allowExpunge bool) error {
	sel := s.sel
	select {
	case <-sel.wake:
		sel.stale = true
	default:
	}
	for sel.stale {
		more, err := s.learn(sel, w, allowExpunge)
		if err != nil {
			return err
		}
		sel.stale = more
	}
	if !allowExpunge {
		return nil
	}
	return sel.view.expunge(w.WriteExpunge)
}

// learn asks for one batch of changes and tells of it.
func (s *session) learn(sel *selected, w *imapserver.UpdateWriter, allowExpunge bool) (more bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, updateTimeout)
	defer cancel()
	ch, err := s.mail.Changes(ctx, s.account, sel.id, sel.view.modseq)
	switch {
	case errors.Is(err, client.ErrNoMailbox):
		// RFC 9051 section 6.3.5 leaves open what a session sees whose mailbox others deleted: it starts anew.
		s.c.bye("[NONEXISTENT] The selected mailbox was deleted")
		return false, err
	case err != nil && s.ctx.Err() != nil:
		return false, err
	case err != nil:
		s.log.Warn("IMAP session could not learn of changes", "mailbox", sel.name, "error", err)
		s.srv.stats.unavailable.Add(1)
		return false, client.ErrUnavailable
	case ch.HighestModSeq <= sel.view.modseq && !sel.view.coming.IsEmpty():
		return false, client.ErrUnavailable // the replica that began to tell knew more than this one
	case ch.HighestModSeq <= sel.view.modseq:
		return false, nil
	}
	s.srv.stats.updates.Add(1)
	if err := s.tell(sel, ch, w, allowExpunge); err != nil {
		if errors.Is(err, errViewOrder) {
			s.log.Error("IMAP session lost the order of its mailbox", "mailbox", sel.name, "error", err)
			s.c.bye("The mailbox changed in an unexpected way")
		}
		return false, err
	}
	sel.view.modseq = ch.HighestModSeq
	for m := range sel.own {
		if m <= ch.HighestModSeq {
			delete(sel.own, m)
		}
	}
	return ch.More, nil
}

// tell brings a batch of changes into the view and to the client: EXPUNGE first, then EXISTS, then flags.
func (s *session) tell(sel *selected, ch client.Changes, w *imapserver.UpdateWriter, allowExpunge bool) error {
	v := &sel.view
	v.vanish(ch.Vanished)
	if allowExpunge {
		if err := v.expunge(w.WriteExpunge); err != nil {
			return err
		}
	}
	fresh := roaring.New()
	for _, c := range ch.Changed {
		if !v.uids.Contains(c.UID) {
			fresh.Add(c.UID)
		}
	}
	v.coming.Or(fresh)
	if err := s.tellKeywords(sel, ch.Changed, w); err != nil {
		return err
	}
	if !ch.More && !v.coming.IsEmpty() {
		if err := v.arrive(v.coming); err != nil {
			return err
		}
		v.coming.Clear()
		if err := w.WriteNumMessages(v.count()); err != nil {
			return err
		}
	}
	for _, c := range ch.Changed {
		if _, own := sel.own[c.ModSeq]; own || fresh.Contains(c.UID) {
			continue
		}
		if err := w.WriteMessageFlags(v.seq(c.UID), goimap.UID(c.UID), flagsOut(c.Flags)); err != nil {
			return err
		}
	}
	return nil
}

// tellKeywords announces keywords that the mailbox did not have before.
func (s *session) tellKeywords(sel *selected, changed []client.FlagChange, w *imapserver.UpdateWriter) error {
	known := len(sel.keywords)
	for _, c := range changed {
		sel.learnKeywords(c.Flags.Keywords)
	}
	if len(sel.keywords) == known {
		return nil
	}
	return w.WriteMailboxFlags(mailboxFlags(sel.keywords))
}

// learnKeywords notes keywords of a message.
func (sel *selected) learnKeywords(keywords []string) {
	for _, k := range keywords {
		if !hasKeyword(sel.keywords, k) {
			sel.keywords = append(sel.keywords[:len(sel.keywords):len(sel.keywords)], k)
		}
	}
}
