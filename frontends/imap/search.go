package imap

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

const (
	maxSearchDepth = 64 // of NOT and OR inside each other
	maxSearchKeys  = 1000
	maxSearchTexts = 16 // BODY and TEXT keys
)

// Search answers SEARCH and UID SEARCH, also for ESEARCH and with SAVE (RFC 4731, RFC 5182).
func (s *session) Search(kind imapserver.NumKind, c *goimap.SearchCriteria, o *goimap.SearchOptions) (*goimap.SearchData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sel, err := s.open()
	if err != nil {
		return nil, err
	}
	s.srv.stats.searches.Add(1)
	found, err := s.search(sel, c)
	if err != nil {
		if o.ReturnSave { // RFC 5182 section 2.1
			sel.saved = roaring.New()
		}
		return nil, s.answer("search in "+sel.name, err)
	}
	if o.ReturnSave {
		sel.saved = savedResult(found, o)
	}
	return searchData(sel, kind, found), nil
}

// search finds the messages that match: first by sets alone, which needs no message, then, where that does not
// decide, by looking at the messages that are left, in chunks.
func (s *session) search(sel *selected, c *goimap.SearchCriteria) (*roaring.Bitmap, error) {
	q := &query{s: s, sel: sel, flagged: make(map[uint8]*roaring.Bitmap),
		seqSets: make(map[*goimap.SeqRange]*roaring.Bitmap), uidSets: make(map[*goimap.UIDRange]*roaring.Bitmap),
		candidates: make(map[string]*candidates)}
	if err := q.check(c, 0); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.SearchTimeout)
	defer cancel()
	q.ctx = ctx
	all := roaring.AndNot(sel.view.uids, sel.view.gone)
	rest, exact, err := q.bySets(c, all)
	if err != nil || exact {
		return rest, err
	}
	found := roaring.New()
	err = chunks(rest, q.chunkSize(), func(some *roaring.Bitmap) error {
		list, err := s.load(sel, some, q.want)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := s.summarise(e); err != nil {
				return err
			}
			ok, err := q.matches(c, e)
			if err != nil {
				return err
			}
			if ok {
				found.Add(e.uid)
			}
			e.forget()
		}
		return ctx.Err()
	})
	if err != nil && ctx.Err() != nil && s.ctx.Err() == nil {
		err = no(goimap.ResponseCodeLimit, "Search took too long; narrow it down")
	}
	return found, err
}

// savedResult is what SAVE keeps: with MIN or MAX alone only those (RFC 5182 section 2.4).
func savedResult(found *roaring.Bitmap, o *goimap.SearchOptions) *roaring.Bitmap {
	if o.ReturnAll || o.ReturnCount || found.IsEmpty() {
		return found
	}
	out := roaring.New()
	if o.ReturnMin {
		out.Add(found.Minimum())
	}
	if o.ReturnMax {
		out.Add(found.Maximum())
	}
	return out
}

func searchData(sel *selected, kind imapserver.NumKind, found *roaring.Bitmap) *goimap.SearchData {
	d := &goimap.SearchData{Count: uint32(found.GetCardinality())}
	numbers := found
	if kind == imapserver.NumKindUID {
		d.All = uidSet(found)
	} else {
		numbers = sel.view.toSeqs(found)
		d.All = seqSet(numbers)
	}
	if !numbers.IsEmpty() {
		d.Min, d.Max = numbers.Minimum(), numbers.Maximum()
	}
	return d
}

// query is a SEARCH under way.
type query struct {
	s       *session
	sel     *selected
	ctx     context.Context
	want    client.Want                          // what messages must be loaded with
	flagged map[uint8]*roaring.Bitmap            // system flags that were asked for
	seqSets map[*goimap.SeqRange]*roaring.Bitmap // sets of the criteria, by where they are, resolved
	uidSets map[*goimap.UIDRange]*roaring.Bitmap
	keys    int
	texts   int

	candidates map[string]*candidates // for each text, as the full-text index says
}

// check bounds a query and finds out what it needs of messages.
func (q *query) check(c *goimap.SearchCriteria, depth int) error {
	q.keys += 1 + len(c.SeqNum) + len(c.UID) + len(c.Flag) + len(c.NotFlag) + len(c.Header)
	q.texts += len(c.Body) + len(c.Text)
	if depth > maxSearchDepth || q.keys > maxSearchKeys || q.texts > maxSearchTexts {
		return no(goimap.ResponseCodeLimit, "Search too complex")
	}
	if c.ModSeq != nil {
		return bad("Unknown search key")
	}
	if len(c.Header)+len(c.Body)+len(c.Text) > 0 || !c.SentSince.IsZero() || !c.SentBefore.IsZero() {
		q.want |= index.WantSummary
	}
	if len(c.Body)+len(c.Text)+len(c.Header) > 0 || c.Larger != 0 || c.Smaller != 0 || !c.Since.IsZero() || !c.Before.IsZero() {
		q.want |= index.WantImmutable
	}
	for _, list := range [][]goimap.Flag{c.Flag, c.NotFlag} {
		for _, f := range list {
			if systemBit(f) == 0 && !recent(f) {
				q.want |= index.WantFlags
			}
		}
	}
	for i := range c.Not {
		if err := q.check(&c.Not[i], depth+1); err != nil {
			return err
		}
	}
	for i := range c.Or {
		for j := range c.Or[i] {
			if err := q.check(&c.Or[i][j], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *query) chunkSize() int {
	if q.want&index.WantSummary != 0 {
		return summaryChunk
	}
	return flagsChunk
}

// bySets narrows a set by all that sets alone can tell: sequence numbers, UIDs, system flags, and which messages may have a text. exact says that
// nothing else was asked; otherwise the result holds every match and perhaps more.
func (q *query) bySets(c *goimap.SearchCriteria, in *roaring.Bitmap) (out *roaring.Bitmap, exact bool, err error) {
	out = in.Clone()
	for _, set := range c.SeqNum {
		out.And(q.seqs(set))
	}
	for _, set := range c.UID {
		out.And(q.uids(set))
	}
	exact = len(c.Header)+len(c.Body)+len(c.Text) == 0 && c.Larger == 0 && c.Smaller == 0 &&
		c.Since.IsZero() && c.Before.IsZero() && c.SentSince.IsZero() && c.SentBefore.IsZero()
	for _, f := range c.Flag {
		some, known, err := q.withFlag(f)
		if err != nil {
			return nil, false, err
		}
		if exact = exact && known; known {
			out.And(some)
		}
	}
	for _, f := range c.NotFlag {
		some, known, err := q.withFlag(f)
		if err != nil {
			return nil, false, err
		}
		if exact = exact && known; known {
			out.AndNot(some)
		}
	}
	q.narrow(out, c.Body)
	q.narrow(out, c.Text)
	for i := range c.Not {
		some, known, err := q.bySets(&c.Not[i], out)
		if err != nil {
			return nil, false, err
		}
		if exact = exact && known; known {
			out.AndNot(some)
		}
	}
	for i := range c.Or {
		a, knownA, err := q.bySets(&c.Or[i][0], out)
		if err != nil {
			return nil, false, err
		}
		b, knownB, err := q.bySets(&c.Or[i][1], out)
		if err != nil {
			return nil, false, err
		}
		exact = exact && knownA && knownB
		out = roaring.Or(a, b)
	}
	return out, exact, nil
}

// seqs resolves a set of sequence numbers, once; numbers that no message has are ignored here.
func (q *query) seqs(set goimap.SeqSet) *roaring.Bitmap {
	if len(set) == 0 {
		return roaring.New()
	}
	some := q.seqSets[&set[0]]
	if some == nil {
		some, _ = q.sel.view.fromSeqs(set)
		q.seqSets[&set[0]] = some
	}
	return some
}

// uids resolves a UID set, once, or "$".
func (q *query) uids(set goimap.UIDSet) *roaring.Bitmap {
	if goimap.IsSearchRes(set) {
		return q.sel.saved
	}
	if len(set) == 0 {
		return roaring.New()
	}
	some := q.uidSets[&set[0]]
	if some == nil {
		some = q.sel.view.fromUIDs(set)
		q.uidSets[&set[0]] = some
	}
	return some
}

// withFlag is the set of messages with a flag, unless that is a keyword.
func (q *query) withFlag(f goimap.Flag) (set *roaring.Bitmap, known bool, err error) {
	if recent(f) {
		return roaring.New(), true, nil
	}
	bit := systemBit(f)
	if bit == 0 {
		return nil, false, nil
	}
	if set := q.flagged[bit]; set != nil {
		return set, true, nil
	}
	ctx, cancel := q.s.question()
	defer cancel()
	set, err = q.s.mail.Flagged(ctx, q.s.account, q.sel.id, bit)
	if err != nil {
		return nil, false, err
	}
	q.flagged[bit] = set
	return set, true, nil
}

// recent says whether a flag is \Recent, which no message has here (RFC 9051 does away with it).
func recent(f goimap.Flag) bool { return f == `\Recent` }
