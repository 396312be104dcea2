package command

import (
	"hongyan/frontends/imap/wire"
)

const maxObjectID = 255 // RFC 8474 section 7

// extra takes the argument of a key of WITHIN or OBJECTID.
func (p *searchParser) extra(word string) (*Key, error) {
	switch word {
	case "OLDER", "YOUNGER":
		n, err := p.d.Number()
		if err == nil && n == 0 {
			err = wire.Bad("An interval of no seconds")
		}
		k := &Key{Kind: KeyOlder, Size: n}
		if word == "YOUNGER" {
			k.Kind = KeyYounger
		}
		return k, err
	}
	id, err := p.d.Atom()
	if err == nil && !objectID(id) {
		err = wire.Bad("Bad object id")
	}
	if word == "THREADID" {
		return not(&Key{Kind: KeyAll}), err // no message has one here
	}
	return &Key{Kind: KeyEmailID, Text: id}, err
}

// objectID says whether s can be an object id.
func objectID(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(s) <= maxObjectID
}

// previewModifiers takes what may follow PREVIEW in parentheses. LAZY changes nothing: a preview is made from the first bytes of one part.
func previewModifiers(d *wire.Decoder) error {
	if !d.TryAll(" (") {
		return nil
	}
	for {
		w, err := d.Word()
		if err != nil {
			return err
		}
		if w != "LAZY" {
			return wire.Bad("Unknown modifier of PREVIEW " + w)
		}
		if d.Try(')') {
			return nil
		}
		if err := d.SP(); err != nil {
			return err
		}
	}
}
