package volume

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"hongyan/engine/durable"
)

// How a volume and its index file (savedIndex) go together:
//
//  1. While a volume is written, is mended, or has damage, its index is in memory, and there is no index file.
//  2. When it is sealed and whole, save writes the file and gives the memory back; places are looked up in the file then.
//  3. Before the volume's length or records change, thaw reads the index back and removes the file, durably. Damage that is
//     overwritten in place by what stood there changes neither.
//
// So the index file is never ahead of the volume. Whatever crash or damage comes between, the volume is scanned: a file of
// another length, generation or seed is not used, and a block of it that is damaged is found by its checksum.

func (v *Volume) indexPath() string { return indexPath(v.path) }

// indexPath is where the index of a volume is kept.
func indexPath(path string) string { return strings.TrimSuffix(path, volumeSuffix) + indexSuffix }

// highest is the highest record number that is known. The caller holds mu.
func (v *Volume) highest() uint64 {
	if v.saved != nil {
		return v.saved.fields.Highest
	}
	return uint64(len(v.index))
}

// adopt uses the index file beside a volume that is being opened, if there is one of just this state of the file.
func (v *Volume) adopt(size int64) bool {
	x, err := openIndex(v.fs, v.indexPath())
	if err != nil {
		return false // it is made anew, whatever is wrong with it
	}
	f := x.fields
	if f.Volume != v.header.ID || f.Generation != v.header.Generation || f.Seed != v.rules.seed || f.Length != size {
		return false
	}
	v.saved, v.found, v.durable, v.tail = x, f.Found, size, size
	v.dictionaries = f.Dictionaries
	return true
}

// save is step 2. The caller holds disk. That it fails is no harm but to the next start, and is counted.
func (v *Volume) save() {
	v.mu.Lock()
	ready := v.sealed && !v.closed && v.failed == nil && v.saved == nil && len(v.damage) == 0 && len(v.index) > 0 &&
		v.tail == v.durable && v.end <= v.durable && len(v.dictionaries) <= maxDictionaries
	f := indexFields{Volume: v.header.ID, Generation: v.header.Generation, Seed: v.rules.seed, Length: v.durable,
		Found: v.found, Dictionaries: v.dictionaries}
	at := v.index // of a sealed volume it changes under disk only
	v.mu.Unlock()
	if !ready {
		return
	}
	v.unindexed = false
	x, err := writeIndex(v.fs, v.indexPath(), f, at)
	if err != nil {
		v.o.shared.saveFailures.Add(1)
		return
	}
	v.o.shared.saves.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.saved, v.index, v.check = x, nil, nil
}

// thaw is step 3. The caller holds disk, and the file.
func (v *Volume) thaw() error {
	v.mu.Lock()
	x := v.saved
	v.mu.Unlock()
	if x == nil {
		return v.unindex()
	}
	at, err := x.all()
	var damage []Span
	if unusable(err) {
		at, damage = v.scanAgain(x.fields.Highest)
	} else if err != nil {
		return fmt.Errorf("volume %s: %w", v.header.ID, err)
	}
	if err := v.unindex(); err != nil {
		return err
	}
	v.mu.Lock()
	v.saved, v.index, v.damage = nil, at, damage
	v.found = countPlaces(at)
	v.mu.Unlock()
	v.restart()
	return nil
}

// scanAgain finds the records of a volume whose length is known: what cannot be made out is damage, up to its end.
func (v *Volume) scanAgain(highest uint64) (at []uint32, damage []Span) {
	s := newScanner(v.file, v.rules, v.durable)
	s.all = true
	s.run()
	s.upTo(highest)
	v.o.shared.scans.Add(1)
	return s.index, s.damage
}

// reindex makes the index anew when the file it was read from turned out to be damaged or gone.
func (v *Volume) reindex(x *savedIndex) error {
	v.disk.Lock()
	defer v.disk.Unlock()
	v.mu.Lock()
	again := v.saved == x
	v.mu.Unlock()
	if !again {
		return nil // somebody else did
	}
	if err := v.thaw(); err != nil {
		return err
	}
	v.save()
	return nil
}

// places gives a copy of the whole index, and the length that it is about. A damaged index file is made anew on the way. The
// caller holds the volume.
func (v *Volume) places() (at []uint32, length int64, err error) {
	for {
		v.mu.Lock()
		x, length := v.saved, v.durable
		at := slices.Clone(v.index)
		v.mu.Unlock()
		if x == nil {
			return at, length, nil
		}
		at, err := x.all()
		if !unusable(err) {
			return at, length, err
		}
		if err := v.reindex(x); err != nil {
			return nil, 0, err
		}
	}
}

// unusable says that an index file is damaged or gone, rather than that it could not be opened at the moment.
func unusable(err error) bool {
	var m malformed
	return errors.As(err, &m) || errors.Is(err, os.ErrNotExist)
}

func countPlaces(at []uint32) (n uint64) {
	for _, p := range at {
		if p != 0 {
			n++
		}
	}
	return n
}

// unindex removes the volume's index file, durably: one that is not there may come back with a crash, if nobody has synced that.
// The caller holds disk. Who only looks at the volume leaves the file alone.
func (v *Volume) unindex() error {
	v.mu.Lock()
	looking := errors.Is(v.failed, ErrReadOnly)
	v.mu.Unlock()
	if v.unindexed || looking {
		return nil
	}
	err := v.fs.Remove(v.indexPath())
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = durable.SyncDir(v.fs, v.fs.PathDir(v.path))
	}
	if err != nil {
		return fmt.Errorf("volume %s: remove its index before it changes: %w", v.header.ID, err)
	}
	v.unindexed = true
	return nil
}
