package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// A summary block says which of 4,096 neighbouring UIDs have some property. Each property (kind) has keys of its own, so a
// delivery touches the block of UIDs alone, at most half a kilobyte, and SELECT of a million messages reads
// some 250 keys that lie side by side. An empty block has no key; the open block, which the next UID will be in, is part of
// the mailbox's meta, which a delivery rewrites anyway.
const (
	blockShift = 12
	blockBits  = 1 << blockShift
	blockWords = blockBits / 64
)

// Kinds of blocks: kindUIDs holds every message, kindFlag(bit) those with that system flag.
const (
	kindUIDs = 0
	kinds    = 6
)

// kindFlag is the kind for one system flag.
func kindFlag(flag uint8) uint8 { return uint8(1 + bits.TrailingZeros8(flag)) }

// Forms of an encoded block. The smallest is taken, the first of equals: an encoding depends on the set alone.
const (
	formRuns   = 0 // pairs of u16: first, last
	formArray  = 1 // u16 each
	formBitmap = 2 // 64 words of u64
)

type block [blockWords]uint64

func (b *block) has(low uint32) bool { return b[low/64]&(1<<(low%64)) != 0 }
func (b *block) set(low uint32)      { b[low/64] |= 1 << (low % 64) }
func (b *block) clear(low uint32)    { b[low/64] &^= 1 << (low % 64) }

// last is the highest member, if there is one.
func (b *block) last() (low uint32, ok bool) {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return uint32(i*64 + bits.Len64(b[i]) - 1), true
		}
	}
	return 0, false
}

// next is the first member from low on, if there is one.
func (b *block) next(low uint32) (member uint32, ok bool) {
	for ; low < blockBits; low = (low/64 + 1) * 64 {
		if w := b[low/64] >> (low % 64); w != 0 {
			return low + uint32(bits.TrailingZeros64(w)), true
		}
	}
	return 0, false
}

// census counts members and runs of members.
func (b *block) census() (members, runs int) {
	var carry uint64
	for _, w := range b {
		members += bits.OnesCount64(w)
		runs += bits.OnesCount64(w &^ (w<<1 | carry))
		carry = w >> 63
	}
	return members, runs
}

// eachRun calls fn for each run [first, last] of members, ascending.
func (b *block) eachRun(fn func(first, last uint32)) {
	start, open := uint32(0), false
	for i, w := range b {
		base := uint32(i) * 64
		for pos := uint32(0); pos < 64; {
			probe := w >> pos
			if open {
				probe = ^probe
			}
			skip := uint32(bits.TrailingZeros64(probe))
			if pos+skip >= 64 {
				break
			}
			pos += skip
			if open {
				fn(start, base+pos-1)
			} else {
				start = base + pos
			}
			open = !open
		}
	}
	if open {
		fn(start, blockBits-1)
	}
}

// encode returns nil for an empty block.
func (b *block) encode() []byte {
	members, runs := b.census()
	if members == 0 {
		return nil
	}
	form, size := byte(formRuns), 4*runs
	if 2*members < size {
		form, size = formArray, 2*members
	}
	if blockBits/8 < size {
		form, size = formBitmap, blockBits/8
	}
	out := append(make([]byte, 0, 2+size), valueVersion, form)
	switch form {
	case formRuns:
		b.eachRun(func(first, last uint32) {
			out = binary.BigEndian.AppendUint16(out, uint16(first))
			out = binary.BigEndian.AppendUint16(out, uint16(last))
		})
	case formArray:
		b.eachRun(func(first, last uint32) {
			for low := first; low <= last; low++ {
				out = binary.BigEndian.AppendUint16(out, uint16(low))
			}
		})
	case formBitmap:
		for _, w := range b {
			out = binary.BigEndian.AppendUint64(out, w)
		}
	}
	return out
}

// decode fills an empty block.
func (b *block) decode(v []byte) error {
	p := parse(v)
	form := p.byte()
	if p.err != nil {
		return p.err
	}
	switch form {
	case formRuns:
		return b.decodeRuns(p.rest)
	case formArray:
		if len(p.rest)%2 != 0 {
			return errShort
		}
		for rest := p.rest; len(rest) > 0; rest = rest[2:] {
			low := binary.BigEndian.Uint16(rest)
			if low >= blockBits {
				return errRange
			}
			b.set(uint32(low))
		}
		return nil
	case formBitmap:
		if len(p.rest) != blockBits/8 {
			return errShort
		}
		for i := range b {
			b[i] = binary.BigEndian.Uint64(p.rest[i*8:])
		}
		return nil
	}
	return errRange
}

func (b *block) decodeRuns(rest []byte) error {
	if len(rest)%4 != 0 {
		return errShort
	}
	for ; len(rest) > 0; rest = rest[4:] {
		first, last := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		if first > last || last >= blockBits {
			return errRange
		}
		b.fill(uint32(first), uint32(last))
	}
	return nil
}

// fill sets first to last.
func (b *block) fill(first, last uint32) {
	for i := first / 64; i <= last/64; i++ {
		mask := ^uint64(0)
		if i == first/64 {
			mask &= ^uint64(0) << (first % 64)
		}
		if i == last/64 {
			mask &= ^uint64(0) >> (63 - last%64)
		}
		b[i] |= mask
	}
}

// gatherer turns blocks, in ascending order, into a bitmap.
type gatherer struct {
	bm    *roaring.Bitmap
	words [16 * blockWords]uint64 // of one roaring container
	chunk uint32
	runs  int // in the chunk
}

// manyRuns is from where copying a container's words beats adding its runs one by one.
const manyRuns = 64

func (g *gatherer) add(n uint32, b *block) {
	if chunk := n / 16; chunk != g.chunk {
		g.flush()
		g.chunk = chunk
	}
	_, runs := b.census()
	g.runs += runs
	copy(g.words[n%16*blockWords:], b[:])
}

func (g *gatherer) flush() {
	if g.runs == 0 {
		return
	}
	base := uint64(g.chunk) << 16
	if g.runs >= manyRuns {
		g.bm.Or(roaring.AddOffset64(roaring.FromDense(g.words[:], true), int64(base)))
	} else {
		for i := range 16 {
			b := (*block)(g.words[i*blockWords:])
			at := base + uint64(i)*blockBits
			b.eachRun(func(first, last uint32) { g.bm.AddRange(at+uint64(first), at+uint64(last)+1) })
		}
	}
	g.words, g.runs = [16 * blockWords]uint64{}, 0
}
