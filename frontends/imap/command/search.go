package command

import (
	"math"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"

	"hongyan/frontends/imap/wire"
)

const (
	maxSearchDepth = 64 // of keys inside each other
	maxSearchKeys  = 1000
	maxSearchTexts = 16 // BODY and TEXT keys
	maxCancelled   = 64 // searches of one CANCELUPDATE
)

// KeyKind is a kind of search key.
type KeyKind uint8

// The kinds of keys (RFC 9051 section 6.4.4); others are written in terms of these.
const (
	KeyAll         KeyKind = iota
	KeyAnd                 // Keys: all of them
	KeyOr                  // Keys: one of two
	KeyNot                 // Keys: not the one
	KeySet                 // Set
	KeyFlag                // Flag
	KeyHeader              // Field, Text
	KeyBody                // Text
	KeyText                // Text
	KeyBefore              // Date, of the internal date
	KeySince               // Date
	KeySentBefore          // Date, of the Date field
	KeySentSince           // Date
	KeyLarger              // Size
	KeySmaller             // Size
	KeyModSeq              // Size: the lowest modification sequence (RFC 7162 section 3.1.5)
	KeyOlder               // Size, in seconds (RFC 5032)
	KeyYounger             // Size, in seconds
	KeyEmailID             // Text (RFC 8474)
	KeySavedBefore         // Date, of the saving in this mailbox (RFC 8514)
	KeySavedSince          // Date
)

// Key is a search key.
type Key struct {
	Kind  KeyKind
	Keys  []*Key
	Set   goimap.NumSet
	Flag  goimap.Flag
	Field string
	Text  string // in UTF-8
	Date  time.Time
	Size  int64
}

// Search is the arguments of SEARCH or UID SEARCH.
type Search struct {
	Key      *Key
	Options  goimap.SearchOptions
	Page     *Page  // the return option PARTIAL, nil if it was not given
	Extended bool   // RETURN was given: the answer is ESEARCH (RFC 4731)
	Update   bool   // the client wants to hear how the result changes (RFC 5267 section 4.3)
	Items    []Item // what to tell of new messages in it (RFC 5465 section 7)
	Charset  bool   // a charset was given
	ModSeq   bool   // there is a key MODSEQ: the answer tells the highest one
}

// searchParser counts a search's keys while it parses them.
type searchParser struct {
	d           *wire.Decoder
	charset     *encoding.Decoder // nil: UTF-8
	keys, texts int
	modseq      bool // there was a key MODSEQ
}

// ParseSearch parses SEARCH. What it read of the options is returned even with an error.
func ParseSearch(d *wire.Decoder) (*Search, error) {
	s := &Search{}
	p := &searchParser{d: d}
	if err := d.SP(); err != nil {
		return s, err
	}
	if err := s.options(d); err != nil {
		return s, err
	}
	if d.TryWord("CHARSET") {
		s.Charset = true
		name, err := spString(d)
		if err != nil {
			return s, err
		}
		if err := p.setCharset(name); err != nil {
			return s, err
		}
		if err := d.SP(); err != nil {
			return s, err
		}
	}
	var err error
	if s.Key, err = p.all(d.AtEnd); err != nil {
		return s, err
	}
	s.ModSeq = p.modseq
	return s, d.End()
}

// options takes RETURN with its options, if it is there.
func (s *Search) options(d *wire.Decoder) error {
	if d.TryWord("RETURN") {
		s.Extended = true
		if err := s.returned(d); err != nil {
			return err
		}
	}
	o := &s.Options
	if s.Page != nil && o.ReturnAll {
		return wire.Bad("ALL and PARTIAL exclude each other")
	}
	if s.Page == nil && !o.ReturnMin && !o.ReturnMax && !o.ReturnCount && !o.ReturnSave && !s.Update {
		o.ReturnAll = true
	}
	return nil
}

func (s *Search) returned(d *wire.Decoder) error {
	if err := d.SP(); err != nil {
		return err
	}
	err := d.List(func() error {
		w, err := d.Word()
		if err != nil {
			return err
		}
		switch w {
		case "MIN":
			s.Options.ReturnMin = true
		case "MAX":
			s.Options.ReturnMax = true
		case "ALL":
			s.Options.ReturnAll = true
		case "COUNT":
			s.Options.ReturnCount = true
		case "PARTIAL":
			return s.partialOption(d)
		case "SAVE":
			s.Options.ReturnSave = true
		case "CONTEXT": // nothing is kept for later
		case "UPDATE":
			if s.Update {
				return wire.Bad("More than one UPDATE")
			}
			s.Update = true
			s.Items, err = fetchItems(d)
			return err
		default:
			return wire.Bad("Unknown return option " + w)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.SP()
}

// CancelUpdate parses CANCELUPDATE: the tags of searches (RFC 5267 section 4.3.5).
func CancelUpdate(d *wire.Decoder) (tags []string, err error) {
	for {
		if err := d.SP(); err != nil {
			return nil, err
		}
		if len(tags) == maxCancelled {
			return nil, wire.Limit("Too many tags")
		}
		tag, err := d.String()
		if err != nil {
			return nil, err
		}
		if tags = append(tags, string(tag)); d.AtEnd() {
			return tags, nil
		}
	}
}

func (p *searchParser) setCharset(name string) error {
	if strings.ToUpper(name) == "UTF-8" || strings.ToUpper(name) == "US-ASCII" {
		return nil
	}
	enc, err := htmlindex.Get(name)
	switch {
	case err != nil || enc == encoding.Replacement:
		return wire.No(goimap.ResponseCodeBadCharset, "Charset not supported") // RFC 9051 section 6.4.4
	case enc != unicode.UTF8: // of which there are other names
		p.charset = enc.NewDecoder()
	}
	return nil
}

// all takes keys up to an end, and joins them. A space in front of that is forgiven, as everywhere.
func (p *searchParser) all(end func() bool) (*Key, error) {
	and := &Key{Kind: KeyAnd}
	for {
		k, err := p.key(0)
		if err != nil {
			return nil, err
		}
		and.Keys = append(and.Keys, k)
		if end() || !p.d.Try(' ') || end() {
			return and, nil
		}
	}
}

// key takes one key.
func (p *searchParser) key(depth int) (*Key, error) {
	if p.keys++; p.keys > maxSearchKeys || depth > maxSearchDepth {
		return nil, wire.Limit("Search too complex")
	}
	switch c := p.d.Peek(); {
	case c == '(':
		and := &Key{Kind: KeyAnd}
		err := p.d.List(func() error {
			k, err := p.key(depth + 1)
			and.Keys = append(and.Keys, k)
			return err
		})
		if err == nil && len(and.Keys) == 0 {
			err = wire.Bad("Expected a search key")
		}
		return and, err
	case c == '*' || c == '$' || c >= '0' && c <= '9':
		set, err := p.d.SeqSet()
		return &Key{Kind: KeySet, Set: set}, err
	}
	word, err := p.d.Word()
	if err != nil {
		return nil, wire.Bad("Expected a search key")
	}
	switch word {
	case "NOT":
		k, err := p.next(depth)
		return not(k), err
	case "OR":
		a, err := p.next(depth)
		if err != nil {
			return nil, err
		}
		b, err := p.next(depth)
		return &Key{Kind: KeyOr, Keys: []*Key{a, b}}, err
	}
	if k := bare(word); k != nil {
		return k, nil
	}
	if err := p.d.SP(); err != nil {
		return nil, wire.Bad("Unknown search key " + word)
	}
	return p.argument(word)
}

func (p *searchParser) next(depth int) (*Key, error) {
	if err := p.d.SP(); err != nil {
		return nil, err
	}
	return p.key(depth + 1)
}

func not(k *Key) *Key { return &Key{Kind: KeyNot, Keys: []*Key{k}} }

func flag(f goimap.Flag) *Key { return &Key{Kind: KeyFlag, Flag: f} }

const FlagRecent goimap.Flag = `\Recent`

// bare is the key of a word that takes no argument, nil if there is none.
func bare(word string) *Key {
	switch word {
	case "ALL", "SAVEDATESUPPORTED":
		return &Key{Kind: KeyAll}
	case "ANSWERED":
		return flag(goimap.FlagAnswered)
	case "DELETED":
		return flag(goimap.FlagDeleted)
	case "DRAFT":
		return flag(goimap.FlagDraft)
	case "FLAGGED":
		return flag(goimap.FlagFlagged)
	case "SEEN":
		return flag(goimap.FlagSeen)
	case "RECENT":
		return flag(FlagRecent)
	case "UNANSWERED":
		return not(flag(goimap.FlagAnswered))
	case "UNDELETED":
		return not(flag(goimap.FlagDeleted))
	case "UNDRAFT":
		return not(flag(goimap.FlagDraft))
	case "UNFLAGGED":
		return not(flag(goimap.FlagFlagged))
	case "UNSEEN":
		return not(flag(goimap.FlagSeen))
	case "OLD":
		return not(flag(FlagRecent))
	case "NEW":
		return &Key{Kind: KeyAnd, Keys: []*Key{flag(FlagRecent), not(flag(goimap.FlagSeen))}}
	}
	return nil
}

// argument takes the argument of a key, behind the space.
func (p *searchParser) argument(word string) (*Key, error) {
	switch word {
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		text, err := p.text()
		return &Key{Kind: KeyHeader, Field: word, Text: text}, err
	case "HEADER":
		field, err := p.d.AString()
		if err != nil {
			return nil, err
		}
		k := &Key{Kind: KeyHeader, Field: string(field)}
		if err := p.d.SP(); err != nil {
			return nil, err
		}
		k.Text, err = p.text()
		return k, err
	case "BODY", "TEXT":
		k := &Key{Kind: KeyBody}
		if word == "TEXT" {
			k.Kind = KeyText
		}
		if p.texts++; p.texts > maxSearchTexts {
			return nil, wire.Limit("Search too complex")
		}
		var err error
		k.Text, err = p.text()
		return k, err
	case "KEYWORD", "UNKEYWORD":
		f, err := p.d.Atom()
		k := flag(goimap.Flag(f))
		if word == "UNKEYWORD" {
			k = not(k)
		}
		return k, err
	case "UID":
		set, err := p.d.UIDSet()
		return &Key{Kind: KeySet, Set: set}, err
	case "LARGER", "SMALLER":
		n, err := p.d.Number()
		k := &Key{Kind: KeyLarger, Size: n}
		if word == "SMALLER" {
			k.Kind = KeySmaller
		}
		return k, err
	case "OLDER", "YOUNGER", "EMAILID", "THREADID":
		return p.extra(word)
	}
	if word == "MODSEQ" {
		return p.modSeq()
	}
	return p.date(word)
}

// date takes the argument of a key that compares dates.
func (p *searchParser) date(word string) (*Key, error) {
	before, since := KeyBefore, KeySince
	switch word {
	case "BEFORE", "SINCE", "ON":
	case "SENTBEFORE", "SENTSINCE", "SENTON":
		before, since = KeySentBefore, KeySentSince
	case "SAVEDBEFORE", "SAVEDSINCE", "SAVEDON":
		before, since = KeySavedBefore, KeySavedSince
	default:
		return nil, wire.Bad("Unknown search key " + word)
	}
	t, err := p.d.Date()
	if err != nil {
		return nil, err
	}
	switch word {
	case "BEFORE", "SENTBEFORE", "SAVEDBEFORE":
		return &Key{Kind: before, Date: t}, nil
	case "SINCE", "SENTSINCE", "SAVEDSINCE":
		return &Key{Kind: since, Date: t}, nil
	}
	return &Key{Kind: KeyAnd, Keys: []*Key{{Kind: since, Date: t}, {Kind: before, Date: t.AddDate(0, 0, 1)}}}, nil
}

// text takes a text to search for.
func (p *searchParser) text() (string, error) {
	raw, err := p.d.AString()
	if err != nil || p.charset == nil {
		return string(raw), err
	}
	out, err := p.charset.Bytes(raw)
	if err != nil || len(out) > math.MaxUint16 {
		return "", wire.Bad("Text is not in the charset given")
	}
	return string(out), nil
}
