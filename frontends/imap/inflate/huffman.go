package inflate

import (
	"errors"
	"fmt"
)

const (
	maxBits  = 15 // of a code
	fastBits = 9  // codes up to this length are looked up
	literals = 288
	dists    = 30
)

// huffman is a canonical prefix code (RFC 1951 section 3.2.2).
type huffman struct {
	fast    [1 << fastBits]uint16 // by the next bits: symbol<<4 | length; 0: longer
	count   [maxBits + 1]uint16   // codes of each length
	symbols [literals]uint16      // in the order of their codes
}

// set makes the code that has these lengths; a length of 0 is a symbol that does not occur. A code that leaves bit strings without meaning is only
// allowed with one symbol or none, as zlib has it.
func (h *huffman) set(lengths []uint8) error {
	h.count = [maxBits + 1]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	left := 1
	var offset, code [maxBits + 2]uint16
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return fmt.Errorf("more codes than bits: %w", ErrCorrupt)
		}
		offset[n+1] = offset[n] + h.count[n]
		code[n+1] = (code[n] + h.count[n]) << 1
	}
	if left > 0 && (used > 1 || used == 1 && h.count[1] != 1) {
		return fmt.Errorf("fewer codes than bits: %w", ErrCorrupt)
	}
	h.fast = [1 << fastBits]uint16{}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[offset[n]] = uint16(symbol)
		offset[n]++
		h.enter(code[n], n, uint16(symbol))
		code[n]++
	}
	return nil
}

// enter writes a short code wherever its bits, which arrive highest first, are the lowest of an index.
func (h *huffman) enter(code uint16, n uint8, symbol uint16) {
	if n > fastBits {
		return
	}
	reversed := 0
	for i := range n {
		reversed |= int(code>>i&1) << (n - 1 - i)
	}
	for i := reversed; i < len(h.fast); i += 1 << n {
		h.fast[i] = symbol<<4 | uint16(n)
	}
}

// decode finds the symbol that nbits bits begin with, and its length. errShort: there are too few.
func (h *huffman) decode(bits uint64, nbits uint) (symbol int, used uint, err error) {
	if e := h.fast[bits%(1<<fastBits)]; e != 0 && uint(e&15) <= nbits {
		return int(e >> 4), uint(e & 15), nil
	}
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxBits; n++ {
		if n > nbits {
			return 0, 0, errShort
		}
		code |= int(bits >> (n - 1) & 1)
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbols[index+code-first]), n, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, fmt.Errorf("bits that are no code: %w", ErrCorrupt)
}

// fixed sets the codes that are agreed on (section 3.2.6).
func (r *Reader) fixed() error {
	var lengths [literals]uint8
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	if err := r.literal.set(lengths[:]); err != nil {
		return err
	}
	var distances [32]uint8 // two of them mean nothing
	for i := range distances {
		distances[i] = 5
	}
	return r.dist.set(distances[:])
}

// order is that of the lengths of the code that lengths are written in (section 3.2.7).
var order = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the codes of a block (section 3.2.7).
func (r *Reader) dynamic() error {
	sizes, err := r.wait(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncode := sizes&31+257, sizes>>5&31+1, sizes>>10+4
	if nlit > literals-2 || ndist > dists {
		return fmt.Errorf("%d literal and %d distance codes: %w", nlit, ndist, ErrCorrupt)
	}
	var lengths [literals + 32]uint8
	for _, at := range order[:ncode] {
		n, err := r.wait(3)
		if err != nil {
			return err
		}
		lengths[at] = uint8(n)
	}
	if err := r.literal.set(lengths[:len(order)]); err != nil {
		return err
	}
	clear(lengths[:])
	if err := r.lengths(lengths[:nlit+ndist]); err != nil {
		return err
	}
	if lengths[endOfBlock] == 0 {
		return fmt.Errorf("a block that cannot end: %w", ErrCorrupt)
	}
	if err := r.literal.set(lengths[:nlit]); err != nil {
		return err
	}
	return r.dist.set(lengths[nlit : nlit+ndist])
}

// lengths reads the lengths of all codes, in the code that literal has for now.
func (r *Reader) lengths(list []uint8) error {
	for i := 0; i < len(list); {
		symbol, err := r.symbol()
		if err != nil {
			return err
		}
		if symbol < 16 {
			list[i] = uint8(symbol)
			i++
			continue
		}
		bits, least := uint(2), 3
		switch symbol {
		case 17:
			bits = 3
		case 18:
			bits, least = 7, 11
		}
		n, err := r.wait(bits)
		if err != nil {
			return err
		}
		n += least
		if i+n > len(list) || symbol == 16 && i == 0 {
			return fmt.Errorf("lengths of codes: %w", ErrCorrupt)
		}
		for ; n > 0; n-- {
			if symbol == 16 {
				list[i] = list[i-1]
			}
			i++
		}
	}
	return nil
}

// symbol is the next one of literal; it waits for src.
func (r *Reader) symbol() (int, error) {
	for {
		symbol, used, err := r.literal.decode(r.bits, r.nbits)
		if err == nil {
			r.bits >>= used
			r.nbits -= used
			return symbol, nil
		}
		if !errors.Is(err, errShort) {
			return 0, err
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}
