package imap

import (
	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/frontends/imap/command"
)

// pageOf is a page of a result in ascending order (RFC 9394).
func pageOf(all *roaring.Bitmap, p *command.Page) *roaring.Bitmap {
	out := roaring.New()
	lo, hi := p.Bounds(int64(all.GetCardinality()))
	if lo >= hi {
		return out
	}
	first, err := all.Select(uint32(lo))
	if err != nil {
		return out // Bounds are within the set
	}
	last, err := all.Select(uint32(hi - 1))
	if err != nil {
		return out
	}
	out.AddRange(uint64(first), uint64(last)+1)
	out.And(all)
	return out
}

// tellPage writes a page of a result: its numbers as a set, "" where there are none.
func (s *session) tellPage(p *command.Page, set string) {
	if set == "" {
		set = "NIL"
	}
	s.out.Raw(" PARTIAL (").Raw(p.String()).SP().Raw(set).Raw(")")
}
