package imap

import (
	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/command"
)

// result is the numbers that a SEARCH or a SORT found, as ESEARCH can tell them (RFC 4731, RFC 5267). Sets are made when they are asked for.
type result struct {
	count       uint64
	first, last uint32 // MIN and MAX, where there are any
	all         func() goimap.NumSet
	page        func(*command.Page) goimap.NumSet
}

// inSet is a result without an order, of messages of the view. numbers makes what the client counts in of their UIDs, for those alone that are told: to count a
// million matches must not cost their sequence numbers.
func inSet(uids *roaring.Bitmap, numbers func(*roaring.Bitmap) *roaring.Bitmap) result {
	r := result{count: uids.GetCardinality(),
		all:  func() goimap.NumSet { return seqSet(numbers(uids)) },
		page: func(p *command.Page) goimap.NumSet { return seqSet(numbers(pageOf(uids, p))) },
	}
	if r.count > 0 {
		r.first = numbers(roaring.BitmapOf(uids.Minimum())).Minimum()
		r.last = numbers(roaring.BitmapOf(uids.Maximum())).Maximum()
	}
	return r
}

// inOrder is one with an order, of which MIN and MAX are the first and the last.
func inOrder(numbers []uint32) result {
	r := result{count: uint64(len(numbers)),
		all: func() goimap.NumSet { return uidList(numbers) },
		page: func(p *command.Page) goimap.NumSet {
			lo, hi := p.Bounds(int64(len(numbers)))
			return uidList(numbers[lo:hi])
		},
	}
	if r.count > 0 {
		r.first, r.last = numbers[0], numbers[len(numbers)-1]
	}
	return r
}

// tellExtended answers by ESEARCH; top is the modseq to tell, 0: none. A client that only has the result saved is not told it.
func (s *session) tellExtended(c *call, asked *command.Search, r result, top uint64) error {
	o := &asked.Options
	if o.ReturnSave && asked.Page == nil && !o.ReturnAll && !o.ReturnMin && !o.ReturnMax && !o.ReturnCount {
		return nil
	}
	out := s.out
	out.Raw("* ESEARCH (TAG ").String(c.tag).Raw(")")
	if c.uid {
		out.Raw(" UID")
	}
	if r.count > 0 {
		if o.ReturnAll {
			out.Raw(" ALL ").Set(r.all())
		}
		if o.ReturnMin {
			out.Raw(" MIN ").Num(uint64(r.first))
		}
		if o.ReturnMax {
			out.Raw(" MAX ").Num(uint64(r.last))
		}
	}
	if o.ReturnCount {
		out.Raw(" COUNT ").Num(r.count)
	}
	if asked.Page != nil {
		s.tellPage(asked.Page, r.page(asked.Page).String())
	}
	if top > 0 {
		out.Raw(" MODSEQ ").Num(top)
	}
	return out.Line("").Err()
}
