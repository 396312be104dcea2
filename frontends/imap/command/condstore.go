package command

import (
	"math"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

// Select is the arguments of SELECT or EXAMINE.
type Select struct {
	Mailbox   string
	CondStore bool
	Resync    *Resync // nil without QRESYNC
}

// Resync is what a client remembers of a mailbox (RFC 7162 section 3.2.5). The pairs of numbers and UIDs that it may add are
// for servers that forget what was expunged; they are checked and dropped.
type Resync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       goimap.UIDSet // UIDs that the client has; nil: it does not say
}

// ParseSelect parses SELECT or EXAMINE, with parameters (RFC 4466).
func ParseSelect(d *wire.Decoder) (*Select, error) {
	s := new(Select)
	var err error
	if s.Mailbox, err = spMailbox(d); err != nil {
		return nil, err
	}
	if err := modifiers(d, s.parameter); err != nil {
		return nil, err
	}
	return s, d.End()
}

// modifiers takes what may follow in parentheses at the end of a command, if it does.
func modifiers(d *wire.Decoder, one func(d *wire.Decoder) error) error {
	if d.AtEnd() || !d.Try(' ') || d.AtEnd() {
		return nil
	}
	n := 0
	err := d.List(func() error { n++; return one(d) })
	if err == nil && n == 0 {
		err = wire.Bad("Expected a parameter")
	}
	return err
}

func (s *Select) parameter(d *wire.Decoder) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch {
	case w == "CONDSTORE":
		s.CondStore = true
		return nil
	case w == "QRESYNC" && s.Resync == nil:
		if err := d.SP(); err != nil {
			return err
		}
		s.Resync, err = resync(d)
		return err
	}
	return wire.Bad("Unknown parameter " + w)
}

// resync takes the argument of QRESYNC.
func resync(d *wire.Decoder) (*Resync, error) {
	r, n, last := new(Resync), 0, false
	err := d.List(func() (err error) {
		switch n++; {
		case last:
			err = wire.Bad("Unexpected argument of QRESYNC")
		case n == 1:
			r.UIDValidity, err = uidValidity(d)
		case n == 2:
			r.ModSeq, err = modSeq(d, 1)
		case d.Peek() == '(':
			last = true
			err = matchData(d)
		case n == 3:
			r.Known, err = knownUIDs(d)
		default:
			err = wire.Bad("Unexpected argument of QRESYNC")
		}
		return err
	})
	if err == nil && n < 2 {
		err = wire.Bad("QRESYNC needs a UIDVALIDITY and a modification sequence")
	}
	return r, err
}

func uidValidity(d *wire.Decoder) (uint32, error) {
	n, err := d.Number()
	if err == nil && (n == 0 || n > math.MaxUint32) {
		err = wire.Bad("Bad UIDVALIDITY")
	}
	return uint32(n), err
}

// modSeq takes a modification sequence, which is at least low.
func modSeq(d *wire.Decoder, low int64) (uint64, error) {
	n, err := d.Number()
	if err == nil && n < low {
		err = wire.Bad("A modification sequence starts at 1")
	}
	return uint64(n), err
}

// knownUIDs takes a set of UIDs that the client has seen, so without "*" and "$".
func knownUIDs(d *wire.Decoder) (goimap.UIDSet, error) {
	set, err := d.UIDSet()
	if err != nil {
		return nil, err
	}
	if goimap.IsSearchRes(set) {
		return nil, wire.Bad("Known UIDs are numbers")
	}
	for _, r := range set {
		if r.Start == 0 || r.Stop == 0 {
			return nil, wire.Bad("Known UIDs are numbers")
		}
	}
	return set, nil
}

// matchData takes the pairs of sequence numbers and UIDs, of which there must be as many.
func matchData(d *wire.Decoder) error {
	var count [2]uint64
	n := 0
	err := d.List(func() error {
		if n == len(count) {
			return wire.Bad("Expected two sets")
		}
		set, err := knownUIDs(d)
		for _, r := range set {
			count[n] += uint64(r.Stop-r.Start) + 1
		}
		n++
		return err
	})
	if err == nil && (n != len(count) || count[0] != count[1]) {
		err = wire.Bad("Expected two sets of one size")
	}
	return err
}

// modifier takes a modifier of FETCH (RFC 7162 sections 3.1.4.1 and 3.2.6, RFC 9394).
func (f *Fetch) modifier(d *wire.Decoder) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch w {
	case "CHANGEDSINCE":
		if err := d.SP(); err != nil {
			return err
		}
		f.Changed = true
		f.Since, err = modSeq(d, 0)
		return err
	case "VANISHED":
		f.Vanished = true
		return nil
	case "PARTIAL":
		if err := d.SP(); err != nil {
			return err
		}
		f.Page, err = page(d)
		return err
	}
	return wire.Bad("Unknown modifier " + w)
}

// modSeq takes the argument of the search key MODSEQ. Every kind of metadata has the message's one modification sequence, so
// which of them is meant does not matter.
func (p *searchParser) modSeq() (*Key, error) {
	p.modseq = true
	if p.d.AtLiteral() || p.d.Peek() == '"' {
		if _, err := p.d.String(); err != nil {
			return nil, err
		}
		if err := p.d.SP(); err != nil {
			return nil, err
		}
		switch w, _ := p.d.Word(); w {
		case "PRIV", "SHARED", "ALL":
		default:
			return nil, wire.Bad("Expected priv, shared or all")
		}
		if err := p.d.SP(); err != nil {
			return nil, err
		}
	}
	n, err := p.d.Number()
	return &Key{Kind: KeyModSeq, Size: n}, err
}
