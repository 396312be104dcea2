package keys

import (
	"errors"
	"fmt"
)

// Keep destroys the keys of all records but those that stay, for good once it returns, and says how many there were. A damaged sector
// does not keep the others from it; on an error it is repeated when the sector has been mended.
func (f *File) Keep(stay func(n uint64) bool) (destroyed uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.writable {
		return 0, fmt.Errorf("destroy keys of volume %016x: %s: %w", f.volume, f.path, ErrFailed)
	}
	var damage error
	for i := range sectors(f.slots) {
		n, err := f.keepSector(i, stay)
		destroyed += n
		switch {
		case !f.writable:
			return 0, fmt.Errorf("destroy keys of volume %016x: %w", f.volume, err)
		case err != nil:
			damage = errors.Join(damage, err)
		}
	}
	if destroyed > 0 {
		if err := f.sync(); err != nil {
			return 0, fmt.Errorf("destroy keys of volume %016x: %w", f.volume, err)
		}
	}
	if damage != nil {
		return destroyed, fmt.Errorf("destroy keys of volume %016x: %w", f.volume, damage)
	}
	return destroyed, nil
}

// keepSector clears the slots of one sector that do not stay, and writes it if that changes anything.
func (f *File) keepSector(i int, stay func(n uint64) bool) (destroyed uint64, err error) {
	var b [sectorSize]byte
	if err := f.sector(i, b[:]); err != nil {
		return 0, err
	}
	for s := range sectorSlots {
		n := uint64(i*sectorSlots + s + 1)
		if n > uint64(f.slots) {
			break
		}
		_, at := place(n)
		slot := b[at : at+slotSize]
		if zero(slot) || stay(n) {
			continue
		}
		clear(slot)
		destroyed++
	}
	if destroyed == 0 {
		return 0, nil
	}
	sealSector(b[:], f.volume, i)
	return destroyed, f.write(b[:], sectorOffset(i))
}
