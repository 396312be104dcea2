package imap

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/order"
)

const (
	maxSorting    = 128 << 20 // bytes that one SORT or THREAD may hold: a million messages need less
	maxAllSorting = 512 << 20 // and all of a server together
)

// sort answers SORT and UID SORT (RFC 5256, RFC 5957), also by ESEARCH and with SAVE (RFC 5267 section 3).
func (s *session) sort(c *call) error {
	asked, err := command.ParseSort(s.dec)
	if err != nil {
		return s.refused(&asked.Options, err)
	}
	sel, err := s.open()
	if err == nil {
		err = sel.tagTaken(c, &asked.Search)
	}
	if err != nil {
		return err
	}
	if asked.ModSeq {
		s.wantModSeqs()
	}
	s.srv.stats.searches.Add(1)
	uids, err := s.sorted(sel, asked)
	if asked.Options.ReturnSave {
		sel.saved = roaring.New()
		if err == nil {
			sel.saved = savedSorted(uids, &asked.Search)
		}
	}
	if err != nil {
		return s.answer("sort "+sel.name, err)
	}
	top := uint64(0)
	if asked.ModSeq {
		if top, err = s.highestOf(sel, savedSorted(uids, &asked.Search)); err != nil {
			return s.answer("sort "+sel.name, err)
		}
	}
	numbers := s.numbers(c, sel, uids)
	if asked.Extended {
		err := s.tellExtended(c, &asked.Search, inOrder(numbers), top)
		if asked.Update {
			s.refuseUpdate(c.tag, "Results in an order are not kept up to date")
		}
		return err
	}
	s.out.Raw("* SORT")
	for _, n := range numbers {
		s.out.SP().Num(uint64(n))
	}
	if top > 0 {
		s.out.SP().Raw("(MODSEQ ").Num(top).Raw(")")
	}
	return s.out.Line("").Err()
}

// numbers turns UIDs into what the command asked for.
func (s *session) numbers(c *call, sel *selected, uids []uint32) []uint32 {
	if c.uid {
		return uids
	}
	if !sel.view.gone.IsEmpty() {
		c.code = string(codeExpungeIssued) // as in search
	}
	for i, uid := range uids {
		uids[i] = sel.view.seq(uid)
	}
	return uids
}

// savedSorted is savedResult for messages in an order.
func savedSorted(uids []uint32, asked *command.Search) *roaring.Bitmap {
	o := &asked.Options
	if o.ReturnAll || o.ReturnCount || asked.Page == nil && !o.ReturnMin && !o.ReturnMax || len(uids) == 0 {
		return roaring.BitmapOf(uids...)
	}
	out := roaring.New()
	if o.ReturnMin {
		out.Add(uids[0])
	}
	if o.ReturnMax {
		out.Add(uids[len(uids)-1])
	}
	if asked.Page != nil {
		lo, hi := asked.Page.Bounds(int64(len(uids)))
		out.AddMany(uids[lo:hi])
	}
	return out
}

// sorted finds messages and puts them in order.
func (s *session) sorted(sel *selected, asked *command.Sort) ([]uint32, error) {
	r := s.recall(sel)
	found, err := s.find(r, asked.Key)
	if err != nil {
		return nil, err
	}
	r = r.anew()
	by := make([]*recalled, len(asked.Criteria))
	for i, c := range asked.Criteria {
		if by[i], err = r.use(sortColumn(c.Kind)); err != nil {
			return nil, err
		}
	}
	sorter, key := new(order.Sorter), []byte(nil)
	held := holding{total: &s.srv.sorting}
	defer held.release()
	err = s.eachFound(r, found, func(e *entry) error {
		var err error
		if key, err = r.sortKey(key[:0], asked.Criteria, by, e); err != nil {
			return err
		}
		sorter.Add(e.uid, key)
		return held.grow(sorter.Size())
	})
	if err != nil {
		return nil, err
	}
	return sorter.Sorted(), nil
}

// eachFound calls fn for each message of a set, with what it has in columns. A message whose content is lost has an empty summary; fn may be the first to notice, and is called again then.
func (s *session) eachFound(r *recall, found *roaring.Bitmap, fn func(*entry) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.cfg.Limits.SearchTimeout)
	defer cancel()
	r.ctx = ctx
	defer r.done()
	lines, done := new(message.Outline), uint64(0)
	err := chunks(r.present(found), r.chunkSize(0), func(some *roaring.Bitmap) error {
		list, err := r.load(some, 0)
		if err != nil {
			return err
		}
		for i, e := range list {
			if i == 0 || e.raw != nil { // what is remembered takes no time
				s.progress(done+uint64(i), found.GetCardinality())
			}
			err := s.outline(e, lines)
			if err == nil {
				err = fn(e)
			}
			if errors.Is(err, client.ErrLost) {
				e.sum, e.lost = &client.Summary{Structure: new(message.Part), HeadersComplete: true}, true
				err = fn(e)
			}
			if err != nil {
				return err
			}
			e.forget()
		}
		done += some.GetCardinality()
		return errors.Join(ctx.Err(), s.out.Err())
	})
	if err != nil && ctx.Err() != nil && s.ctx.Err() == nil {
		return no(goimap.ResponseCodeLimit, "Took too long; narrow the search down")
	}
	return err
}

// sortColumn is what a criterion is about.
func sortColumn(kind command.SortKind) column {
	switch kind {
	case command.SortArrival:
		return arrivalColumn()
	case command.SortDate:
		return sentColumn()
	case command.SortSize:
		return sizeColumn()
	}
	return textColumn(kind)
}

// sortKey appends the key of a message, by criteria whose columns are in by.
func (r *recall) sortKey(key []byte, criteria []command.Criterion, by []*recalled, e *entry) ([]byte, error) {
	for i, c := range criteria {
		v, err := r.value(by[i], e)
		if err != nil {
			return nil, err
		}
		switch c.Kind {
		case command.SortArrival, command.SortDate, command.SortSize:
			key = order.AppendNumber(key, numberOf(v), c.Reverse)
		default:
			key = order.AppendText(key, v, c.Reverse)
		}
	}
	return key, nil
}

func sortText(kind command.SortKind, v *message.Envelope) string {
	switch kind {
	case command.SortCc:
		return mailboxOf(v.Cc)
	case command.SortFrom:
		return mailboxOf(v.From)
	case command.SortTo:
		return mailboxOf(v.To)
	case command.SortDisplayFrom:
		return displayOf(v.From)
	case command.SortDisplayTo:
		return displayOf(v.To)
	}
	base, _ := order.Base(message.DecodeHeader(v.Subject))
	return base
}

// mailboxOf is the local part of the first address.
func mailboxOf(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Mailbox
}

// displayOf is the name of the first address, else the address itself; of a group, its name (RFC 5957 section 2).
func displayOf(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	a := &list[0]
	if a.Host == "" {
		return message.DecodeHeader(a.Mailbox)
	}
	if name := message.DecodeHeader(a.Name); name != "" {
		return name
	}
	return a.Mailbox + "@" + a.Host
}

// holding is the memory that a command has in use, of all that there is for its kind.
type holding struct {
	total *atomic.Int64
	mine  int64
}

// grow says how much it is now.
func (h *holding) grow(to int64) error {
	if to > maxSorting {
		return no(goimap.ResponseCodeLimit, "Too many messages to put in order; narrow the search down")
	}
	if to == h.mine {
		return nil
	}
	if all := h.total.Add(to - h.mine); all > maxAllSorting && to > h.mine {
		h.total.Add(h.mine - to)
		return no(goimap.ResponseCodeLimit, "The server is sorting for others, try again later")
	}
	h.mine = to
	return nil
}

func (h *holding) release() { h.total.Add(-h.mine) }
