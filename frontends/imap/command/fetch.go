package command

import (
	"strconv"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

const (
	maxItems = 5000 // of one FETCH
	maxPath  = 100  // part numbers of a section
	maxNames = 200  // header fields of a section
)

// ItemKind is a kind of thing that FETCH can tell of a message.
type ItemKind uint8

// The kinds of RFC 9051 section 6.4.5 and RFC 7162. Those that need a message's bytes come last.
const (
	ItemFlags ItemKind = iota
	ItemUID
	ItemInternalDate
	ItemSize
	ItemEnvelope
	ItemBody          // the structure, without what is optional
	ItemBodyStructure // with it
	ItemModSeq
	ItemEmailID // RFC 8474
	ItemThreadID
	ItemSaveDate // RFC 8514
	ItemSection  // bytes
	ItemBinary   // bytes, without their transfer encoding
	ItemBinarySize
	ItemPreview // RFC 8970
)

// Item is one thing that FETCH is to tell. Label is its name in the response; Section says which bytes.
type Item struct {
	Kind    ItemKind
	Label   string
	Section goimap.FetchItemBodySection
}

// Fetch is the arguments of FETCH or UID FETCH.
type Fetch struct {
	Set      goimap.NumSet
	Items    []Item
	Changed  bool // only messages that changed after Since
	Since    uint64
	Vanished bool  // and which vanished
	Page     *Page // of Set, for UID FETCH; nil is all (RFC 9394)
}

// Has says whether an item of a kind is asked for.
func (f *Fetch) Has(kind ItemKind) bool {
	for i := range f.Items {
		if f.Items[i].Kind == kind {
			return true
		}
	}
	return false
}

// numSet takes a space and a set of sequence numbers or UIDs.
func numSet(d *wire.Decoder, uid bool) (goimap.NumSet, error) {
	if err := d.SP(); err != nil {
		return nil, err
	}
	if uid {
		return d.UIDSet()
	}
	return d.SeqSet()
}

// ParseFetch parses FETCH or, with uid, UID FETCH.
func ParseFetch(d *wire.Decoder, uid bool) (*Fetch, error) {
	f := new(Fetch)
	var err error
	if f.Set, err = numSet(d, uid); err != nil {
		return nil, err
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.Peek() == '(' {
		if err := d.List(func() error { return f.item(d) }); err != nil {
			return nil, err
		}
	} else if err := f.macro(d); err != nil {
		return nil, err
	}
	if len(f.Items) == 0 {
		return nil, wire.Bad("Expected a FETCH data item")
	}
	if err := modifiers(d, f.modifier); err != nil {
		return nil, err
	}
	if f.Vanished && !(f.Changed && uid) {
		return nil, wire.Bad("VANISHED needs UID FETCH and CHANGEDSINCE")
	}
	if f.Page != nil && !uid {
		return nil, wire.Bad("PARTIAL needs UID FETCH")
	}
	if f.Changed && !f.Has(ItemModSeq) {
		f.Items = append(f.Items, Simple(ItemModSeq)...)
	}
	return f, d.End()
}

// macro takes what may stand without parentheses.
func (f *Fetch) macro(d *wire.Decoder) error {
	switch {
	case d.TryWord("ALL"):
		f.Items = Simple(ItemFlags, ItemInternalDate, ItemSize, ItemEnvelope)
	case d.TryWord("FAST"):
		f.Items = Simple(ItemFlags, ItemInternalDate, ItemSize)
	case d.TryWord("FULL"):
		f.Items = Simple(ItemFlags, ItemInternalDate, ItemSize, ItemEnvelope, ItemBody)
	default:
		return f.item(d)
	}
	return nil
}

// Simple are items without a section.
func Simple(kinds ...ItemKind) (items []Item) {
	for _, k := range kinds {
		items = append(items, Item{Kind: k, Label: kindName(k)})
	}
	return items
}

func kindName(k ItemKind) string {
	return [...]string{"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ", "EMAILID", "THREADID", "SAVEDATE", "BODY", "BINARY", "BINARY.SIZE", "PREVIEW"}[k]
}

// item takes one item.
func (f *Fetch) item(d *wire.Decoder) error {
	if len(f.Items) == maxItems {
		return wire.Limit("Too many FETCH data items")
	}
	w, err := d.Word()
	if err != nil {
		return err
	}
	it := Item{}
	switch w {
	case "FLAGS":
		it.Kind = ItemFlags
	case "UID":
		it.Kind = ItemUID
	case "INTERNALDATE":
		it.Kind = ItemInternalDate
	case "RFC822.SIZE":
		it.Kind = ItemSize
	case "ENVELOPE":
		it.Kind = ItemEnvelope
	case "BODYSTRUCTURE":
		it.Kind = ItemBodyStructure
	case "MODSEQ":
		it.Kind = ItemModSeq
	case "EMAILID":
		it.Kind = ItemEmailID
	case "THREADID":
		it.Kind = ItemThreadID
	case "SAVEDATE":
		it.Kind = ItemSaveDate
	case "PREVIEW":
		it.Kind, it.Section.Peek = ItemPreview, true
		if err := previewModifiers(d); err != nil {
			return err
		}
	case "RFC822", "RFC822.PEEK", "RFC822.HEADER", "RFC822.TEXT":
		it = old(w)
	case "BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		if w == "BODY" && d.Peek() != '[' {
			it.Kind = ItemBody
			break
		}
		if it, err = section(d, w); err != nil {
			return err
		}
	default:
		return wire.Bad("Unknown FETCH data item " + w)
	}
	if it.Label == "" {
		it.Label = kindName(it.Kind)
	}
	f.Items = append(f.Items, it)
	return nil
}

// old makes the items of RFC 3501 that BODY[…] replaced.
func old(word string) Item {
	it := Item{Kind: ItemSection, Label: word}
	switch word {
	case "RFC822.PEEK":
		it.Label, it.Section.Peek = "RFC822", true
	case "RFC822.HEADER":
		it.Section.Specifier, it.Section.Peek = goimap.PartSpecifierHeader, true
	case "RFC822.TEXT":
		it.Section.Specifier = goimap.PartSpecifierText
	}
	return it
}

// section takes what follows BODY or BINARY in an item.
func section(d *wire.Decoder, word string) (Item, error) {
	base, peek := strings.CutSuffix(word, ".PEEK")
	it := Item{Kind: ItemSection}
	switch base {
	case "BINARY":
		it.Kind = ItemBinary
	case "BINARY.SIZE":
		it.Kind = ItemBinarySize
	}
	it.Section.Peek = peek
	var label strings.Builder
	label.WriteString(base + "[")
	if err := d.Expect('['); err != nil {
		return it, err
	}
	if err := path(d, &it, &label); err != nil {
		return it, err
	}
	if err := d.Expect(']'); err != nil {
		return it, err
	}
	label.WriteByte(']')
	if it.Kind != ItemBinarySize && d.Peek() == '<' {
		if err := partial(d, &it, &label); err != nil {
			return it, err
		}
	}
	it.Label = label.String()
	return it, nil
}

// path takes the part numbers and the specifier of a section.
func path(d *wire.Decoder, it *Item, label *strings.Builder) error {
	for c := d.Peek(); c >= '0' && c <= '9'; c = d.Peek() {
		n, err := d.Number()
		if err != nil || n == 0 || n > 1<<31-1 {
			return wire.Bad("Bad part number")
		}
		if it.Section.Part = append(it.Section.Part, int(n)); len(it.Section.Part) > maxPath {
			return wire.Limit("Part nested too deep")
		}
		label.WriteString(strconv.FormatInt(n, 10))
		if !d.Try('.') {
			return nil
		}
		label.WriteByte('.')
	}
	if d.Peek() == ']' && len(it.Section.Part) == 0 {
		return nil
	}
	w, err := d.Word()
	if err != nil {
		return wire.Bad("Bad section")
	}
	if it.Kind != ItemSection {
		return wire.Bad("BINARY takes part numbers only")
	}
	label.WriteString(w)
	switch w {
	case "HEADER", "TEXT":
		it.Section.Specifier = goimap.PartSpecifier(w)
	case "MIME":
		it.Section.Specifier = goimap.PartSpecifierMIME
		if len(it.Section.Part) == 0 {
			return wire.Bad("MIME needs a part number")
		}
	case "HEADER.FIELDS":
		it.Section.Specifier = goimap.PartSpecifierHeader
		it.Section.HeaderFields, err = fieldNames(d, label)
	case "HEADER.FIELDS.NOT":
		it.Section.Specifier = goimap.PartSpecifierHeader
		it.Section.HeaderFieldsNot, err = fieldNames(d, label)
	default:
		return wire.Bad("Unknown section " + w)
	}
	return err
}

// fieldNames takes a list of header fields.
func fieldNames(d *wire.Decoder, label *strings.Builder) (names []string, err error) {
	if err := d.SP(); err != nil {
		return nil, err
	}
	label.WriteString(" (")
	err = d.List(func() error {
		raw, err := d.AString()
		if err != nil {
			return err
		}
		name := string(raw)
		if !fieldName(name) {
			return wire.Bad("Bad name of a header field")
		}
		if len(names) > 0 {
			label.WriteByte(' ')
		}
		if wire.IsAtom(name) {
			label.WriteString(name)
		} else {
			label.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`)
		}
		if names = append(names, name); len(names) > maxNames {
			return wire.Limit("Too many header fields")
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = wire.Bad("Expected the name of a header field")
	}
	label.WriteByte(')')
	return names, err
}

// fieldName says whether s can be the name of a header field (RFC 5322 section 3.6.8), or is close enough to be answered for.
func fieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}

// partial takes "<offset.size>".
func partial(d *wire.Decoder, it *Item, label *strings.Builder) error {
	d.Try('<')
	off, err := d.Number()
	if err != nil {
		return err
	}
	if err := d.Expect('.'); err != nil {
		return err
	}
	size, err := d.Number()
	if err != nil {
		return err
	}
	if size == 0 {
		return wire.Bad("A partial section of no octets")
	}
	it.Section.Partial = &goimap.SectionPartial{Offset: off, Size: size}
	label.WriteString("<" + strconv.FormatInt(off, 10) + ">")
	return d.Expect('>')
}

// Copy parses COPY or MOVE or, with uid, their UID forms.
func Copy(d *wire.Decoder, uid bool) (set goimap.NumSet, mailbox string, err error) {
	if set, err = numSet(d, uid); err != nil {
		return nil, "", err
	}
	if mailbox, err = spMailbox(d); err != nil {
		return nil, "", err
	}
	return set, mailbox, d.End()
}

// UIDs parses a command whose only argument is a set of UIDs.
func UIDs(d *wire.Decoder) (goimap.UIDSet, error) {
	if err := d.SP(); err != nil {
		return nil, err
	}
	set, err := d.UIDSet()
	if err != nil {
		return nil, err
	}
	return set, d.End()
}
