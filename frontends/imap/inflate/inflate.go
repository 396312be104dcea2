// Package inflate decompresses DEFLATE (RFC 1951) as it arrives on a connection: what the bytes so far say can be read at once.
//
// Libraries wait for more in places: compress/flate hands data out at the end of a stored block, that of klauspost looks some bits past the end of a
// block. A client that ends its commands with zlib's partial flush, as isync does, sends neither until it was answered: both sides would
// wait for ever. zlib itself gives all that is decodable, and so does this.
//
// Invariants: no bit is consumed before all of its symbol is there; Read waits for input only if it has nothing to give, but for the rest of a dynamic
// block's tables. Memory is the window of 32 KiB, 2 KiB of input and the tables, whatever comes. Nothing is kept on disk.
package inflate

import (
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt is what is not DEFLATE.
var ErrCorrupt = errors.New("corrupt deflate data")

const (
	windowSize = 32 << 10
	inputSize  = 2 << 10
	endOfBlock = 256
)

// state is what comes next.
type state uint8

const (
	atHeader state = iota // of a block
	inStored
	inCodes
	atEnd
)

// Reader decompresses.
type Reader struct {
	src io.Reader
	err error // of src, once its bytes are used up

	in      [inputSize]byte
	from    int // in[from:to] are unused
	to      int
	bits    uint64 // the next ones, the first is the lowest
	nbits   uint
	state   state
	last    bool // this block is the last
	stored  int  // bytes left of a stored block
	match   int  // bytes left of a match, and how far back it is
	back    int
	literal huffman
	dist    huffman

	window [windowSize]byte // what was given, in a ring
	at     int              // where the next byte goes
	past   int              // how much of the window was written, at most all
}

// NewReader decompresses what is read from src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Read gives what is known, and waits only for the first byte. It returns io.EOF behind the last block, ErrCorrupt, or src's error.
func (r *Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && (n == 0 || r.match > 0 || r.state != atHeader) { // a block's beginning may have to be waited for
		m, err := r.step(p[n:])
		n += m
		if errors.Is(err, errShort) {
			if n > 0 && r.from == r.to {
				return n, nil
			}
			err = r.fill()
		}
		if err != nil {
			if n > 0 {
				return n, nil // it comes again
			}
			return 0, err
		}
	}
	return n, nil
}

// errShort: the next symbol is not whole yet.
var errShort = errors.New("more input is needed")

// step decodes a little into p: any number of bytes, none too.
func (r *Reader) step(p []byte) (int, error) {
	switch {
	case r.match > 0:
		return r.repeat(p), nil
	case r.state == atHeader:
		return 0, r.header()
	case r.state == inStored:
		return r.copyStored(p)
	case r.state == inCodes:
		return r.codes(p)
	}
	return 0, io.EOF
}

// fill takes input: what is buffered, else what src has.
func (r *Reader) fill() error {
	if r.from == r.to {
		if r.err != nil {
			return r.err
		}
		r.from, r.to = 0, 0
		r.to, r.err = r.src.Read(r.in[:])
		if r.to == 0 && r.err != nil {
			if errors.Is(r.err, io.EOF) {
				r.err = io.ErrUnexpectedEOF
			}
			return r.err
		}
	}
	r.refill()
	return nil
}

// refill moves input that is there to bits.
func (r *Reader) refill() {
	for r.nbits <= 56 && r.from < r.to {
		r.bits |= uint64(r.in[r.from]) << r.nbits
		r.from++
		r.nbits += 8
	}
}

// take consumes n bits, at most 16, or none.
func (r *Reader) take(n uint) (int, error) {
	if r.nbits < n {
		return 0, errShort
	}
	v := int(r.bits & (1<<n - 1))
	r.bits >>= n
	r.nbits -= n
	return v, nil
}

// wait is take that waits for src.
func (r *Reader) wait(n uint) (int, error) {
	for {
		v, err := r.take(n)
		if err == nil {
			return v, nil
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// header begins a block (section 3.2.3).
func (r *Reader) header() error {
	v, err := r.take(3)
	if err != nil {
		return err
	}
	r.last = v&1 == 1
	switch v >> 1 {
	case 0:
		return r.storedHeader()
	case 1:
		r.state = inCodes
		return r.fixed()
	case 2:
		r.state = inCodes
		return r.dynamic()
	}
	return fmt.Errorf("block of type 3: %w", ErrCorrupt)
}

// storedHeader reads the length of a stored block (section 3.2.4).
func (r *Reader) storedHeader() error {
	if _, err := r.take(r.nbits % 8); err != nil {
		return err
	}
	size, err := r.wait(16)
	if err != nil {
		return err
	}
	inverse, err := r.wait(16)
	if err != nil {
		return err
	}
	if size^inverse != 0xffff {
		return fmt.Errorf("length of a stored block: %w", ErrCorrupt)
	}
	r.stored, r.state = size, inStored
	if size == 0 {
		r.endBlock()
	}
	return nil
}

func (r *Reader) endBlock() {
	r.state = atHeader
	if r.last {
		r.state = atEnd
	}
}

// copyStored gives bytes of a stored block.
func (r *Reader) copyStored(p []byte) (int, error) {
	n := 0
	for n < len(p) && r.stored > 0 {
		b, err := r.take(8)
		if err != nil {
			return n, err
		}
		p[n] = byte(b)
		r.put(byte(b))
		n++
		r.stored--
	}
	if r.stored == 0 {
		r.endBlock()
	}
	return n, nil
}

func (r *Reader) put(b byte) {
	r.window[r.at] = b
	r.at = (r.at + 1) % windowSize
	r.past = min(r.past+1, windowSize)
}

// repeat gives bytes of a match.
func (r *Reader) repeat(p []byte) int {
	n := 0
	for ; n < len(p) && r.match > 0; r.match-- {
		b := r.window[(r.at-r.back+windowSize)%windowSize]
		p[n] = b
		r.put(b)
		n++
	}
	return n
}

// codes gives literals until a match begins or the block ends (section 3.2.5).
func (r *Reader) codes(p []byte) (int, error) {
	for n := 0; n < len(p); n++ {
		if r.nbits < 48 {
			r.refill()
		}
		symbol, used, err := r.literal.decode(r.bits, r.nbits)
		if err != nil {
			return n, err
		}
		if symbol > endOfBlock {
			return n, r.beginMatch(symbol-endOfBlock-1, used)
		}
		r.bits >>= used
		r.nbits -= used
		if symbol == endOfBlock {
			r.endBlock()
			return n, nil
		}
		p[n] = byte(symbol)
		r.put(byte(symbol))
	}
	return len(p), nil
}

// Lengths and distances: the least value of each symbol, and how many bits are added (section 3.2.5).
var (
	lengthBase = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [...]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
	}
	distBits = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// beginMatch reads the rest of a match whose length symbol took used bits, or nothing of it: 48 bits at most with that.
func (r *Reader) beginMatch(symbol int, used uint) error {
	if symbol >= len(lengthBase) {
		return fmt.Errorf("length symbol %d: %w", symbol, ErrCorrupt)
	}
	bits, left := r.bits>>used, r.nbits-used
	extra := uint(lengthBits[symbol])
	if left < extra {
		return errShort
	}
	length := int(lengthBase[symbol]) + int(bits&(1<<extra-1))
	bits, left = bits>>extra, left-extra
	symbol, used, err := r.dist.decode(bits, left)
	if err != nil {
		return err
	}
	if symbol >= len(distBase) {
		return fmt.Errorf("distance symbol %d: %w", symbol, ErrCorrupt)
	}
	bits, left = bits>>used, left-used
	if extra = uint(distBits[symbol]); left < extra {
		return errShort
	}
	r.back = int(distBase[symbol]) + int(bits&(1<<extra-1))
	if r.back > r.past {
		return fmt.Errorf("distance of %d with %d bytes before: %w", r.back, r.past, ErrCorrupt)
	}
	r.bits, r.nbits, r.match = bits>>extra, left-extra, length
	return nil
}
