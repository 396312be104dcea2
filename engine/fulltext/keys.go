package fulltext

import (
	"encoding/binary"
	"fmt"

	"hongyan/engine/codec"
)

// Key layout, numbers big endian (drawn in docs/formats/fulltext.md):
//
//	shard u32, account u64, mailbox u32, 'm'                                        the mailbox's entry
//	shard u32, account u64, mailbox u32, 's', segment u64, 'v', class u8, term      terms from this one on
//	shard u32, account u64, mailbox u32, 's', segment u64, 'w', class u8, term      lists of the messages that have them
//	shard u32, account u64, mailbox u32, 's', segment u64, 'x'                      messages that are not wholly indexed
//	ff ff ff ff, "format"                                                           the version of all this
const (
	tagEntry   = 'm'
	tagSegment = 's'
	tagTerms   = 'v'
	tagLists   = 'w'
	tagPartial = 'x'

	mailboxLen = 4 + 8 + 4
	segmentLen = mailboxLen + 1 + 8
	blockLen   = segmentLen + 2 // what stands before a block's first term
)

var formatKey = []byte("\xff\xff\xff\xffformat")

// format changes whenever a database of before cannot be used, as when other texts count: it is made anew then.
const format = 2

// Mailbox names one.
type Mailbox struct {
	Shard   uint32
	Account uint64
	ID      uint32
}

func (m Mailbox) String() string {
	return fmt.Sprintf("mailbox %d of account %d in shard %d", m.ID, m.Account, m.Shard)
}

func shardKey(shard uint32) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 64), shard) }

func accountKey(shard uint32, account uint64) []byte {
	return binary.BigEndian.AppendUint64(shardKey(shard), account)
}

func (m Mailbox) root() []byte {
	return binary.BigEndian.AppendUint32(accountKey(m.Shard, m.Account), m.ID)
}

func (m Mailbox) entry() []byte { return append(m.root(), tagEntry) }

func (m Mailbox) segment(id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(m.root(), tagSegment), id)
}

func (m Mailbox) partial(id uint64) []byte { return append(m.segment(id), tagPartial) }

// block is the key of terms or lists from a term on, whose first byte is its class.
func (m Mailbox) block(id uint64, tag byte, term []byte) []byte {
	return append(append(m.segment(id), tag), term...)
}

// mailboxOf reads the mailbox at the beginning of a key.
func mailboxOf(key []byte) (Mailbox, bool) {
	if len(key) < mailboxLen+1 {
		return Mailbox{}, false
	}
	return Mailbox{binary.BigEndian.Uint32(key), binary.BigEndian.Uint64(key[4:]), binary.BigEndian.Uint32(key[12:])}, true
}

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	out := append([]byte(nil), prefix...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	return nil
}

// entry is what is known of a mailbox.
type entry struct {
	UIDValidity uint32    `cbor:"1,keyasint"`
	Through     uint32    `cbor:"2,keyasint"` // messages up to this UID are indexed
	Segments    []segment `cbor:"3,keyasint,omitempty"`
	Pending     []uint64  `cbor:"4,keyasint,omitempty"` // segments that are being written
}

// segment is a list of terms and the messages that have them.
type segment struct {
	ID       uint64 `cbor:"1,keyasint"`
	First    uint32 `cbor:"2,keyasint"` // no message of it has a lower UID
	Last     uint32 `cbor:"3,keyasint"` // nor a higher one
	Messages uint32 `cbor:"4,keyasint"`
	Partial  bool   `cbor:"5,keyasint,omitempty"` // some are not wholly indexed
}

func decodeEntry(b []byte) (*entry, error) {
	e := new(entry)
	if err := codec.Unmarshal(b, e); err != nil {
		return nil, err
	}
	for _, s := range e.Segments {
		if s.First > s.Last || s.Messages == 0 || s.Last > e.Through {
			return nil, fmt.Errorf("segment %x of %d messages from %d to %d", s.ID, s.Messages, s.First, s.Last)
		}
	}
	return e, nil
}

// messages counts those in segments, expunged ones too.
func (e *entry) messages() (n uint64) {
	for _, s := range e.Segments {
		n += uint64(s.Messages)
	}
	return n
}
