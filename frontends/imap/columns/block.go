package columns

import "math/bits"

const (
	blockBits = 10
	blockUIDs = 1 << blockBits // UIDs of a block, from a multiple of that on
	setWords  = blockUIDs / 64
)

// set is some of the UIDs of a block.
type set [setWords]uint64

func (s *set) add(i uint32)      { s[i/64] |= 1 << (i % 64) }
func (s *set) has(i uint32) bool { return s[i/64]>>(i%64)&1 != 0 }

// rank is how many are below i.
func (s *set) rank(i uint32) (n int) {
	for _, w := range s[:i/64] {
		n += bits.OnesCount64(w)
	}
	return n + bits.OnesCount64(s[i/64]&(1<<(i%64)-1))
}

// each calls fn for each in order.
func (s *set) each(fn func(i uint32)) {
	for n, w := range s {
		for ; w != 0; w &= w - 1 {
			fn(uint32(n*64 + bits.TrailingZeros64(w)))
		}
	}
}

// block is the values of the messages with UIDs in a range, one after the other. It never changes.
type block struct {
	set   set
	width int      // of each value, if ends is nil
	ends  []uint32 // of each value in data; nil: all are of one length
	data  []byte   // never nil
}

// cost is about how many bytes of memory it takes.
func (b *block) cost() int64 {
	if b == nil {
		return 0
	}
	return blockCost + 4*int64(len(b.ends)) + int64(len(b.data))
}

// value is that of a message, nil if it is not there.
func (b *block) value(i uint32) []byte {
	if b == nil || !b.set.has(i) {
		return nil
	}
	n := b.set.rank(i)
	from, to := n*b.width, (n+1)*b.width
	if b.ends != nil {
		from, to = 0, int(b.ends[n])
		if n > 0 {
			from = int(b.ends[n-1])
		}
	}
	return b.data[from:to:to]
}

// blockOf makes the block of some messages; value gives theirs in the order of their UIDs. It is nil if there are none.
func blockOf(s *set, value func(i uint32) []byte) *block {
	b := &block{set: *s, width: -1}
	size, count := 0, 0
	same := true
	s.each(func(i uint32) {
		n := len(value(i))
		if count++; count == 1 {
			b.width = n
		}
		same = same && n == b.width
		size += n
	})
	if count == 0 {
		return nil
	}
	b.data = make([]byte, 0, size)
	if !same {
		b.width, b.ends = 0, make([]uint32, 0, count)
	}
	s.each(func(i uint32) {
		b.data = append(b.data, value(i)...)
		if !same {
			b.ends = append(b.ends, uint32(len(b.data)))
		}
	})
	return b
}
