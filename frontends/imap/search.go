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
	if err == nil && asked.Charset && s.utf8 {
		err = bad("CHARSET is for sessions that have not enabled UTF8=ACCEPT") // RFC 6855 section 3
	}
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
	found, err := s.find(s.recall(sel), asked.Key)
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
	numbers := sel.view.toSeqs
	if c.uid {
		numbers = func(uids *roaring.Bitmap) *roaring.Bitmap { return uids }
	}
	if asked.Extended || s.rev2 {
		err := s.tellExtended(c, asked, inSet(found, numbers), top)
		if err == nil && asked.Update {
			s.keep(c, sel, asked, found)
		}
		return err
	}
	s.out.Raw("* SEARCH")
	for it := numbers(found).Iterator(); it.HasNext(); {
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

// find finds the messages that match, and tells how far it is. What is known here of the mailbox, as the view and the full-text index, may be all that it needs, so a guest's right is
// asked for first.
func (s *session) find(r *recall, key *command.Key) (*roaring.Bitmap, error) {
	if err := s.mayRead(r.sel); err != nil {
		return nil, err
	}
	q := s.newQuery(r)
	q.tells = true
	return q.run(key, roaring.AndNot(r.sel.view.uids, r.sel.view.gone))
}

func (s *session) newQuery(r *recall) *query {
	return &query{s: s, sel: r.sel, columns: r, now: s.srv.cfg.Clock.Now().Unix(), flagged: make(map[uint8]*roaring.Bitmap), sets: make(map[*command.Key]*roaring.Bitmap),
		candidates: make(map[string]*candidates), tests: make(map[*command.Key]test)}
}

// run finds those of a set that match: first by sets and by what is remembered, which needs no message, then, where that does not
// decide, by looking at the messages that are left, in chunks.
func (q *query) run(key *command.Key, in *roaring.Bitmap) (*roaring.Bitmap, error) {
	s := q.s
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.SearchTimeout)
	defer cancel()
	q.ctx, q.columns.ctx = ctx, ctx
	if err := q.needs(key); err != nil {
		return nil, err
	}
	found, rest, err := q.bySets(key, q.columns.present(in))
	if err != nil || rest.IsEmpty() {
		return found, err
	}
	if q.limit > 0 && rest.GetCardinality() > q.limit {
		return nil, errDear
	}
	defer q.columns.done()
	found = found.Clone()
	done, lines := uint64(0), new(message.Outline)
	err = chunks(rest, q.chunkSize(), func(some *roaring.Bitmap) error {
		list, err := q.columns.load(some, q.want)
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
	want    client.Want                      // what messages must be loaded with, beside what columns are made of
	flagged map[uint8]*roaring.Bitmap        // system flags that were asked for
	sets    map[*command.Key]*roaring.Bitmap // sets of the keys, resolved

	candidates map[string]*candidates // for each text, as the full-text index says

	columns *recall
	tests   map[*command.Key]test // of what is in columns

	tells   bool               // the client is told how far it is
	touched map[uint32]touched // where only these are searched, flags are theirs
	limit   uint64             // of messages to look at; 0: none
}

// test is how a key compares what is in a column.
type test struct {
	in      *recalled
	matches func(value []byte) bool
}

// needs finds out what a key needs of messages.
func (q *query) needs(k *command.Key) (err error) {
	switch k.Kind {
	case command.KeyBefore, command.KeySince: // days, each in its own zone (RFC 9051 section 6.4.4)
		day, before := floorDay(k.Date.Unix()), k.Kind == command.KeyBefore
		err = q.test(k, arrivalColumn(), func(value []byte) bool { return (arrivalDay(value) < day) == before })
	case command.KeyOlder:
		err = q.test(k, arrivalColumn(), func(value []byte) bool { return numberOf(value) <= q.now-k.Size })
	case command.KeyYounger:
		err = q.test(k, arrivalColumn(), func(value []byte) bool { return numberOf(value) >= q.now-k.Size })
	case command.KeyLarger:
		err = q.test(k, sizeColumn(), func(value []byte) bool { return uint64(numberOf(value)) > uint64(k.Size) })
	case command.KeySmaller:
		err = q.test(k, sizeColumn(), func(value []byte) bool { return uint64(numberOf(value)) < uint64(k.Size) })
	case command.KeyHeader:
		text := []byte(foldField(k.Text))
		err = q.test(k, headerColumn(k.Field), func(value []byte) bool { return hasText(value, text) })
	case command.KeySentBefore, command.KeySentSince:
		day, before := floorDay(k.Date.Unix()), k.Kind == command.KeySentBefore
		err = q.test(k, dayColumn(), func(value []byte) bool {
			sent := dayOf(value)
			return sent != noDay && (sent < day) == before
		})
	case command.KeyBody, command.KeyText:
		q.want |= index.WantSummary
	case command.KeyEmailID, command.KeySavedBefore, command.KeySavedSince:
		q.want |= index.WantImmutable
	case command.KeyFlag:
		if systemBit(k.Flag) == 0 && !recent(k.Flag) {
			q.want |= index.WantFlags
		}
	}
	for _, c := range k.Keys {
		if err == nil {
			err = q.needs(c)
		}
	}
	return err
}

func (q *query) test(k *command.Key, c column, matches func(value []byte) bool) error {
	in, err := q.columns.use(c)
	q.tests[k] = test{in, matches}
	return err
}

func (q *query) chunkSize() int { return q.columns.chunkSize(q.want) }

// bySets decides about messages by all that sets and columns can tell: sequence numbers, UIDs, system flags, which messages may have a text, and what is
// remembered. Those of found match, those of maybe have to be looked at, the others do not match.
func (q *query) bySets(k *command.Key, in *roaring.Bitmap) (found, maybe *roaring.Bitmap, err error) {
	if t, ok := q.tests[k]; ok {
		found, maybe = q.remembered(t, in)
		return found, maybe, nil
	}
	switch k.Kind {
	case command.KeyAll:
		return in, roaring.New(), nil
	case command.KeySet:
		return roaring.And(in, q.set(k)), roaring.New(), nil
	case command.KeyModSeq:
		found, err = q.changed(k, in)
		return found, roaring.New(), err
	case command.KeyFlag:
		set, known, err := q.withFlag(k.Flag)
		if err != nil || !known {
			return roaring.New(), in, err
		}
		return roaring.And(in, set), roaring.New(), nil
	case command.KeyAnd:
		return q.allBySets(k.Keys, in)
	case command.KeyNot:
		found, maybe, err = q.bySets(k.Keys[0], in)
		if err != nil {
			return nil, nil, err
		}
		return roaring.AndNot(roaring.AndNot(in, found), maybe), maybe, nil
	case command.KeyOr:
		found, maybe, err = q.bySets(k.Keys[0], in)
		if err != nil {
			return nil, nil, err
		}
		others, others2, err := q.bySets(k.Keys[1], roaring.AndNot(in, found))
		if err != nil {
			return nil, nil, err
		}
		found = roaring.Or(found, others)
		return found, roaring.AndNot(roaring.Or(maybe, others2), found), nil
	case command.KeyBody, command.KeyText:
		return roaring.New(), q.narrow(in, k.Text), nil
	}
	return roaring.New(), in, nil
}

// allBySets is bySets of all of several keys, those first that cost least.
func (q *query) allBySets(keys []*command.Key, in *roaring.Bitmap) (found, maybe *roaring.Bitmap, err error) {
	found, maybe = in, roaring.New()
	for _, dearOnes := range [2]bool{false, true} {
		for _, k := range keys {
			if dear(k) != dearOnes {
				continue
			}
			match, perhaps, err := q.bySets(k, roaring.Or(found, maybe))
			if err != nil {
				return nil, nil, err
			}
			maybe = roaring.Or(roaring.And(maybe, match), perhaps)
			found = roaring.And(found, match)
		}
	}
	return found, maybe, nil
}

// remembered is bySets of a test of a column.
func (q *query) remembered(t test, in *roaring.Bitmap) (found, maybe *roaring.Bitmap) {
	found, maybe = roaring.New(), roaring.New()
	uids := make([]uint32, flagsChunk)
	var matching, unknown []uint32
	for it := in.ManyIterator(); ; {
		n := it.NextMany(uids)
		if n == 0 {
			return found, maybe
		}
		q.columns.look(t.in, uids[:n])
		matching, unknown = matching[:0], unknown[:0]
		for i, v := range t.in.cells {
			switch {
			case v == nil:
				unknown = append(unknown, uids[i])
			case t.matches(v):
				matching = append(matching, uids[i])
			}
		}
		found.AddMany(matching)
		maybe.AddMany(unknown)
	}
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
