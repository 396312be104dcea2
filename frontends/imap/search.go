package imap

import (
	"context"
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
)

// search answers SEARCH and UID SEARCH, also by ESEARCH and with SAVE (RFC 4731, RFC 5182).
func (s *session) search(c *call) error {
	asked, err := command.ParseSearch(s.dec)
	if err != nil {
		return s.refused(&asked.Options, err)
	}
	sel, err := s.open()
	if err == nil {
		err = sel.tagTaken(c, asked)
	}
	if err != nil {
		return err
	}
	if asked.ModSeq {
		s.wantModSeqs()
	}
	s.srv.stats.searches.Add(1)
	found, err := s.find(sel, asked.Key)
	if asked.Options.ReturnSave {
		sel.saved = roaring.New()
		if err == nil {
			sel.saved = savedResult(found, asked)
		}
	}
	if err != nil {
		return s.answer("search in "+sel.name, err)
	}
	if !sel.view.gone.IsEmpty() && !c.uid {
		c.code = string(codeExpungeIssued) // RFC 5530 section 3: what is gone was not searched
	}
	top := uint64(0)
	if asked.ModSeq {
		if top, err = s.highestOf(sel, savedResult(found, asked)); err != nil {
			return s.answer("search in "+sel.name, err)
		}
	}
	numbers := found
	if !c.uid {
		numbers = sel.view.toSeqs(found)
	}
	if asked.Extended || s.rev2 {
		err := s.tellExtended(c, asked, inSet(numbers), top)
		if err == nil && asked.Update {
			s.keep(c, sel, asked, found)
		}
		return err
	}
	s.out.Raw("* SEARCH")
	for it := numbers.Iterator(); it.HasNext(); {
		s.out.SP().Num(uint64(it.Next()))
	}
	if top > 0 {
		s.out.SP().Raw("(MODSEQ ").Num(top).Raw(")")
	}
	return s.out.Line("").Err()
}

// refused is the answer to a search that cannot be made. One that was to be saved leaves nothing saved (RFC 5182 section 2.1).
func (s *session) refused(o *goimap.SearchOptions, err error) error {
	var answer *goimap.Error
	if errors.As(err, &answer) && answer.Type == goimap.StatusResponseTypeNo && o.ReturnSave && s.sel != nil {
		s.sel.saved = roaring.New()
	}
	return err
}

// find finds the messages that match, and tells how far it is.
func (s *session) find(sel *selected, key *command.Key) (*roaring.Bitmap, error) {
	q := s.newQuery(sel, key)
	q.tells = true
	return q.run(key, roaring.AndNot(sel.view.uids, sel.view.gone))
}

func (s *session) newQuery(sel *selected, key *command.Key) *query {
	q := &query{s: s, sel: sel, now: s.srv.cfg.Clock.Now().Unix(), flagged: make(map[uint8]*roaring.Bitmap), sets: make(map[*command.Key]*roaring.Bitmap),
		candidates: make(map[string]*candidates)}
	q.needs(key)
	return q
}

// run finds those of a set that match: first by sets alone, which needs no message, then, where that does not
// decide, by looking at the messages that are left, in chunks.
func (q *query) run(key *command.Key, in *roaring.Bitmap) (*roaring.Bitmap, error) {
	s := q.s
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.SearchTimeout)
	defer cancel()
	q.ctx = ctx
	rest, exact, err := q.bySets(key, in)
	if err != nil || exact {
		return rest, err
	}
	if q.limit > 0 && rest.GetCardinality() > q.limit {
		return nil, errDear
	}
	found, done, lines := roaring.New(), uint64(0), new(message.Outline)
	err = chunks(rest, q.chunkSize(), func(some *roaring.Bitmap) error {
		list, err := s.load(q.sel, some, q.want)
		if err != nil {
			return err
		}
		for i, e := range list {
			if q.tells {
				s.progress(done+uint64(i), rest.GetCardinality())
			}
			err := s.outline(e, lines)
			ok := false
			if err == nil {
				ok, err = q.matches(key, e)
			}
			if err != nil && !errors.Is(err, client.ErrLost) { // of which no text can be found
				return err
			}
			if ok {
				found.Add(e.uid)
			}
			e.forget()
		}
		done += some.GetCardinality()
		return errors.Join(ctx.Err(), s.out.Err())
	})
	if err != nil && ctx.Err() != nil && s.ctx.Err() == nil {
		err = no(goimap.ResponseCodeLimit, "Search took too long; narrow it down")
	}
	return found, err
}

// savedResult is what SAVE keeps: with MIN, MAX or PARTIAL alone only those (RFC 5182 section 2.4, RFC 9394).
func savedResult(found *roaring.Bitmap, asked *command.Search) *roaring.Bitmap {
	o := &asked.Options
	if o.ReturnAll || o.ReturnCount || asked.Page == nil && !o.ReturnMin && !o.ReturnMax || found.IsEmpty() {
		return found
	}
	out := roaring.New()
	if o.ReturnMin {
		out.Add(found.Minimum())
	}
	if o.ReturnMax {
		out.Add(found.Maximum())
	}
	if asked.Page != nil {
		out.Or(pageOf(found, asked.Page))
	}
	return out
}

// query is a SEARCH under way.
type query struct {
	s       *session
	sel     *selected
	ctx     context.Context
	now     int64                            // of OLDER and YOUNGER
	want    client.Want                      // what messages must be loaded with
	flagged map[uint8]*roaring.Bitmap        // system flags that were asked for
	sets    map[*command.Key]*roaring.Bitmap // sets of the keys, resolved

	candidates map[string]*candidates // for each text, as the full-text index says

	tells   bool               // the client is told how far it is
	touched map[uint32]touched // where only these are searched, flags are theirs
	limit   uint64             // of messages to look at; 0: none
}

// needs finds out what a key needs of messages.
func (q *query) needs(k *command.Key) {
	switch k.Kind {
	case command.KeyHeader, command.KeyBody, command.KeyText, command.KeySentBefore, command.KeySentSince:
		q.want |= index.WantSummary
	case command.KeyEmailID:
		q.want |= index.WantImmutable
	case command.KeyBefore, command.KeySince, command.KeyOlder, command.KeyYounger, command.KeyLarger, command.KeySmaller:
		q.want |= index.WantFlags // in the small row
	case command.KeySavedBefore, command.KeySavedSince:
		q.want |= index.WantImmutable
	case command.KeyFlag:
		if systemBit(k.Flag) == 0 && !recent(k.Flag) {
			q.want |= index.WantFlags
		}
	}
	for _, c := range k.Keys {
		q.needs(c)
	}
}

func (q *query) chunkSize() int {
	if q.want&index.WantSummary != 0 {
		return summaryChunk
	}
	return flagsChunk
}

// bySets narrows a set by all that sets alone can tell: sequence numbers, UIDs, system flags, and which messages may have a text. exact says that
// nothing else was asked; otherwise the result holds every match and perhaps more.
func (q *query) bySets(k *command.Key, in *roaring.Bitmap) (out *roaring.Bitmap, exact bool, err error) {
	switch k.Kind {
	case command.KeyAll:
		return in, true, nil
	case command.KeySet:
		return roaring.And(in, q.set(k)), true, nil
	case command.KeyModSeq:
		out, err = q.changed(k, in)
		return out, true, err
	case command.KeyFlag:
		set, known, err := q.withFlag(k.Flag)
		if err != nil || !known {
			return in, false, err
		}
		return roaring.And(in, set), true, nil
	case command.KeyAnd:
		out, exact = in, true
		for _, c := range k.Keys {
			some, known, err := q.bySets(c, out)
			if err != nil {
				return nil, false, err
			}
			out, exact = some, exact && known
		}
		return out, exact, nil
	case command.KeyNot:
		some, known, err := q.bySets(k.Keys[0], in)
		if err != nil || !known {
			return in, false, err
		}
		return roaring.AndNot(in, some), true, nil
	case command.KeyOr:
		a, knownA, err := q.bySets(k.Keys[0], in)
		if err != nil {
			return nil, false, err
		}
		b, knownB, err := q.bySets(k.Keys[1], in)
		if err != nil {
			return nil, false, err
		}
		return roaring.Or(a, b), knownA && knownB, nil
	case command.KeyBody, command.KeyText:
		return q.narrow(in, k.Text), false, nil
	}
	return in, false, nil
}

// set resolves a set of numbers, once; sequence numbers that no message has are ignored here.
func (q *query) set(k *command.Key) *roaring.Bitmap {
	some := q.sets[k]
	if some == nil {
		some = q.sel.numbered(k.Set)
		q.sets[k] = some
	}
	return some
}

// numbered is the messages that a set means.
func (sel *selected) numbered(set goimap.NumSet) *roaring.Bitmap {
	switch set := set.(type) {
	case goimap.SeqSet:
		some, _ := sel.view.fromSeqs(set)
		return some
	case goimap.UIDSet:
		if goimap.IsSearchRes(set) {
			return sel.saved
		}
		return sel.view.fromUIDs(set)
	}
	return roaring.New()
}

// changed is those of a set that have a modseq as high as a key says.
func (q *query) changed(k *command.Key, in *roaring.Bitmap) (*roaring.Bitmap, error) {
	set := q.sets[k]
	switch {
	case set != nil:
	case k.Size <= 1:
		set = q.sel.view.uids
	default:
		var err error
		if set, _, err = q.s.changedSince(q.sel, uint64(k.Size)-1); err != nil {
			return nil, err
		}
	}
	q.sets[k] = set
	return roaring.And(in, set), nil
}

// withFlag is the set of messages with a flag, unless that is a keyword.
func (q *query) withFlag(f goimap.Flag) (set *roaring.Bitmap, known bool, err error) {
	if recent(f) {
		if set = q.s.recentSet(q.sel); set == nil {
			set = roaring.New()
		}
		return set, true, nil
	}
	bit := systemBit(f)
	if bit == 0 {
		return nil, false, nil
	}
	if set := q.flagged[bit]; set != nil {
		return set, true, nil
	}
	if q.touched != nil {
		set := roaring.New()
		for uid, t := range q.touched {
			if t.system&bit != 0 {
				set.Add(uid)
			}
		}
		q.flagged[bit] = set
		return set, true, nil
	}
	ctx, cancel := q.s.question()
	defer cancel()
	set, err = q.s.mail.Flagged(ctx, q.sel.account, q.sel.id, bit)
	if err != nil {
		return nil, false, err
	}
	q.flagged[bit] = set
	return set, true, nil
}

func recent(f goimap.Flag) bool { return f == command.FlagRecent }
