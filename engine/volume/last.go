package volume

import (
	"fmt"
	"slices"
)

// Offsets and record numbers say the same of a volume as it was appended to: its records are numbered from 1 on, in the order of the
// file. Copies acknowledge offsets, references have numbers.

// LastBefore is the number of the last record that ends at or before length, which is the end of one; 0 if none does. Where damage
// lies right before length it is the most that it can be. A later generation, whose records are in another order, is ErrMisplaced.
func (v *Volume) LastBefore(length int64) (uint64, error) {
	if v.rules.sparse() {
		return 0, fmt.Errorf("volume %s: last record before %d of generation %d: %w", v.header.ID, length, v.header.Generation, ErrMisplaced)
	}
	v.mu.Lock()
	x := v.saved
	if x == nil {
		defer v.mu.Unlock()
		return lastPlace(v.index, length) + hidden(v.damage, length), nil
	}
	v.mu.Unlock()
	if length >= x.fields.Length {
		return x.fields.Highest, nil // there is no damage in a volume with an index file
	}
	if err := v.hold(); err != nil {
		return 0, err
	}
	at, _, err := v.places()
	if dropErr := v.drop(); err == nil {
		err = dropErr
	}
	return lastPlace(at, length), err
}

// lastPlace is the highest number whose record begins before length. It is asked for near the end mostly.
func lastPlace(index []uint32, length int64) uint64 {
	for i, p := range slices.Backward(index) {
		if p != 0 && int64(p)*alignment < length {
			return uint64(i + 1)
		}
	}
	return 0
}

// hidden is how many records there can be, at most, in damage that reaches length.
func hidden(damage []Span, length int64) uint64 {
	for _, s := range damage {
		if s.Start < length && s.End >= length {
			return uint64((length - s.Start) / recordHeaderSize)
		}
	}
	return 0
}

// EndOf is where a durable record ends in the file of a volume as it was appended to.
func (v *Volume) EndOf(record uint64) (int64, error) {
	if v.rules.sparse() {
		return 0, fmt.Errorf("volume %s: end of record %d in generation %d: %w", v.header.ID, record, v.header.Generation, ErrMisplaced)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if record == 0 || record > v.highest() {
		return 0, fmt.Errorf("volume %s: end of record %d: %w", v.header.ID, record, ErrNotFound)
	}
	if v.saved != nil {
		return v.durable, nil // not before its end, and nobody appends any more
	}
	for _, p := range v.index[record:] {
		if p != 0 {
			return int64(p) * alignment, nil
		}
	}
	return v.durable, nil
}
