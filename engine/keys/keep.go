package keys

import (
	"errors"
	"fmt"
)

// Keep destroys the keys of all records but those that stay, for good once it returns, and says how many there were. A damaged sector
// does not keep the others from it; on an error it is repeated when the sector has been mended. What is zero already is written again: it may be what an fsync
// that failed has left in memory, and not on the disk.
func (f *File) Keep(stay func(n uint64) bool) (destroyed uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.writable {
		return 0, fmt.Errorf("destroy keys of volume %016x: %s: %w", f.volume, f.path, ErrFailed)
	}
	var damage error
	err = f.eachRun(func(first int, run []byte, damaged []error) error {
		damage = errors.Join(damage, errors.Join(damaged...))
		n, err := f.keepRun(first, run, damaged, stay)
		destroyed += n
		return err
	})
	if err == nil {
		err = f.sync()
	}
	if err != nil {
		return 0, fmt.Errorf("destroy keys of volume %016x: %w", f.volume, err)
	}
	if damage != nil {
		return destroyed, fmt.Errorf("destroy keys of volume %016x: %w", f.volume, damage)
	}
	return destroyed, nil
}

// keepRun clears the slots of a run of sectors that do not stay, and writes the sectors that have some, neighbours together.
func (f *File) keepRun(first int, run []byte, damaged []error, stay func(n uint64) bool) (destroyed uint64, err error) {
	dirty := 0 // bytes before here that are to be written
	for at := 0; at <= len(run); at += sectorSize {
		if at < len(run) && damaged[at/sectorSize] == nil {
			n, cleared := f.keepSector(first+at/sectorSize, run[at:at+sectorSize], stay)
			destroyed += n
			if cleared {
				dirty += sectorSize
				continue
			}
		}
		if dirty > 0 {
			if err := f.write(run[at-dirty:at], sectorOffset(first)+int64(at-dirty)); err != nil {
				return destroyed, err
			}
		}
		dirty = 0
	}
	return destroyed, nil
}

// keepSector clears the slots of a sector that do not stay, and says whether there are any, and how many were not zero before.
func (f *File) keepSector(i int, b []byte, stay func(n uint64) bool) (destroyed uint64, cleared bool) {
	for s := range sectorSlots {
		n := uint64(i*sectorSlots + s + 1)
		if n > uint64(f.slots) || stay(n) {
			continue
		}
		cleared = true
		if slot := b[s*slotSize : (s+1)*slotSize]; !zero(slot) {
			clear(slot)
			destroyed++
		}
	}
	if destroyed > 0 {
		sealSector(b, f.volume, i)
	}
	return destroyed, cleared
}
