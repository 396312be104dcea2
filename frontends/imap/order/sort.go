package order

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	maxText   = 256       // bytes of a text that count for its order
	blockSize = 256 << 10 // keys are kept in blocks, which never move
	entrySize = 24
)

// AppendNumber appends a number to a key, so that keys' bytes are in the order of their numbers, or with reverse in the other.
func AppendNumber(key []byte, n int64, reverse bool) []byte {
	start := len(key)
	key = binary.BigEndian.AppendUint64(key, uint64(n)^1<<63)
	return turn(key, start, reverse)
}

// AppendCollated appends a text in the form whose bytes are in the order of i;unicode-casemap, for AppendText. Texts that are equal in their first 256 bytes of
// that are equal.
func AppendCollated(dst []byte, s string) []byte {
	start := len(dst)
	if len(s) > maxText { // a character does not get shorter by more than half, and what follows is cut off anyway
		s = s[:min(len(s), 4*maxText)]
	}
	dst = AppendCasemap(dst, s)
	if len(dst)-start > maxText {
		dst = dst[:start+maxText]
	}
	end := start
	for _, c := range dst[start:] { // NUL ends a text, and is in none
		if c != 0 {
			dst[end] = c
			end++
		}
	}
	return dst[:end]
}

// AppendText appends what AppendCollated made of a text to a key, as AppendNumber does a number.
func AppendText(key, collated []byte, reverse bool) []byte {
	start := len(key)
	return turn(append(append(key, collated...), 0), start, reverse)
}

func turn(key []byte, start int, reverse bool) []byte {
	if reverse {
		for i := start; i < len(key); i++ {
			key[i] = ^key[i]
		}
	}
	return key
}

// Sorter sorts messages by their keys, those of equal keys by UID. The zero value is ready.
type Sorter struct {
	blocks  [][]byte
	entries []entry
}

// entry is a message's UID and where its key is, which is looked up only where the first bytes do not decide.
type entry struct {
	head       uint64 // the key's first eight bytes
	uid, block uint32
	at         uint32 // low 18 bits: offset; above: length
}

const offsetBits = 18 // of blockSize

// MaxKey is how long a key may be, in bytes; what is longer is cut.
const MaxKey = 1<<(32-offsetBits) - 1

// Add adds a message. key is copied.
func (s *Sorter) Add(uid uint32, key []byte) {
	key = key[:min(len(key), MaxKey)]
	last := len(s.blocks) - 1
	if last < 0 || len(s.blocks[last])+len(key) >= blockSize {
		s.blocks = append(s.blocks, make([]byte, 0, s.nextBlock()))
		last++
	}
	at := len(s.blocks[last])
	s.blocks[last] = append(s.blocks[last], key...)
	s.entries = append(s.entries, entry{head: head(key), uid: uid, block: uint32(last), at: uint32(at) | uint32(len(key))<<offsetBits})
}

// nextBlock is the size of the next block: few messages need no large one.
func (s *Sorter) nextBlock() int {
	if len(s.blocks) == 0 {
		return MaxKey + 1
	}
	return blockSize
}

// Size is the bytes of memory that the messages keep.
func (s *Sorter) Size() int64 {
	n := int64(cap(s.entries)) * entrySize
	for _, b := range s.blocks {
		n += int64(cap(b))
	}
	return n
}

// Sorted returns the UIDs in order.
func (s *Sorter) Sorted() []uint32 {
	slices.SortFunc(s.entries, func(a, b entry) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		return cmp.Or(bytes.Compare(s.key(a), s.key(b)), cmp.Compare(a.uid, b.uid))
	})
	out := make([]uint32, len(s.entries))
	for i := range s.entries {
		out[i] = s.entries[i].uid
	}
	return out
}

// head is a key's first bytes as a number of the same order; NUL stands in for those that a shorter one lacks.
func head(key []byte) uint64 {
	var first [8]byte
	copy(first[:], key)
	return binary.BigEndian.Uint64(first[:])
}

func (s *Sorter) key(e entry) []byte {
	at := e.at & (1<<offsetBits - 1)
	return s.blocks[e.block][at : at+e.at>>offsetBits]
}
