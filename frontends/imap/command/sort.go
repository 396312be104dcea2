package command

import (
	"strings"

	"hongyan/frontends/imap/wire"
)

const maxCriteria = 16 // of one SORT

// SortKind is what SORT goes by.
type SortKind uint8

// The criteria of RFC 5256 section 3 and RFC 5957.
const (
	SortArrival SortKind = iota
	SortCc
	SortDate
	SortDisplayFrom
	SortDisplayTo
	SortFrom
	SortSize
	SortSubject
	SortTo
)

// Criterion is one of those that SORT goes by, one after the other.
type Criterion struct {
	Kind    SortKind
	Reverse bool
}

// Sort is the arguments of SORT or UID SORT.
type Sort struct {
	Search
	Criteria []Criterion
}

// ParseSort parses SORT, also with RETURN (RFC 5256 section 3, RFC 5267 section 3). What it read of the options is returned even with
// an error.
func ParseSort(d *wire.Decoder) (*Sort, error) {
	s := &Sort{}
	if err := d.SP(); err != nil {
		return s, err
	}
	if err := s.options(d); err != nil {
		return s, err
	}
	if err := d.List(func() error { return s.criterion(d) }); err != nil {
		return s, err
	}
	if len(s.Criteria) == 0 {
		return s, wire.Bad("Expected a sort criterion")
	}
	var err error
	s.Key, s.ModSeq, err = program(d)
	return s, err
}

func (s *Sort) criterion(d *wire.Decoder) error {
	if len(s.Criteria) == maxCriteria {
		return wire.Limit("Too many sort criteria")
	}
	var c Criterion
	w, err := d.Word()
	if err == nil && w == "REVERSE" {
		c.Reverse = true
		if err = d.SP(); err == nil {
			w, err = d.Word()
		}
	}
	if err != nil {
		return err
	}
	kinds := [...]string{"ARRIVAL", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO", "FROM", "SIZE", "SUBJECT", "TO"}
	for kind, name := range kinds {
		if w == name {
			c.Kind = SortKind(kind)
			s.Criteria = append(s.Criteria, c)
			return nil
		}
	}
	return wire.Bad("Unknown sort criterion " + w)
}

// Algorithm is how THREAD makes threads.
type Algorithm string

// The algorithms of RFC 5256 section 3.
const (
	OrderedSubject Algorithm = "ORDEREDSUBJECT"
	References     Algorithm = "REFERENCES"
)

// Thread is the arguments of THREAD or UID THREAD.
type Thread struct {
	Algorithm Algorithm
	Key       *Key
}

// ParseThread parses THREAD.
func ParseThread(d *wire.Decoder) (*Thread, error) {
	if err := d.SP(); err != nil {
		return nil, err
	}
	name, err := d.Atom()
	if err != nil {
		return nil, err
	}
	t := &Thread{Algorithm: Algorithm(strings.ToUpper(name))}
	if t.Algorithm != OrderedSubject && t.Algorithm != References {
		return nil, wire.Bad("Unknown threading algorithm")
	}
	t.Key, _, err = program(d)
	return t, err
}

// program takes the charset, which is not left out here, and the keys up to the command's end; modseq says that MODSEQ is among them.
func program(d *wire.Decoder) (key *Key, modseq bool, err error) {
	charset, err := spString(d)
	if err != nil {
		return nil, false, err
	}
	p := &searchParser{d: d}
	if err := p.setCharset(charset); err != nil {
		return nil, false, err
	}
	if err := d.SP(); err != nil {
		return nil, false, err
	}
	if key, err = p.all(d.AtEnd); err != nil {
		return nil, false, err
	}
	return key, p.modseq, d.End()
}
