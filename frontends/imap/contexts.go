package imap

import (
	"errors"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// Contexts (RFC 5267) are searches whose results a client is kept informed of, as long as it has the mailbox open. What changed in the mailbox is
// held against each of them when the client is told of it; so they cost what changes, not what is there. Searches whose results change by
// themselves are not kept up to date, sorted ones neither, and those that look into messages only as long as few change at once.

const (
	maxContexts = 10     // of a session
	maxReread   = 1_000  // messages that may have to be read for one update of a context
	maxTouched  = 10_000 // changed messages that are held against contexts one by one; beyond, all messages are
)

// searchContext is a search whose result the client is told changes of.
type searchContext struct {
	tag    string
	uid    bool // the client counts in UIDs
	key    *command.Key
	sets   map[*command.Key]*roaring.Bitmap // sets of the key as they were when it was given (RFC 5267 section 4.3)
	uids   *roaring.Bitmap                  // the result as the client knows it
	items  []command.Item                   // to tell of new messages in it
	untold *roaring.Bitmap                  // those of which that is still to be done
}

// contexts are a session's of its open mailbox.
type contexts struct {
	list    []*searchContext
	touched map[uint32]touched // messages that changed since the contexts were brought up to date
	all     bool               // more did than are noted
}

// touched is what changed of a message.
type touched struct {
	system uint8 // its flags now
	fresh  bool  // it is new, and not this session's own
}

// errDear ends a query that would have too many messages read.
var errDear = errors.New("too many messages to look into")

// has says whether the search with a tag is kept up to date.
func (cs *contexts) has(tag string) bool {
	return slices.ContainsFunc(cs.list, func(c *searchContext) bool { return c.tag == tag })
}

// drop ends that.
func (cs *contexts) drop(tag string) {
	cs.list = slices.DeleteFunc(cs.list, func(c *searchContext) bool { return c.tag == tag })
}

// tagTaken refuses the tag of a search that is still told of (RFC 5267 section 4.3).
func (sel *selected) tagTaken(c *call, asked *command.Search) error {
	if asked.Update && sel.contexts.has(c.tag) {
		return bad("A search with this tag is being updated")
	}
	return nil
}

// keep makes a search that was answered a context, if it can be one.
func (s *session) keep(c *call, sel *selected, asked *command.Search, found *roaring.Bitmap) {
	switch cs := &sel.contexts; {
	case len(cs.list) >= maxContexts:
		s.refuseUpdate(c.tag, "Too many contexts")
	case changesByItself(asked.Key):
		s.refuseUpdate(c.tag, "Results of such a search are not kept up to date")
	default:
		kept := &searchContext{tag: c.tag, uid: c.uid, key: asked.Key, sets: make(map[*command.Key]*roaring.Bitmap),
			uids: found.Clone(), items: asked.Items, untold: roaring.New()}
		sel.freeze(asked.Key, kept.sets)
		cs.list = append(cs.list, kept)
		cs.all = cs.all || !sel.view.coming.IsEmpty() // their flags were told before
	}
}

// refuseUpdate says that the client will not hear of changes of a result (RFC 5267 section 4.3.1).
func (s *session) refuseUpdate(tag, why string) {
	s.out.Raw("* NO [NOUPDATE ").String(tag).Raw("] ").Line(why)
}

// changesByItself says whether a result can change although no message does.
func changesByItself(k *command.Key) bool {
	switch k.Kind {
	case command.KeyOlder, command.KeyYounger, command.KeyModSeq:
		return true
	}
	return slices.ContainsFunc(k.Keys, changesByItself)
}

// freeze resolves the sets of a key. Sequence numbers, "*" and "$" mean what they meant when the search was made; "n:*" has all UIDs from n on.
func (sel *selected) freeze(k *command.Key, sets map[*command.Key]*roaring.Bitmap) {
	for _, c := range k.Keys {
		sel.freeze(c, sets)
	}
	if k.Kind != command.KeySet {
		return
	}
	now := sel.numbered(k.Set).Clone()
	if uids, ok := k.Set.(goimap.UIDSet); ok && !goimap.IsSearchRes(uids) {
		for _, r := range uids {
			switch from, to := uint64(r.Start), uint64(r.Stop); {
			case from == 0:
			case to == 0:
				now.AddRange(from, math.MaxUint32+1)
			default:
				now.AddRange(from, to+1)
			}
		}
	}
	sets[k] = now
}

// touch notes changes, for the contexts.
func (sel *selected) touch(changed []client.FlagChange) {
	cs := &sel.contexts
	if len(cs.list) == 0 || cs.all {
		return
	}
	if cs.touched == nil {
		cs.touched = make(map[uint32]touched)
	}
	for _, c := range changed {
		fresh := cs.touched[c.UID].fresh || !sel.view.uids.Contains(c.UID) && !sel.mine.Contains(c.UID)
		cs.touched[c.UID] = touched{system: c.Flags.System, fresh: fresh}
	}
	if cs.all = len(cs.touched) > maxTouched; cs.all {
		cs.touched = nil
	}
}

// leave tells which results messages leave that are gone: before their EXPUNGE, since it counts in numbers that those still have.
func (s *session) leave(sel *selected) {
	gone := sel.view.gone
	for _, c := range sel.contexts.list {
		c.untold.AndNot(gone)
		if left := roaring.And(c.uids, gone); !left.IsEmpty() {
			c.uids.AndNot(left)
			s.tellContext(sel, c, left, roaring.New())
		}
	}
}

// updateContexts holds what changed against the contexts, and tells how their results did, and what was asked for of new messages in them.
func (s *session) updateContexts(sel *selected) error {
	cs := &sel.contexts
	if !cs.all && len(cs.touched) == 0 {
		return s.tellJoined(sel)
	}
	base := roaring.AndNot(sel.view.uids, sel.view.gone)
	if !cs.all {
		base.And(keysOf(cs.touched))
	}
	for _, c := range slices.Clone(cs.list) {
		switch err := s.updateContext(sel, c, base); {
		case errors.Is(err, errDear):
			s.refuseUpdate(c.tag, "Too much changed at once for such a search")
			cs.drop(c.tag)
		case err != nil:
			return s.later("update a search in "+sel.name, err)
		}
	}
	cs.all, cs.touched = false, nil
	return s.tellJoined(sel)
}

// updateContext does it for one, of which some messages may have joined or left the result.
func (s *session) updateContext(sel *selected, c *searchContext, some *roaring.Bitmap) error {
	q := s.newQuery(s.recall(sel))
	q.sets, q.touched = c.sets, sel.contexts.touched
	if dear(c.key) {
		q.limit = maxReread
	}
	match, err := q.run(c.key, some)
	if err != nil {
		return err
	}
	joined := roaring.AndNot(match, c.uids)
	left := roaring.And(roaring.AndNot(some, match), c.uids)
	c.uids.AndNot(left)
	c.uids.Or(joined)
	s.tellContext(sel, c, left, joined)
	for it := joined.Iterator(); len(c.items) > 0 && it.HasNext(); {
		if uid := it.Next(); sel.contexts.touched[uid].fresh {
			c.untold.Add(uid)
		}
	}
	return nil
}

// keysOf is the messages that were touched.
func keysOf(m map[uint32]touched) *roaring.Bitmap {
	out := roaring.New()
	for uid := range m {
		out.Add(uid)
	}
	return out
}

// later is what an update that failed ends in: it is tried again with the next one, but for a client that is gone.
func (s *session) later(doing string, err error) error {
	if s.ctx.Err() != nil || s.out.Err() != nil {
		return err
	}
	s.log.Warn("IMAP session could not finish an update", "doing", doing, "error", err)
	s.srv.stats.unavailable.Add(1)
	return client.ErrUnavailable
}

// tellContext tells how a result changed.
func (s *session) tellContext(sel *selected, c *searchContext, left, joined *roaring.Bitmap) {
	if left.IsEmpty() && joined.IsEmpty() {
		return
	}
	s.out.Raw("* ESEARCH (TAG ").String(c.tag).Raw(")")
	if c.uid {
		s.out.Raw(" UID")
	}
	for _, part := range []struct {
		item string
		uids *roaring.Bitmap
	}{{" REMOVEFROM (0 ", left}, {" ADDTO (0 ", joined}} {
		if part.uids.IsEmpty() {
			continue
		}
		numbers := part.uids
		if !c.uid {
			numbers = sel.view.toSeqs(numbers)
		}
		s.out.Raw(part.item).Set(seqSet(numbers)).Raw(")")
	}
	s.out.Line("")
}

// tellJoined tells what was asked for of new messages in results (RFC 5465 section 7).
func (s *session) tellJoined(sel *selected) error {
	for _, c := range sel.contexts.list {
		if err := s.tellData(sel, c.items, c.untold); err != nil {
			return s.later("tell of new messages in "+sel.name, err)
		}
	}
	return nil
}

// cancelUpdate answers CANCELUPDATE.
func (s *session) cancelUpdate(*call) error {
	tags, err := command.CancelUpdate(s.dec)
	if err != nil {
		return err
	}
	sel, err := s.open()
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if !sel.contexts.has(tag) {
			err = no("", "No search with such a tag is being updated")
		}
		sel.contexts.drop(tag)
	}
	return err
}

// tellData tells items of messages, and takes out of the set what was told.
func (s *session) tellData(sel *selected, items []command.Item, uids *roaring.Bitmap) error {
	if uids.And(sel.view.uids); uids.IsEmpty() { // those that had to wait may have come and gone
		return nil
	}
	f := &fetching{s: s, sel: sel, items: items, seqs: walker{v: &sel.view}}
	f.plan()
	if f.want == 0 {
		err := f.uidsOnly(uids)
		uids.Clear()
		return err
	}
	err := chunks(uids.Clone(), f.chunkSize(), func(some *roaring.Bitmap) error {
		err := f.chunk(some)
		if err == nil {
			uids.AndNot(some)
		}
		return err
	})
	if err != nil && !errors.Is(err, client.ErrUnavailable) {
		uids.Clear()
	}
	return err
}
