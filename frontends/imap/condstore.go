package imap

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

// Modification sequences (RFC 7162) are the index's own, one for a message and one for a mailbox. The index remembers what was
// expunged as long as the mailbox lives, so no client's state is too old to be brought up to date; where it was restored from an older
// state, UIDVALIDITY is new.

const vanishedRanges = 300 // of one VANISHED response, to keep its line below 8 KiB (RFC 7162 section 4)

// wantModSeqs has modification sequences told from now on (RFC 7162 section 3.1). The client learns where it is.
func (s *session) wantModSeqs() {
	if s.condstore {
		return
	}
	s.condstore = true
	if s.sel != nil {
		s.tellHighest(s.sel.told)
	}
}

func (s *session) tellHighest(modseq uint64) {
	s.out.Raw("* OK [HIGHESTMODSEQ ").Num(modseq).Line("] Highest modification sequence")
}

// highest is a mailbox's modification sequence as it is told: 0 is none.
func highest(m *client.Mailbox) uint64 { return max(m.HighestModSeq, 1) }

// addHighest has the OK of a command say how far its client is, when all that happened was told.
func (s *session) addHighest(c *call) {
	if c.highest && c.code == "" && s.condstore && s.sel != nil {
		c.code = highestCode(s.sel.told)
	}
}

// highestCode is the response code HIGHESTMODSEQ.
func highestCode(modseq uint64) string { return "HIGHESTMODSEQ " + decimal(modseq) }

// tellGone takes the messages that are gone out of the view, and says so.
func (s *session) tellGone(v *view) error {
	if s.sel != nil {
		s.leave(s.sel)
	}
	if !s.qresync {
		return v.expunge(s.tellExpunge)
	}
	s.tellVanished("* VANISHED ", v.gone)
	v.drop()
	return s.out.Err()
}

// tellVanished names UIDs that are gone, some on each line.
func (s *session) tellVanished(start string, uids *roaring.Bitmap) {
	n := 0
	ranges(uids, func(from, to uint32) {
		switch {
		case n == 0:
			s.out.Raw(start)
		case n%vanishedRanges == 0:
			s.out.Line("").Raw(start)
		default:
			s.out.Raw(",")
		}
		n++
		if s.out.Num(uint64(from)); from < to {
			s.out.Raw(":").Num(uint64(to))
		}
	})
	if n > 0 {
		s.out.Line("")
	}
}

const vanishedEarlier = "* VANISHED (EARLIER) "

// since is what happened to a mailbox after a modseq.
type since struct {
	changed  *roaring.Bitmap // new messages too
	vanished *roaring.Bitmap
	list     []client.FlagChange // each of changed, in the order of modseqs; nil if it came in several parts
}

// changesSince asks what happened after a modseq, at least up to where the view is. It costs what changed, not what is there. Of what came after the view, some may be
// among it: updates tell of that.
func (s *session) changesSince(sel *selected, modseq uint64) (since, error) {
	all := since{changed: roaring.New(), vanished: roaring.New()}
	for parts := 1; ; parts++ {
		ctx, cancel := s.question()
		ch, err := s.mail.Changes(ctx, sel.account, sel.id, modseq)
		cancel()
		if err != nil {
			return since{}, err
		}
		for _, c := range ch.Changed {
			all.changed.Add(c.UID)
		}
		all.vanished.Or(ch.Vanished)
		if all.list = nil; parts == 1 {
			all.list = ch.Changed
		}
		switch {
		case ch.More && ch.HighestModSeq > modseq:
			modseq = ch.HighestModSeq
		case ch.HighestModSeq < sel.view.modseq:
			return since{}, client.ErrUnavailable // this replica knows less than what the client was told
		default:
			return all, nil
		}
	}
}

// changedSince is which messages of the view changed after a modseq, and which UIDs vanished that the view does not have.
func (s *session) changedSince(sel *selected, modseq uint64) (changed, vanished *roaring.Bitmap, err error) {
	all, err := s.changesSince(sel, modseq)
	if err != nil {
		return nil, nil, err
	}
	all.changed.And(sel.view.uids)
	all.vanished.AndNot(sel.view.uids)
	return all.changed, all.vanished, nil
}

// missed finds out what a client missed that comes back to a mailbox since it was here last: nothing, if what it remembers is of another mailbox. Messages that have
// vanished since the view was taken are left out of it: of a new one among them nothing could be told but that the count has it.
func (s *session) missed(sel *selected, r *command.Resync, got *client.Selected) (since, error) {
	if r == nil || r.UIDValidity != got.Mailbox.UIDValidity {
		return since{}, nil
	}
	all, err := s.changesSince(sel, r.ModSeq)
	if err != nil {
		return since{}, err
	}
	sel.view.uids.AndNot(all.vanished)
	if got.Unseen != nil {
		got.Unseen = roaring.And(got.Unseen, sel.view.uids)
	}
	all.changed.And(sel.view.uids)
	all.vanished.RemoveRange(uint64(got.Mailbox.UIDNext), 1<<32) // they came after the view, and went
	if r.Known != nil && got.Mailbox.UIDNext > 1 {
		known := uidRanges(r.Known, got.Mailbox.UIDNext-1)
		all.changed.And(known)
		all.vanished.And(known)
	}
	return all, nil
}

// tellMissed says what a client missed: first what vanished, since numbers count without it.
func (s *session) tellMissed(sel *selected, m since) error {
	if m.changed == nil {
		return nil
	}
	s.tellVanished(vanishedEarlier, m.vanished)
	if m.list == nil {
		f := &fetching{s: s, sel: sel, items: command.Simple(command.ItemUID, command.ItemFlags, command.ItemModSeq), seqs: walker{v: &sel.view}}
		f.plan()
		return chunks(m.changed, f.chunkSize(), f.chunk)
	}
	slices.SortFunc(m.list, func(a, b client.FlagChange) int { return cmp.Compare(a.UID, b.UID) })
	seqs := walker{v: &sel.view}
	for _, c := range m.list {
		if !m.changed.Contains(c.UID) {
			continue
		}
		s.tellKeywords(sel, c.Flags.Keywords)
		if err := s.tellChange(sel, seqs.seqOf(c.UID), c, true, true); err != nil {
			return err
		}
	}
	return nil
}

// onlyChanged narrows a FETCH down to what changed, and tells what vanished, where that was asked for.
func (s *session) onlyChanged(sel *selected, asked *command.Fetch, uids *roaring.Bitmap) (*roaring.Bitmap, error) {
	if asked.Vanished && !s.qresync {
		return nil, bad("VANISHED needs QRESYNC to be enabled")
	}
	if asked.Has(command.ItemModSeq) {
		s.wantModSeqs()
	}
	if !asked.Changed {
		return uids, nil
	}
	changed, vanished, err := s.changedSince(sel, asked.Since)
	if err != nil {
		return nil, err
	}
	if set, ok := asked.Set.(goimap.UIDSet); ok && asked.Vanished && !vanished.IsEmpty() {
		if goimap.IsSearchRes(set) {
			vanished.And(sel.saved)
		} else {
			vanished.And(uidRanges(set, vanished.Maximum()))
		}
		s.tellVanished(vanishedEarlier, vanished)
	}
	return roaring.And(uids, changed), nil
}

// highestOf is the highest modification sequence of some messages, 0 if they are gone.
func (s *session) highestOf(sel *selected, uids *roaring.Bitmap) (top uint64, err error) {
	err = chunks(uids, changeChunk, func(some *roaring.Bitmap) error {
		ctx, cancel := s.question()
		defer cancel()
		return s.mail.Messages(ctx, sel.account, sel.id, some, index.WantFlags, func(m *client.Message) error {
			top = max(top, m.ModSeq)
			return nil
		})
	})
	return top, err
}

// closeCounted is CLOSE for a client that counts on modification sequences. It removes what that knows to be marked, and tells the
// mailbox's new modseq only if nothing else happened up to there: with an older one the client hears of the removal again when it comes back,
// with a newer one it would never hear of the rest.
func (s *session) closeCounted(c *call, sel *selected) error {
	ctx, cancel := s.question()
	defer cancel()
	marked, err := s.mail.Flagged(ctx, sel.account, sel.id, index.FlagDeleted)
	if err != nil {
		return s.answer("expunge "+sel.name, err)
	}
	sel.stale = true
	if err := s.poll(false); err != nil {
		return err
	}
	known := sel.view.uids.Clone()
	marked.And(known)
	if err := s.removeAll(sel, marked, func() error { sel.view.drop(); return nil }); err != nil || known.GetCardinality() == sel.view.uids.GetCardinality() {
		return err
	}
	known.AndNot(sel.view.uids) // what was removed
	at := sel.told
	ch, err := s.mail.Changes(ctx, sel.account, sel.id, at)
	if err == nil && !ch.More && len(ch.Changed) == 0 && ch.Vanished.Equals(known) {
		at = ch.HighestModSeq
	}
	c.code = highestCode(at)
	return nil // where the question failed, the older one does
}
