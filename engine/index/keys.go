package index

import (
	"encoding/binary"
	"fmt"

	"hongyan/engine/volume"
)

// Tags of a shard's keys. Every key starts with the shard, big endian; tags stay below tagEnd.
const (
	tagAccount = 'a' // [account u64][account tag]…
	tagDedup   = 'd' // [id 16]
	tagExpiry  = 'e' // [log index >> 4 u64]
	tagFloor   = 'f' // [volume u64]
	tagGrave   = 'g' // [log index u64][account u64][mailbox u32]
	tagRecord  = 'k' // [key]
	tagShard   = 'm' // "applied"
	tagRef     = 'r' // [volume u64][record u64][account u64][mailbox u32][uid u32]
	tagEarly   = 'v' // [volume u64]
	tagEnd     = 0xff
)

// Tags of an account's keys, after its number.
const (
	tagBlock      = 'b' // [mailbox u32][kind u8][uid>>12 u32]
	tagCounters   = 'c' //
	tagFlags      = 'f' // [mailbox u32][uid u32]
	tagSharer     = 'h' // [owner u64]
	tagMailbox    = 'm' // [mailbox u32]
	tagName       = 'n' // [name]
	tagPlace      = 'o' //
	tagSubscribe  = 'p' // [name]
	tagGrant      = 'r' // [mailbox u32][user u64]
	tagChange     = 's' // [mailbox u32][modseq u64][uid u32]
	tagMessage    = 'u' // [mailbox u32][uid u32]
	tagKeywords   = 'w' // [mailbox u32]
	tagExpunged   = 'x' // [mailbox u32][modseq u64][uid u32]
	tagAnnotation = 'y' // [mailbox u32][user u64][name]
)

// Lengths of key parts, for slicing keys that an iterator returns.
const (
	shardLen   = 4
	mailboxLen = shardLen + 1 + 8 + 1 + 4 // up to and with the mailbox id of an account key
	refLen     = shardLen + 1 + 8 + 8 + 8 + 4 + 4
)

// keys builds the keys of one shard.
type keys uint32

func (k keys) root(tag byte) []byte {
	b := make([]byte, 0, 48)
	b = binary.BigEndian.AppendUint32(b, uint32(k))
	return append(b, tag)
}

// span is the key range of the whole shard.
func (k keys) span() (lower, upper []byte) {
	lower = binary.BigEndian.AppendUint32(nil, uint32(k))
	return lower, k.root(tagEnd)
}

func (k keys) applied() []byte { return append(k.root(tagShard), "applied"...) }

func (k keys) record(key []byte) []byte { return append(k.root(tagRecord), key...) }

func (k keys) dedup(id [16]byte) []byte { return append(k.root(tagDedup), id[:]...) }

func (k keys) expiry(bucket uint64) []byte {
	return binary.BigEndian.AppendUint64(k.root(tagExpiry), bucket)
}

func (k keys) grave(index, account uint64, mailbox uint32) []byte {
	b := binary.BigEndian.AppendUint64(k.root(tagGrave), index)
	b = binary.BigEndian.AppendUint64(b, account)
	return binary.BigEndian.AppendUint32(b, mailbox)
}

func (k keys) volume(v volume.ID) []byte {
	return binary.BigEndian.AppendUint64(k.root(tagRef), uint64(v))
}

func (k keys) floor(v volume.ID) []byte {
	return binary.BigEndian.AppendUint64(k.root(tagFloor), uint64(v))
}

func (k keys) early(v volume.ID) []byte {
	return binary.BigEndian.AppendUint64(k.root(tagEarly), uint64(v))
}

func (k keys) numbered(v volume.ID, record uint64) []byte {
	return binary.BigEndian.AppendUint64(k.volume(v), record)
}

func (k keys) ref(r volume.Ref, m mailboxKey, uid uint32) []byte {
	b := k.numbered(r.Volume, r.Record)
	b = binary.BigEndian.AppendUint64(b, m.account)
	b = binary.BigEndian.AppendUint32(b, m.id)
	return binary.BigEndian.AppendUint32(b, uid)
}

// resident is what all keys of an account begin with.
func (k keys) resident(account uint64) []byte {
	return binary.BigEndian.AppendUint64(k.root(tagAccount), account)
}

func (k keys) account(account uint64, tag byte) []byte { return append(k.resident(account), tag) }

func (k keys) name(account uint64, tag byte, name string) []byte {
	return append(k.account(account, tag), name...)
}

// mailboxKey names a mailbox within a shard.
type mailboxKey struct {
	account uint64
	id      uint32
}

func (k keys) mailbox(m mailboxKey, tag byte) []byte {
	return binary.BigEndian.AppendUint32(k.account(m.account, tag), m.id)
}

func (k keys) uid(m mailboxKey, tag byte, uid uint32) []byte {
	return binary.BigEndian.AppendUint32(k.mailbox(m, tag), uid)
}

func (k keys) modseq(m mailboxKey, tag byte, modseq uint64, uid uint32) []byte {
	b := binary.BigEndian.AppendUint64(k.mailbox(m, tag), modseq)
	return binary.BigEndian.AppendUint32(b, uid)
}

func (k keys) kind(m mailboxKey, kind uint8) []byte {
	return append(k.mailbox(m, tagBlock), kind)
}

func (k keys) block(m mailboxKey, kind uint8, n uint32) []byte {
	return binary.BigEndian.AppendUint32(k.kind(m, kind), n)
}

// after is the smallest key that does not start with prefix. A prefix starts with a shard and a tag below 0xff, so there is one.
func after(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// tailUID is the UID at the end of a message's key.
func tailUID(key []byte) (uint32, error) {
	if len(key) != mailboxLen+4 {
		return 0, fmt.Errorf("message key of %d bytes", len(key))
	}
	return binary.BigEndian.Uint32(key[mailboxLen:]), nil
}

// tailModSeq is the modseq and UID at the end of a change's key.
func tailModSeq(key []byte) (uint64, uint32, error) {
	if len(key) != mailboxLen+12 {
		return 0, 0, fmt.Errorf("change key of %d bytes", len(key))
	}
	return binary.BigEndian.Uint64(key[mailboxLen:]), binary.BigEndian.Uint32(key[mailboxLen+8:]), nil
}

// keyMailbox is the mailbox in an account key of at least mailboxLen bytes.
func keyMailbox(key []byte) uint32 { return binary.BigEndian.Uint32(key[mailboxLen-4:]) }

// splitRef takes a reference's key apart, but for its UID.
func splitRef(key []byte) (record uint64, m mailboxKey, ok bool) {
	if len(key) != refLen {
		return 0, m, false
	}
	rest := key[shardLen+1+8:]
	m = mailboxKey{binary.BigEndian.Uint64(rest[8:]), binary.BigEndian.Uint32(rest[16:])}
	return binary.BigEndian.Uint64(rest), m, true
}
