package command

import (
	"math"
	"strconv"

	"hongyan/frontends/imap/wire"
)

// Page is a range of a result's positions (RFC 9394): from 1, or with Last from its end, where 1 is the last.
type Page struct {
	From, To int64 // From is not larger
	Last     bool
	text     string
}

// String is the range as it is told, the smaller number first: 4:2 is the same as 2:4, and clients are used to hear that (imaptest).
func (p *Page) String() string { return p.text }

// Bounds are the positions in a result of n, from 0: those from lo up to but without hi. They are equal where the page has none.
func (p *Page) Bounds(n int64) (lo, hi int64) {
	lo, hi = min(p.From-1, n), min(p.To, n)
	if p.Last {
		lo, hi = n-hi, n-lo
	}
	return lo, hi
}

// page takes a range.
func page(d *wire.Decoder) (*Page, error) {
	sign := ""
	if d.Try('-') {
		sign = "-"
	}
	from, err := d.Number()
	if err != nil {
		return nil, err
	}
	if err := d.Expect(':'); err != nil {
		return nil, err
	}
	if sign != "" {
		if err := d.Expect('-'); err != nil {
			return nil, err
		}
	}
	to, err := d.Number()
	if err != nil {
		return nil, err
	}
	if min(from, to) < 1 || max(from, to) > math.MaxUint32 {
		return nil, wire.Bad("Bad range of PARTIAL")
	}
	from, to = min(from, to), max(from, to)
	text := sign + strconv.FormatInt(from, 10) + ":" + sign + strconv.FormatInt(to, 10)
	return &Page{From: from, To: to, Last: sign != "", text: text}, nil
}

// partialOption takes the range of the return option PARTIAL.
func (s *Search) partialOption(d *wire.Decoder) (err error) {
	if s.Page != nil {
		return wire.Bad("More than one PARTIAL")
	}
	if err := d.SP(); err != nil {
		return err
	}
	s.Page, err = page(d)
	return err
}
