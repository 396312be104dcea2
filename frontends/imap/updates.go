package imap

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

const updateTimeout = 5 * time.Second // for one question about changes: the command that causes it has been done

// errHeld means that changes wait until EXPUNGE may be told.
var errHeld = errors.New("changes behind an expunge")

// update asks for changes if there may be any and tells the client, EXPUNGE only where allowed. It returns
// client.ErrUnavailable when it could not ask.
func (s *session) update(allowExpunge bool) error {
	sel := s.sel
	if s.wanted() == 0 {
		return s.still(sel)
	}
	if sel.wakes.pending.Swap(false) {
		sel.stale = true
	}
	for sel.stale {
		more, err := s.learn(sel, allowExpunge)
		if errors.Is(err, errHeld) {
			return nil
		}
		if err != nil {
			return err
		}
		sel.stale = more
	}
	if allowExpunge {
		if err := s.tellGone(&sel.view); err != nil {
			return err
		}
	}
	s.tellRecent(sel)
	if sel.view.gone.IsEmpty() && sel.view.coming.IsEmpty() && !sel.behind {
		sel.told = max(sel.told, sel.view.modseq)
	}
	if err := s.updateContexts(sel); err != nil {
		return err
	}
	return s.tellNew(sel)
}

// learn asks for one batch of changes and tells of it.
func (s *session) learn(sel *selected, allowExpunge bool) (more bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, updateTimeout)
	defer cancel()
	ch, err := s.changes(ctx, sel, sel.view.modseq, sel.passed()...)
	switch {
	case err != nil:
		return false, s.unlearned(sel, err)
	case ch.HighestModSeq <= sel.view.modseq && !sel.view.coming.IsEmpty():
		return false, client.ErrUnavailable // the replica that began to tell knew more than this one
	case ch.HighestModSeq <= sel.view.modseq:
		return false, nil
	}
	if sel.view.vanish(ch.Vanished); s.qresync && !allowExpunge && !sel.view.gone.IsEmpty() {
		// A client that heard of a later modseq would not be told of these when it came back after a broken connection.
		return false, errHeld
	}
	s.srv.stats.updates.Add(1)
	s.leave(sel)
	if err := s.tell(sel, ch, allowExpunge); err != nil {
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

// still asks, for a guest whose client wants to hear nothing of the open mailbox, whether he may still read it, if something happened there: his session must not go on without that right.
func (s *session) still(sel *selected) error {
	if sel.account.Guest == 0 || !sel.wakes.pending.Swap(false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, updateTimeout)
	defer cancel()
	if _, err := s.changes(ctx, sel, math.MaxUint64); err != nil { // none are as late: only a refusal counts
		sel.wakes.pending.Store(true)
		return s.unlearned(sel, err)
	}
	return nil
}

// unlearned is what an update ends in that could not be asked for. A session without a mailbox that it may read ends.
func (s *session) unlearned(sel *selected, err error) error {
	switch {
	case errors.Is(err, client.ErrNoMailbox):
		// RFC 9051 section 6.3.5 leaves open what a session sees whose mailbox others deleted: it starts anew.
		s.c.bye("[NONEXISTENT] The selected mailbox was deleted" + notShared(sel))
		return err
	case errors.Is(err, client.ErrNoRight):
		s.c.bye("[NOPERM] The right to read the selected mailbox was taken away")
		return err
	case s.ctx.Err() != nil:
		return err
	}
	s.log.Warn("IMAP session could not learn of changes", "mailbox", sel.name, "error", err)
	s.srv.stats.unavailable.Add(1)
	return client.ErrUnavailable
}

const (
	maxOwn    = 1000 // changes of its own that a session remembers until the next update: a client may want none, and one that is forgotten is told twice
	maxPassed = 16   // of how many it says that it knows them
)

// claim remembers a change of the session's own, which the next update need not tell, by its modseqs as far as they are certain.
func (sel *selected) claim(done *client.Stored) (own []uint64) {
	sel.stale = true
	own = done.Own
	if len(own) == 0 && slices.ContainsFunc(done.Changed, func(c client.FlagChange) bool { return c.ModSeq == sel.view.modseq+1 }) {
		own = []uint64{sel.view.modseq + 1} // this change came behind the view's, and no later than what is read of it
	}
	if len(sel.own)+len(own) > maxOwn {
		clear(sel.own)
	}
	for _, m := range own {
		sel.own[m] = struct{}{}
	}
	return own
}

// disown has changes of a command told after all: it failed, so the client does not count on any of them.
func (sel *selected) disown(modseqs []uint64) {
	for _, m := range modseqs {
		delete(sel.own, m)
	}
}

// knows says whether the client knows what happened to a message that has a modseq.
func (sel *selected) knows(modseq uint64) bool {
	_, own := sel.own[modseq]
	return own || modseq <= sel.view.modseq
}

// passed are modseqs of changes that the session made itself and has answered for, so that it need not be told of each message again.
func (sel *selected) passed() []uint64 {
	if len(sel.contexts.list) > 0 || len(sel.own) > maxPassed { // contexts look at all changes
		return nil
	}
	return slices.Collect(maps.Keys(sel.own))
}

// notShared is what else may have happened to a mailbox of another account: who may not know of it is not told which.
func notShared(sel *selected) string {
	if sel.account.Guest == 0 {
		return ""
	}
	return ", or is not shared any more"
}

// tell brings a batch of changes, whose vanished messages the view knows, into the view and to the client: EXPUNGE first, then EXISTS, then flags.
func (s *session) tell(sel *selected, ch client.Changes, allowExpunge bool) error {
	v := &sel.view
	if allowExpunge {
		if err := s.tellGone(v); err != nil {
			return err
		}
	}
	sel.touch(ch.Changed)
	fresh := roaring.New()
	for _, c := range ch.Changed {
		if !v.uids.Contains(c.UID) {
			fresh.Add(c.UID)
		}
	}
	v.coming.Or(fresh)
	for _, c := range ch.Changed {
		s.tellKeywords(sel, c.Flags.Keywords)
	}
	if !ch.More && !v.coming.IsEmpty() {
		if err := v.arrive(v.coming); err != nil {
			return err
		}
		if s.notify != nil {
			sel.untold = roaring.Or(roaring.AndNot(v.coming, sel.mine), orEmpty(sel.untold))
		}
		s.meet(sel, v.coming, 0)
		v.coming.Clear()
		s.tellExists(v.count())
	}
	if !ch.More {
		sel.mine.Clear()
	}
	for _, c := range ch.Changed {
		if _, own := sel.own[c.ModSeq]; own || fresh.Contains(c.UID) {
			continue
		}
		if s.wanted()&command.EventFlags == 0 {
			sel.behind = true
			continue
		}
		if err := s.tellChange(sel, v.seq(c.UID), c, true, true); err != nil {
			return err
		}
	}
	return s.out.Err()
}

// orEmpty is a set, the empty one for nil.
func orEmpty(set *roaring.Bitmap) *roaring.Bitmap {
	if set == nil {
		return roaring.New()
	}
	return set
}

// tellKeywords announces keywords that the mailbox did not have before: a client must know of them before a message has them.
func (s *session) tellKeywords(sel *selected, keywords []string) {
	known := len(sel.keywords)
	for _, k := range keywords {
		if !hasKeyword(sel.keywords, k) {
			sel.keywords = append(sel.keywords[:len(sel.keywords):len(sel.keywords)], k)
		}
	}
	if len(sel.keywords) > known {
		flags := mailboxFlags(sel.keywords)
		s.out.Raw("* FLAGS ").Flags(flags).Line("")
		if len(sel.keywords) >= index.MaxKeywords { // the wildcard that SELECT told holds no more
			s.tellPermanent(sel, flags)
		}
	}
}
