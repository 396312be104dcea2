package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Receive adds bytes that the primary's Tap saw to this copy. They must belong at exactly the end of what was
// received before; pieces need not end where records do. Everything is checked before it is written: bytes
// that are not the next part of a volume are refused, and so is whatever comes behind them.
func (v *Volume) Receive(off int64, p []byte) error {
	v.disk.Lock()
	defer v.disk.Unlock()
	v.mu.Lock()
	err := v.writable(roleReplica)
	v.mu.Unlock()
	if err != nil {
		return err
	}
	return v.receive(off, p, false)
}

// Extend is Receive for mending a copy that is too short, with raw bytes of another copy: it works on a
// volume that is sealed or was opened. Commit makes the bytes durable. At the end of the durable part it begins anew, as with bytes of
// another copy than before: what was received and not committed is given up. Of bytes that are refused the whole records at their beginning
// are taken all the same, so that two copies which are damaged in different places make a whole one.
func (v *Volume) Extend(off int64, p []byte) error {
	return v.mend(func() error { return v.extend(off, p) })
}

func (v *Volume) extend(off int64, p []byte) error {
	if off == v.Durable() && (v.broken != nil || off != v.tail) {
		v.restart()
	}
	if v.tail < v.end {
		// Bytes that were given up must not show up behind the new end.
		if err := v.cutTo(v.tail); err != nil {
			return err
		}
	}
	return v.receive(off, p, true)
}

// mend calls do with everything that it needs to change the volume.
func (v *Volume) mend(do func() error) error {
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.mendable(); err != nil {
		return err
	}
	if err := v.hold(); err != nil {
		return err
	}
	err := v.thaw()
	if err == nil {
		err = do()
	}
	return errors.Join(err, v.drop())
}

// mendable says whether repair may write here.
func (v *Volume) mendable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.failed != nil:
		return v.failed
	case v.closed:
		return fmt.Errorf("volume %s: %w", v.header.ID, ErrClosed)
	case !v.sealed:
		return fmt.Errorf("volume %s: not sealed yet: %w", v.header.ID, ErrMisplaced)
	}
	return nil
}

// receive checks and writes the next bytes, of those that are refused the whole records at the beginning if these are to be kept. The
// caller holds disk.
func (v *Volume) receive(off int64, p []byte, keep bool) error {
	if v.broken != nil {
		return v.broken
	}
	if off != v.tail {
		return fmt.Errorf("volume %s: received offset %d, expected %d: %w", v.header.ID, off, v.tail, ErrMisplaced)
	}
	if off+int64(len(p)) > maxVolume {
		return fmt.Errorf("volume %s: %d bytes received: %w", v.header.ID, off+int64(len(p)), ErrTooLarge)
	}
	if err := v.room(int64(len(p))); err != nil {
		return err
	}
	before := *v.check
	if err := v.check.feed(p); err != nil {
		err = located(err, v.header.ID, v.check.number(), v.check.off)
		v.broken = fmt.Errorf("receive: %w", err)
		if !keep || v.check.whole <= off {
			*v.check = before // none of p is written
			return v.broken
		}
		return cmp.Or(v.put(off, p[:v.check.whole-off]), v.broken)
	}
	return v.put(off, p)
}

// put writes what was checked.
func (v *Volume) put(off int64, p []byte) error {
	if err := v.fillAhead(off, int64(len(p))); err != nil {
		return err
	}
	if _, err := v.file.WriteAt(p, off); err != nil {
		return v.fail("write", err)
	}
	v.tail += int64(len(p))
	return nil
}

// Commit makes what was received durable and says how far: to the end of the last whole record. Its
// callers share fsyncs by calling it once for many pieces.
func (v *Volume) Commit() (int64, error) {
	v.disk.Lock()
	defer v.disk.Unlock()
	v.mu.Lock()
	err, durable := v.failed, v.durable
	if v.closed {
		err = fmt.Errorf("volume %s: %w", v.header.ID, ErrClosed)
	}
	v.mu.Unlock()
	if err != nil || v.check == nil || v.check.whole <= durable {
		return durable, err
	}
	if err := v.sync(); err != nil {
		return durable, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.check.ended {
		v.index = place(v.index, p)
		if p.kind == KindDictionary {
			v.dictionaries = append(v.dictionaries, p.number)
		}
	}
	v.found += uint64(len(v.check.ended))
	v.check.ended = v.check.ended[:0]
	slices.Sort(v.dictionaries) // later generations have them in any order
	v.durable = v.check.whole
	return v.durable, nil
}

// Truncate gives up what lies behind length, which must be the end of a record or of the file header.
// The volume must be sealed or opened: the directory has sealed it at that length, so that no record
// behind it was ever acknowledged.
func (v *Volume) Truncate(length int64) error {
	v.mu.Lock()
	done := v.saved != nil && v.durable == length && v.failed == nil && !v.closed
	v.mu.Unlock()
	if done {
		return nil // with an index file, the volume ends there and nowhere else
	}
	return v.mend(func() error {
		if err := v.forget(length); err != nil {
			return err
		}
		err := v.cutTo(length)
		v.restart()
		return err
	})
}

// forget takes the records behind length out of the index.
func (v *Volume) forget(length int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	damage := slices.Clone(v.damage)
	for n := len(damage); n > 0 && damage[n-1].Start >= length; n-- {
		damage = damage[:n-1]
	}
	boundary := length == v.durable || len(damage) < len(v.damage) && v.damage[len(damage)].Start == length
	at, found, first := position(length), v.found, len(v.index)
	for i, p := range v.index {
		boundary = boundary || p == at && length%alignment == 0
		if p != 0 && p >= at {
			found--
			first = min(first, i)
		}
	}
	if !boundary || length > v.durable {
		return fmt.Errorf("volume %s: %d is not the end of a record: %w", v.header.ID, length, ErrMisplaced)
	}
	v.endless = v.endless && length == v.durable
	v.damage, v.found, v.durable = damage, found, length
	v.dictionaries = slices.DeleteFunc(v.dictionaries, func(n uint64) bool { return v.index[n-1] >= at })
	if v.rules.sparse() {
		for i, p := range v.index {
			if p >= at {
				v.index[i] = 0
			}
		}
		return nil
	}
	v.index = v.index[:first]
	if n := len(damage); n == 0 || damage[n-1].End != length {
		v.index = withoutLost(v.index)
	}
	return nil
}

// withoutLost drops the records at the end of an index that have no place.
func withoutLost(index []uint32) []uint32 {
	for len(index) > 0 && index[len(index)-1] == 0 {
		index = index[:len(index)-1]
	}
	return index
}

// cutTo makes the file end there, durably. The caller holds disk.
func (v *Volume) cutTo(length int64) error {
	info, err := v.file.Stat()
	if err == nil {
		err = cutFile(v.file, length, info.Size())
	}
	if err != nil {
		return v.fail("cut", err)
	}
	v.end, v.filled = length, length
	return nil
}

// zeroSize is how much of a tail is overwritten at a time.
const zeroSize = 64 << 10

// cutFile gives up the bytes behind length. A file system layer that hides truncation gets zeros
// instead, which Open takes for the end of the volume just as well.
func cutFile(f vfs.File, length, size int64) error {
	if size <= length {
		return f.Sync()
	}
	if t, ok := f.(interface{ Truncate(size int64) error }); ok {
		if err := t.Truncate(length); err != nil {
			return err
		}
		return f.Sync()
	}
	zeros := make([]byte, min(size-length, zeroSize))
	for at := length; at < size; at += int64(len(zeros)) {
		zeros = zeros[:min(size-at, int64(len(zeros)))]
		if _, err := f.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return f.Sync()
}
