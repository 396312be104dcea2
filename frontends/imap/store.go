package imap

import (
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

// changeChunk is how many messages one question to the cluster changes; the index takes up to index.MaxChange.
const changeChunk = 10_000

// store changes flags.
func (s *session) store(c *call) error {
	asked, err := command.ParseStore(s.dec, c.uid)
	if err != nil {
		return err
	}
	sel, err := s.writable()
	if err != nil {
		return err
	}
	t, err := s.newStoring(sel, asked, c.uid)
	if err != nil {
		return err
	}
	uids, lost, err := sel.resolve(asked.Set)
	if err != nil {
		return err
	}
	if asked.Conditional {
		s.wantModSeqs()
	}
	if err := t.all(uids); err != nil {
		sel.disown(t.noted)
		return s.answer("store flags in "+sel.name, err)
	}
	if !t.failed.IsEmpty() {
		return t.modified(c, lost || t.lost && !t.byUID)
	}
	if lost || t.lost && !t.byUID {
		c.code = string(codeExpungeIssued) // the flags of the others are as asked (RFC 2180 section 4.2 leaves the choice)
	}
	return nil
}

func (s *session) newStoring(sel *selected, asked *command.Store, byUID bool) (*storing, error) {
	flags, err := flagsIn(asked.Flags)
	if err != nil {
		return nil, err
	}
	return &storing{s: s, sel: sel, op: flagOp(asked.Op), flags: flags, silent: asked.Silent, byUID: byUID,
		conditional: asked.Conditional, since: asked.Since, failed: roaring.New()}, nil
}

// modified names the messages whose flags a conditional STORE left alone (RFC 7162 section 3.1.3).
func (t *storing) modified(c *call, lost bool) error {
	numbers := t.failed
	if !t.byUID {
		numbers = t.sel.view.toSeqs(numbers)
	}
	code := "MODIFIED " + seqSet(numbers).String()
	if lost {
		return no(goimap.ResponseCode(code), "Some of the messages no longer exist")
	}
	c.code, c.text = code, "Conditional STORE failed for some of the messages"
	return nil
}

func flagOp(op goimap.StoreFlagsOp) client.FlagOp {
	switch op {
	case goimap.StoreFlagsAdd:
		return index.OpAdd
	case goimap.StoreFlagsDel:
		return index.OpRemove
	}
	return index.OpSet
}

// storing is a STORE under way.
type storing struct {
	s      *session
	sel    *selected
	op     client.FlagOp
	flags  client.Flags
	silent bool
	byUID  bool

	conditional bool // only messages that did not change after since
	since       uint64
	failed      *roaring.Bitmap // those that did

	lost  bool     // a message vanished meanwhile
	noted []uint64 // modseqs of what was stored
}

// chunk stores in one set of messages, and answers for it.
func (t *storing) chunk(uids *roaring.Bitmap) error {
	if t.conditional {
		return t.attempt(uids)
	}
	ch, err := t.change(uids)
	if err != nil {
		return err
	}
	return t.tell(ch.told, ch.now, true)
}

// flagChange is what a change of flags came to.
type flagChange struct {
	told *roaring.Bitmap              // the messages whose flags are told
	now  map[uint32]client.FlagChange // the flags of those of them that exist
}

// change stores in one set of messages. A silent STORE must not hide what others changed meanwhile: first it only
// touches messages that did not change since the view's modseq, and the new flags of the others are told.
func (t *storing) change(uids *roaring.Bitmap) (ch flagChange, err error) {
	ctx, cancel := t.s.question()
	defer cancel()
	ch.told = uids
	if t.silent {
		done, err := t.s.mail.StoreFlags(ctx, t.sel.account, t.sel.id, uids, t.op, t.flags, max(t.sel.view.modseq, 1))
		if err != nil {
			return ch, err
		}
		t.note(&done)
		ch.told = done.Failed
		if err := t.tellModSeqs(done.Changed); err != nil || ch.told.IsEmpty() {
			return ch, err
		}
	}
	done, err := t.s.mail.StoreFlags(ctx, t.sel.account, t.sel.id, ch.told, t.op, t.flags, 0)
	if err != nil {
		return ch, err
	}
	t.note(&done)
	ch.now, err = t.current(ch.told, done.Changed)
	return ch, err
}

// attempt is chunk of a conditional STORE, which is answered for each message that was free of changes, also by a silent one. No message is
// as old as 0, which the cluster would take for no condition.
func (t *storing) attempt(uids *roaring.Bitmap) error {
	if t.since == 0 {
		t.failed.Or(uids)
		return nil
	}
	ctx, cancel := t.s.question()
	defer cancel()
	done, err := t.s.mail.StoreFlags(ctx, t.sel.account, t.sel.id, uids, t.op, t.flags, t.since)
	if err != nil {
		return err
	}
	t.note(&done)
	t.failed.Or(done.Failed)
	told := roaring.AndNot(uids, done.Failed)
	now, err := t.current(told, done.Changed)
	if err != nil {
		return err
	}
	return t.tell(told, now, !t.silent)
}

// tellModSeqs answers a silent STORE: whoever counts on modification sequences must learn those of its own changes, and with any other the flags that it stands for.
func (t *storing) tellModSeqs(changed []client.FlagChange) error {
	if !t.s.condstore {
		return nil
	}
	seqs := walker{v: &t.sel.view}
	for _, c := range changed {
		if err := t.s.tellChange(t.sel, seqs.seqOf(c.UID), c, t.byUID, !t.sel.knows(c.ModSeq)); err != nil {
			return err
		}
	}
	return nil
}

// note remembers the change of one command of our own.
func (t *storing) note(done *client.Stored) {
	t.noted = append(t.noted, t.sel.claim(done)...)
	for _, c := range done.Changed {
		t.s.tellKeywords(t.sel, c.Flags.Keywords)
	}
}

// current is the flags of those messages that exist, of which some were changed.
func (t *storing) current(uids *roaring.Bitmap, changed []client.FlagChange) (now map[uint32]client.FlagChange, err error) {
	now = make(map[uint32]client.FlagChange, len(changed))
	for _, c := range changed {
		now[c.UID] = c
	}
	same := uids.Clone()
	for _, c := range changed {
		same.Remove(c.UID)
	}
	if same.IsEmpty() {
		return now, nil
	}
	ctx, cancel := t.s.question()
	defer cancel()
	err = t.s.mail.Messages(ctx, t.sel.account, t.sel.id, same, index.WantFlags, func(m *client.Message) error {
		now[m.UID] = client.FlagChange{UID: m.UID, ModSeq: m.ModSeq, Flags: keepFlags(m.Flags)}
		return nil
	})
	return now, err
}

// tell answers with the flags of all messages, also of those that had them already: "as if a FETCH of those flags was
// done" (RFC 9051 section 6.4.6). With flags unset only modification sequences are told of those whose flags the client knows.
func (t *storing) tell(uids *roaring.Bitmap, now map[uint32]client.FlagChange, flags bool) error {
	seqs := walker{v: &t.sel.view}
	for it := uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		c, ok := now[uid]
		if !ok {
			t.lost = true
			continue
		}
		if err := t.s.tellChange(t.sel, seqs.seqOf(uid), c, t.byUID, flags || !t.sel.knows(c.ModSeq)); err != nil {
			return err
		}
	}
	return nil
}

// keepFlags is a copy that outlives the callback it was given to.
func keepFlags(f client.Flags) client.Flags {
	f.Keywords = append([]string(nil), f.Keywords...)
	return f
}

// expunge removes messages marked \Deleted, for EXPUNGE and UID EXPUNGE: only such as this session's client knows of.
func (s *session) expunge(c *call) error {
	var only *goimap.UIDSet
	if c.uid {
		set, err := command.UIDs(s.dec)
		if err != nil {
			return err
		}
		only = &set
	} else if err := command.None(s.dec); err != nil {
		return err
	}
	sel, err := s.writable()
	if err != nil {
		return err
	}
	if err := sel.may(client.RightExpunge); err != nil {
		return err
	}
	c.highest = true
	return s.remove(sel, only, func() error { return s.tellGone(&sel.view) })
}

// closeMailbox closes the mailbox and expunges it without a word. One that is open read-only is only closed, as is one that the user may not expunge, also if that right was
// taken from him since he opened it: RFC 9051 section 6.4.1 and RFC 4314 section 4 make that no error.
func (s *session) closeMailbox(c *call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	if sel, err := s.writable(); err == nil && sel.may(client.RightExpunge) == nil {
		if s.condstore {
			err = s.closeCounted(c, sel)
		} else {
			err = s.remove(sel, nil, func() error { sel.view.drop(); return nil })
		}
		if err != nil && !withdrawn(sel, err) {
			return err
		}
	}
	s.deselect()
	return nil
}

// withdrawn says whether the answer to a guest is that he lacks a right, on a mailbox that he may know of or not.
func withdrawn(sel *selected, err error) bool {
	var answer *goimap.Error
	return sel.account.Guest != 0 && errors.As(err, &answer) && (answer.Code == goimap.ResponseCodeNoPerm || answer.Code == goimap.ResponseCodeNonExistent)
}

// remove removes messages marked \Deleted.
func (s *session) remove(sel *selected, only *goimap.UIDSet, tell func() error) error {
	uids, err := s.expungeable(sel, only)
	if err != nil {
		return err
	}
	return s.removeAll(sel, uids, tell)
}

// removeAll removes those of uids that are marked \Deleted; tell takes what is gone out of the view.
func (s *session) removeAll(sel *selected, uids *roaring.Bitmap, tell func() error) error {
	err := s.steps(uids, index.MaxChange, func(some *roaring.Bitmap) error {
		ctx, cancel := s.question()
		defer cancel()
		var removed *roaring.Bitmap
		err := s.patiently(func() (err error) {
			removed, err = s.mail.Expunge(ctx, sel.account, sel.id, some, true)
			return err
		})
		if err != nil {
			return err
		}
		sel.stale = true
		sel.view.vanish(removed)
		return tell()
	})
	return s.answer("expunge "+sel.name, err)
}

// expungeable are the messages that an EXPUNGE may remove if they are marked. Which are, the cluster looks up when it
// removes them; only in very large mailboxes those that were not marked a moment ago are left out, to keep the
// question small.
func (s *session) expungeable(sel *selected, only *goimap.UIDSet) (*roaring.Bitmap, error) {
	uids := roaring.AndNot(sel.view.uids, sel.view.gone)
	if only != nil {
		var err error
		if uids, _, err = sel.resolve(*only); err != nil {
			return nil, err
		}
	}
	if uids.GetCardinality() <= index.MaxChange {
		return uids, nil
	}
	ctx, cancel := s.question()
	defer cancel()
	marked, err := s.mail.Flagged(ctx, sel.account, sel.id, index.FlagDeleted)
	if err != nil {
		return nil, s.answer("expunge "+sel.name, err)
	}
	uids.And(marked)
	return uids, nil
}
