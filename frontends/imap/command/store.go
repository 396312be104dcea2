package command

import (
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

// Store is the arguments of STORE or UID STORE.
type Store struct {
	goimap.StoreFlags
	Set         goimap.NumSet
	Conditional bool // only messages that did not change after Since
	Since       uint64
}

// ParseStore parses STORE or, with uid, UID STORE.
func ParseStore(d *wire.Decoder, uid bool) (*Store, error) {
	s := new(Store)
	var err error
	if s.Set, err = numSet(d, uid); err != nil {
		return nil, err
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.Peek() == '(' {
		if err := d.List(func() error { return s.modifier(d) }); err != nil {
			return nil, err
		}
		if err := d.SP(); err != nil {
			return nil, err
		}
	}
	switch {
	case d.Try('+'):
		s.Op = goimap.StoreFlagsAdd
	case d.Try('-'):
		s.Op = goimap.StoreFlagsDel
	}
	switch w, _ := d.Word(); w {
	case "FLAGS":
	case "FLAGS.SILENT":
		s.Silent = true
	default:
		return nil, wire.Bad("Unknown STORE data item")
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	if s.Flags, err = storedFlags(d); err != nil {
		return nil, err
	}
	return s, d.End()
}

// storedFlags takes flags in parentheses or without.
func storedFlags(d *wire.Decoder) ([]goimap.Flag, error) {
	if d.Peek() == '(' {
		return d.Flags()
	}
	var flags []goimap.Flag
	for {
		f, err := d.Flag()
		if err != nil {
			return nil, err
		}
		if flags = append(flags, f); !d.Try(' ') {
			return flags, nil
		}
	}
}

// modifier takes the modifier of STORE (RFC 7162 section 3.1.3).
func (s *Store) modifier(d *wire.Decoder) error {
	if !d.TryWord("UNCHANGEDSINCE") {
		return wire.Bad("Unknown modifier of STORE")
	}
	if err := d.SP(); err != nil {
		return err
	}
	var err error
	s.Conditional = true
	s.Since, err = modSeq(d, 0)
	return err
}
