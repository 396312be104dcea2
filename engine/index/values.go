package index

import (
	"encoding/binary"
	"errors"
	"math"

	"hongyan/engine/volume"
)

// valueVersion opens every value. A newer node that changes a value's shape raises it for that value
// and still reads the older one.
const valueVersion = 1

var (
	errShort    = errors.New("value ends early")
	errTrailing = errors.New("value has bytes after its end")
	errVersion  = errors.New("value of an unknown version")
	errRange    = errors.New("value out of range")
)

// parser takes a value apart. After its first error it yields zeros.
type parser struct {
	rest []byte
	err  error
}

// parse starts with the version byte.
func parse(b []byte) *parser {
	p := &parser{rest: b}
	if v := p.byte(); p.err == nil && v != valueVersion {
		p.err = errVersion
	}
	return p
}

func (p *parser) take(n uint64) []byte {
	if p.err != nil {
		return nil
	}
	if n > uint64(len(p.rest)) {
		p.err = errShort
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// uvarint takes a number of at most limit.
func (p *parser) uvarint(limit uint64) uint64 {
	if p.err != nil {
		return 0
	}
	v, n := binary.Uvarint(p.rest)
	switch {
	case n == 0:
		p.err = errShort
	case n < 0 || v > limit:
		p.err = errRange
	default:
		p.rest = p.rest[n:]
		return v
	}
	return 0
}

func (p *parser) uint32() uint32 { return uint32(p.uvarint(math.MaxUint32)) }

func (p *parser) varint() int64 {
	if p.err != nil {
		return 0
	}
	v, n := binary.Varint(p.rest)
	switch {
	case n == 0:
		p.err = errShort
	case n < 0:
		p.err = errRange
	default:
		p.rest = p.rest[n:]
		return v
	}
	return 0
}

func (p *parser) text(limit uint64) string { return string(p.take(p.uvarint(limit))) }

// end is the parser's verdict once everything was taken.
func (p *parser) end() error {
	if p.err == nil && len(p.rest) > 0 {
		p.err = errTrailing
	}
	return p.err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// presence is the value of keys that say everything by being there.
func presence() []byte { return []byte{valueVersion} }

func decodePresence(b []byte) error { return parse(b).end() }

func encodeIndex(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{valueVersion}, index)
}

func decodeIndex(b []byte) (uint64, error) {
	p := parse(b)
	v := p.take(8)
	if err := p.end(); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// encodeBytes is the shape of generic records, remembered results and summaries.
func encodeBytes(v []byte) []byte {
	return append(append(make([]byte, 0, len(v)+1), valueVersion), v...)
}

func decodeBytes(b []byte) ([]byte, error) {
	p := parse(b)
	v := p.take(uint64(len(p.rest)))
	return v, p.end()
}

// counters are what an account gives out and counts.
type counters struct {
	nextMailbox   uint32
	uidValidity   uint32 // the last one given
	mailboxes     uint32
	subscriptions uint32

	counted bool // what it holds is counted: quota.go
	used    Usage
}

func (c counters) encode() []byte {
	b := []byte{valueVersion}
	b = binary.AppendUvarint(b, uint64(c.nextMailbox))
	b = binary.AppendUvarint(b, uint64(c.uidValidity))
	b = binary.AppendUvarint(b, uint64(c.mailboxes))
	b = binary.AppendUvarint(b, uint64(c.subscriptions))
	return c.encodeUsage(b)
}

func decodeCounters(b []byte) (counters, error) {
	p := parse(b)
	c := counters{nextMailbox: p.uint32(), uidValidity: p.uint32(), mailboxes: p.uint32(), subscriptions: p.uint32()}
	c.decodeUsage(p)
	return c, p.end()
}

// Bits of a mailbox's value. What is behind bitTold is there only since a command of feature.Sharing was applied to the mailbox.
const (
	bitNoSelect = 1 << iota
	bitTold
)

// encodeMeta leaves out what other keys say: id, keywords, subscription. open is the block that the next UID will be in.
func encodeMeta(m *Mailbox, open *block) []byte {
	b := make([]byte, 1, 64+len(m.Name)+len(m.SpecialUse))
	b[0] = valueVersion
	var bits byte
	if m.NoSelect {
		bits = bitNoSelect
	}
	if m.Told > 0 {
		bits |= bitTold
	}
	b = append(b, bits)
	b = binary.AppendUvarint(b, uint64(m.UIDValidity))
	b = binary.AppendUvarint(b, uint64(m.UIDNext))
	b = binary.AppendUvarint(b, m.HighestModSeq)
	b = binary.AppendUvarint(b, uint64(m.Messages))
	b = binary.AppendUvarint(b, uint64(m.Unseen))
	b = binary.AppendUvarint(b, uint64(m.Deleted))
	b = binary.AppendUvarint(b, m.Size)
	b = appendText(b, m.SpecialUse)
	b = appendText(b, m.Name)
	if m.Told > 0 {
		b = binary.AppendUvarint(b, uint64(m.Told))
	}
	return append(b, open.encode()...)
}

// decodeMeta fills the empty block open, unless it is nil.
func decodeMeta(b []byte, open *block) (Mailbox, error) {
	p := parse(b)
	bits := p.byte()
	if bits&^(bitNoSelect|bitTold) != 0 && p.err == nil {
		p.err = errRange
	}
	m := Mailbox{
		NoSelect:      bits&bitNoSelect != 0,
		UIDValidity:   p.uint32(),
		UIDNext:       p.uint32(),
		HighestModSeq: p.uvarint(math.MaxUint64),
		Messages:      p.uint32(),
		Unseen:        p.uint32(),
		Deleted:       p.uint32(),
		Size:          p.uvarint(math.MaxUint64),
		SpecialUse:    p.text(MaxNameBytes),
		Name:          p.text(MaxNameBytes),
	}
	if bits&bitTold != 0 {
		if m.Told = p.uint32(); m.Told == 0 && p.err == nil {
			p.err = errRange
		}
	}
	if p.err != nil || len(p.rest) == 0 || open == nil {
		return m, p.err
	}
	return m, open.decode(p.rest)
}

// hotRow is what listing a mailbox needs of each message: what changes, and the little that every client asks for. Keywords are numbers in
// the mailbox's table, ascending. A message is fresh until its flags change for the first time; it then has no change key, for
// among fresh messages the order of UIDs is the order of modseqs.
type hotRow struct {
	modseq   uint64
	created  uint64 // modseq that it entered the mailbox with
	system   uint8
	size     uint64
	date     int64
	zone     int16
	keywords []byte
}

func (h *hotRow) fresh() bool { return h.created == h.modseq }

// bitFresh shares the byte of the system flags.
const bitFresh = 0x80

func (h *hotRow) encode() []byte {
	b := append(make([]byte, 0, 32+len(h.keywords)), valueVersion, h.system)
	if h.fresh() {
		b[1] |= bitFresh
	}
	b = binary.AppendUvarint(b, h.modseq)
	if !h.fresh() {
		b = binary.AppendUvarint(b, h.created)
	}
	b = binary.AppendUvarint(b, h.size)
	b = binary.AppendVarint(b, h.date)
	b = binary.AppendVarint(b, int64(h.zone))
	return append(b, h.keywords...)
}

// decodeHot decodes a hot row; its keywords alias b.
func decodeHot(b []byte) (hotRow, error) {
	p := parse(b)
	bits := p.byte()
	h := hotRow{system: bits &^ bitFresh, modseq: p.uvarint(math.MaxUint64)}
	if h.created = h.modseq; bits&bitFresh == 0 {
		h.created = p.uvarint(math.MaxUint64)
	}
	h.size = p.uvarint(math.MaxUint64)
	h.date = p.varint()
	zone := p.varint()
	if p.err == nil && (zone < math.MinInt16 || zone > math.MaxInt16 || h.system&^flagsKnown != 0) {
		p.err = errRange
	}
	h.zone = int16(zone)
	h.keywords = p.take(uint64(len(p.rest)))
	if p.err == nil {
		p.err = checkNumbers(h.keywords)
	}
	return h, p.err
}

// encodeChange is the flags alone, the value of a change key.
func (h *hotRow) encodeChange() []byte {
	return append(append(make([]byte, 0, 2+len(h.keywords)), valueVersion, h.system), h.keywords...)
}

// decodeChange decodes the flags in a change key's value; its keywords alias b.
func decodeChange(b []byte) (hotRow, error) {
	p := parse(b)
	h := hotRow{system: p.byte()}
	if p.err == nil && h.system&^flagsKnown != 0 {
		p.err = errRange
	}
	h.keywords = p.take(uint64(len(p.rest)))
	if p.err == nil {
		p.err = checkNumbers(h.keywords)
	}
	return h, p.err
}

// checkNumbers wants keyword numbers ascending.
func checkNumbers(keywords []byte) error {
	for i := 1; i < len(keywords); i++ {
		if keywords[i-1] >= keywords[i] {
			return errRange
		}
	}
	return nil
}

// coldRow is the rest of what is known of a message. It never changes.
type coldRow struct {
	saveDate int64
	copied   int64 // 0: the message came into its mailbox at saveDate
	ref      volume.Ref
	summary  []byte
}

// copiedVersion is that of cold rows with the date of a copy, which come with feature.Sharing; the others are as they were.
const copiedVersion = 2

func (c *coldRow) encode() []byte {
	b := append(make([]byte, 0, 80+len(c.summary)), valueVersion)
	b = binary.AppendVarint(b, c.saveDate)
	if c.copied != 0 {
		b[0] = copiedVersion
		b = binary.AppendVarint(b, c.copied)
	}
	b = binary.AppendUvarint(b, uint64(c.ref.Volume))
	b = binary.AppendUvarint(b, c.ref.Record)
	b = binary.AppendUvarint(b, c.ref.Length)
	b = append(b, c.ref.Hash[:]...)
	return append(b, c.summary...)
}

// decodeCold decodes a cold row; its summary aliases b.
func decodeCold(b []byte) (coldRow, error) {
	p := &parser{rest: b}
	version := p.byte()
	c := coldRow{saveDate: p.varint()}
	switch {
	case version == copiedVersion:
		if c.copied = p.varint(); c.copied == 0 && p.err == nil {
			p.err = errRange // there would be two forms of one row
		}
	case version != valueVersion && p.err == nil:
		p.err = errVersion
	}
	c.ref.Volume = volume.ID(p.uvarint(math.MaxUint64))
	c.ref.Record = p.uvarint(math.MaxUint64)
	c.ref.Length = p.uvarint(math.MaxUint64)
	copy(c.ref.Hash[:], p.take(uint64(len(c.ref.Hash))))
	c.summary = p.take(uint64(len(p.rest)))
	return c, p.end()
}
