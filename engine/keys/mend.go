package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Secret gives what another copy of the volume needs: the volume key and all slots.
func (f *File) Secret() (*Secret, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	s := &Secret{Key: f.key, Slots: make([]byte, 0, sectors(f.slots)*sectorSlots*slotSize)}
	err := f.eachRun(func(_ int, run []byte, damaged []error) error {
		for ; len(run) > 0; run = run[sectorSize:] {
			s.Slots = append(s.Slots, run[:sectorSlots*slotSize]...)
		}
		return errors.Join(damaged...)
	})
	if err != nil {
		return nil, fmt.Errorf("read the keys of volume %016x: %w", f.volume, err)
	}
	s.Slots = s.Slots[:f.slots*slotSize]
	return s, nil
}

// Rewrap wraps the volume key by the master's newest key and writes both copies of the header, the older one first. The slots
// are not touched.
func (f *File) Rewrap(ctx context.Context, m Master) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rewrap(ctx, m); err != nil {
		return fmt.Errorf("rewrap the key of volume %016x: %w", f.volume, err)
	}
	return nil
}

func (f *File) rewrap(ctx context.Context, m Master) error {
	if !f.writable {
		return fmt.Errorf("%s: %w", f.path, ErrFailed)
	}
	h := f.header
	h.Sequence++
	var err error
	if h.Master, h.Wrapped, err = wrapKey(ctx, m, h.Volume, &f.key); err != nil {
		return err
	}
	// A key service that answered with something else than it was given would lose the volume.
	if key, err := unwrapKey(ctx, m, h); err != nil {
		return err
	} else if key != f.key {
		return fmt.Errorf("master key %s gave back another key: %w", h.Master, ErrWrongKey)
	}
	return f.writeHeaders(h)
}

// writeHeaders replaces the copies one after the other, beginning with the one that is of less use.
func (f *File) writeHeaders(h header) error {
	block, err := encodeHeader(h)
	if err != nil {
		return err
	}
	order := [headers]int{0, 1}
	if f.stale[1] {
		order = [headers]int{1, 0}
	}
	for _, i := range order {
		if err := f.write(bytes.Clone(block), int64(i)*headerSize); err != nil {
			return err
		}
		if err := f.sync(); err != nil {
			return err
		}
		f.stale[i] = false
		f.header = h
	}
	return nil
}

// Damage lists what is damaged, by offset in the file: header copies and sectors. It reads the whole file.
func (f *File) Damage() ([]int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.readHeaders(); err != nil {
		return nil, err
	}
	var found []int64
	for i, stale := range f.stale {
		if stale {
			found = append(found, int64(i)*headerSize)
		}
	}
	err := f.eachRun(func(first int, _ []byte, damaged []error) error {
		for i, err := range damaged {
			switch {
			case corrupt(err):
				found = append(found, sectorOffset(first+i))
			case err != nil:
				return err
			}
		}
		return nil
	})
	return found, err
}

// readHeaders looks again which copies of the header on the disk are what this File knows.
func (f *File) readHeaders() error {
	all, err := readHeaders(f.f, f.path)
	if err != nil {
		return err
	}
	for i, h := range all {
		f.stale[i] = h.err != nil || h.Sequence != f.header.Sequence || !bytes.Equal(h.Wrapped, f.header.Wrapped)
	}
	return nil
}

// Mend rewrites damaged sectors from another copy's secret, and the header's copies from the good one. Sectors that are whole
// stay as they are, whatever the other copy says, so no destroyed key comes back through them; in a mended one a key that only
// this copy had destroyed does, and has to be destroyed again. It gives the number of places mended.
func (f *File) Mend(from *Secret) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.mend(from)
	if err != nil {
		return n, fmt.Errorf("mend the key file of volume %016x: %w", f.volume, err)
	}
	return n, nil
}

func (f *File) mend(from *Secret) (mended int, err error) {
	switch {
	case !f.writable:
		return 0, fmt.Errorf("%s: %w", f.path, ErrFailed)
	case !from.same(&f.key) || len(from.Slots) != f.slots*slotSize:
		return 0, fmt.Errorf("the other copy has other keys: %w", ErrWrongKey)
	}
	var b [sectorSize]byte
	for i := range sectors(f.slots) {
		err := f.sector(i, b[:])
		if err == nil {
			continue
		}
		if !corrupt(err) {
			return mended, err
		}
		clear(b[:])
		copy(b[:sectorSlots*slotSize], from.Slots[i*sectorSlots*slotSize:])
		sealSector(b[:], f.volume, i)
		if err := f.write(b[:], sectorOffset(i)); err != nil {
			return mended, err
		}
		mended++
	}
	if err := f.sync(); err != nil {
		return mended, err
	}
	if err := f.readHeaders(); err != nil {
		return mended, err
	}
	if f.stale[0] || f.stale[1] {
		mended++
		return mended, f.writeHeaders(f.header)
	}
	return mended, nil
}
