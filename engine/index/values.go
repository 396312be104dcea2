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
}

func (c counters) encode() []byte {
	b := []byte{valueVersion}
	b = binary.AppendUvarint(b, uint64(c.nextMailbox))
	b = binary.AppendUvarint(b, uint64(c.uidValidity))
	b = binary.AppendUvarint(b, uint64(c.mailboxes))
	return binary.AppendUvarint(b, uint64(c.subscriptions))
}

func decodeCounters(b []byte) (counters, error) {
	p := parse(b)
	c := counters{nextMailbox: p.uint32(), uidValidity: p.uint32(), mailboxes: p.uint32(), subscriptions: p.uint32()}
	return c, p.end()
}

// encodeMeta leaves out what other keys say: id, keywords, subscription.
func encodeMeta(m *Mailbox) []byte {
	b := make([]byte, 1, 48+len(m.Name)+len(m.SpecialUse))
	b[0] = valueVersion
	var bits byte
	if m.NoSelect {
		bits = 1
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
	return appendText(b, m.Name)
}

func decodeMeta(b []byte) (Mailbox, error) {
	p := parse(b)
	bits := p.byte()
	if bits > 1 && p.err == nil {
		p.err = errRange
	}
	m := Mailbox{
		NoSelect:      bits == 1,
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
	return m, p.end()
}

// flagRow is a message's flags as stored: keywords are numbers in the mailbox's table, ascending.
type flagRow struct {
	modseq   uint64
	system   uint8
	keywords []byte
}

func (f flagRow) encode() []byte {
	b := append(make([]byte, 0, 12+len(f.keywords)), valueVersion)
	b = binary.AppendUvarint(b, f.modseq)
	b = append(b, f.system)
	return append(b, f.keywords...)
}

// encodeChange is the row without its modseq, which the change's key has.
func (f flagRow) encodeChange() []byte {
	return append(append(make([]byte, 0, 2+len(f.keywords)), valueVersion, f.system), f.keywords...)
}

// decodeFlags decodes a flag row; its keywords alias b.
func decodeFlags(b []byte) (flagRow, error) {
	p := parse(b)
	f := flagRow{modseq: p.uvarint(math.MaxUint64)}
	return f.tail(p)
}

func decodeChange(b []byte, modseq uint64) (flagRow, error) {
	return flagRow{modseq: modseq}.tail(parse(b))
}

func (f flagRow) tail(p *parser) (flagRow, error) {
	f.system = p.byte()
	f.keywords = p.take(uint64(len(p.rest)))
	if err := p.end(); err != nil {
		return flagRow{}, err
	}
	if f.system&^flagsKnown != 0 {
		return flagRow{}, errRange
	}
	for i := 1; i < len(f.keywords); i++ {
		if f.keywords[i-1] >= f.keywords[i] {
			return flagRow{}, errRange
		}
	}
	return f, nil
}

// messageRow is what never changes about a message, without its summary.
type messageRow struct {
	date     int64
	zone     int16
	saveDate int64
	size     uint64
	ref      volume.Ref
}

func (m messageRow) encode() []byte {
	b := append(make([]byte, 0, 80), valueVersion)
	b = binary.AppendVarint(b, m.date)
	b = binary.AppendVarint(b, int64(m.zone))
	b = binary.AppendVarint(b, m.saveDate)
	b = binary.AppendUvarint(b, m.size)
	b = binary.AppendUvarint(b, uint64(m.ref.Volume))
	b = binary.AppendUvarint(b, m.ref.Record)
	b = binary.AppendUvarint(b, m.ref.Length)
	return append(b, m.ref.Hash[:]...)
}

func decodeMessage(b []byte) (messageRow, error) {
	p := parse(b)
	m := messageRow{date: p.varint()}
	zone := p.varint()
	if zone < math.MinInt16 || zone > math.MaxInt16 {
		p.err = errRange
	}
	m.zone = int16(zone)
	m.saveDate = p.varint()
	m.size = p.uvarint(math.MaxUint64)
	m.ref.Volume = volume.ID(p.uvarint(math.MaxUint64))
	m.ref.Record = p.uvarint(math.MaxUint64)
	m.ref.Length = p.uvarint(math.MaxUint64)
	copy(m.ref.Hash[:], p.take(uint64(len(m.ref.Hash))))
	return m, p.end()
}
