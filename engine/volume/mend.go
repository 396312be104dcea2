package volume

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patchesMost is how many bytes are mended between two fsyncs.
const patchesMost = 4 << 20

// patch is a place that was overwritten.
type patch struct {
	off int64
	n   int
	sum uint32
}

// overwrite puts the right bytes at the walker's place.
func (w *walker) overwrite(p []byte) error {
	v := w.v
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.mendable(); err != nil {
		return err
	}
	w.patches = append(w.patches, patch{w.off, len(p), checksum(p)})
	if _, err := v.file.WriteAt(p, w.off); err != nil {
		return v.fail("mend", err)
	}
	w.out.Bytes += int64(len(p))
	if w.unsynced += len(p); w.unsynced < patchesMost {
		return nil
	}
	return w.syncPatches()
}

// settle makes durable what is not yet.
func (w *walker) settle() error {
	w.v.disk.Lock()
	defer w.v.disk.Unlock()
	if len(w.patches) == 0 {
		return nil
	}
	if err := w.v.mendable(); err != nil {
		return err
	}
	return w.syncPatches()
}

// syncPatches fsyncs what was overwritten and reads it back: a disk that lost bytes once is not taken at its word. The
// caller holds disk.
func (w *walker) syncPatches() error {
	v := w.v
	if err := v.file.Sync(); err != nil {
		return v.fail("fsync what was mended", err)
	}
	for _, p := range w.patches {
		b := newBuffer(p.n)
		forgetPages(v.file, p.off, int64(p.n))
		n, err := v.file.ReadAt(b.b[:p.n], p.off)
		same := n == p.n && checksum(b.b[:p.n]) == p.sum
		b.release()
		if !same {
			if err == nil || errors.Is(err, io.EOF) {
				err = &CorruptError{Volume: v.header.ID, Offset: p.off, Reason: "the disk gives other bytes than were just written"}
			}
			return v.fail("read back what was mended", err)
		}
	}
	w.patches, w.unsynced = w.patches[:0], 0
	return nil
}

// Sound reads a whole message and says whether it is what its hash says, which the checksums of its parts do not prove:
// *CorruptError if not. Of an encrypted record, which needs its key, every part proves by its tag that it is what was written.
func (v *Volume) Sound(record uint64) error {
	info, err := v.Stat(record)
	if err != nil {
		return err
	}
	r, err := v.Open(record, 0, info.Length)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	if err = errors.Join(err, r.Close()); err != nil || info.Sealed || [32]byte(sum.Sum(nil)) == info.Hash {
		return err
	}
	return &CorruptError{Volume: v.header.ID, Record: record, Reason: "content is not what its hash says"}
}

// Within lists the records that lie in a part of the file, or reach into it.
func (v *Volume) Within(start, end int64) ([]uint64, error) {
	at, _, err := v.layout()
	if err != nil {
		return nil, err
	}
	var out []uint64
	for i, p := range at.sorted {
		next := at.end
		if i+1 < len(at.sorted) {
			next = int64(at.sorted[i+1].position) * alignment
		}
		if int64(p.position)*alignment < end && next > start {
			out = append(out, p.number)
		}
	}
	return out, nil
}

// Verify checks a volume's copy (Volume.Verify). Records that opening had not found are known again when they were mended, or the disk gives them now.
func (s *Set) Verify(id ID, c Check) (*Checked, error) {
	return s.verify(id, func(v *Volume) (*Checked, error) { return v.Verify(c) })
}

// Mend checks one record of a volume's copy (Volume.Mend).
func (s *Set) Mend(id ID, record uint64, c Check) (*Checked, error) {
	return s.verify(id, func(v *Volume) (*Checked, error) { return v.Mend(record, c) })
}

func (s *Set) verify(id ID, check func(*Volume) (*Checked, error)) (*Checked, error) {
	v, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	out, err := check(v)
	if err != nil || out.Mended == 0 && out.Digest == [32]byte{} || len(v.Damage()) == 0 {
		return out, err
	}
	if _, err := s.Reopen(id); err != nil {
		return out, fmt.Errorf("open volume %s again after it was mended, or found whole: %w", id, err)
	}
	return out, nil
}

// MendHeader overwrites the damaged header block of a file by another copy's. ErrMisplaced: no record of the file goes with
// that block, so there is nothing in the file to keep.
func (s *Set) MendHeader(id ID, block []byte) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if e.volume != nil {
		return nil // it was opened meanwhile, so its header is whole
	}
	if err := mendHeader(s.fs, s.path(id), id, block); err != nil {
		return fmt.Errorf("mend header of volume %s: %w", id, err)
	}
	return nil
}

func mendHeader(fs vfs.FS, path string, id ID, block []byte) error {
	h, seed, err := decodeFileHeader(block)
	if err != nil {
		return located(err, id, 0, 0)
	}
	if h.ID != id {
		return fmt.Errorf("header block of volume %s: %w", h.ID, ErrMisplaced)
	}
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err = holdsRecord(f, h.rules(seed)); err == nil {
		if _, err = f.WriteAt(block[:fileHeaderSize], 0); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// holdsRecord looks for a first record of the file.
func holdsRecord(f vfs.File, r rules) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s := &scanner{file: f, rules: r, order: r.orderAfter(nil), size: info.Size(), off: fileHeaderSize, buf: newBuffer(searchWindow)}
	defer s.buf.release()
	if _, ok := s.headerAt(fileHeaderSize); ok {
		return nil
	}
	if _, _, ok := s.search(fileHeaderSize); ok {
		return nil
	}
	return fmt.Errorf("no record goes with that header block: %w", ErrMisplaced)
}

// Recheck looks whether the file under a volume's name is still the one that is open, and as long as it should be, and whether its
// key file is there. If not, they are closed, to be opened anew by whoever asks next, and true comes back. A file that is gone is forgotten.
func (s *Set) Recheck(id ID) (bool, error) {
	e, err := s.find(id)
	if err != nil {
		return false, err
	}
	defer e.mu.Unlock()
	info, err := s.fs.Stat(s.path(id))
	gone := errors.Is(err, os.ErrNotExist)
	if err != nil && !gone {
		return false, fmt.Errorf("look at volume %s: %w", id, err)
	}
	v := e.volume
	if !gone && (v == nil || info.Size() >= v.Durable() && v.isOpenFile(info)) {
		return s.recheckKeys(e)
	}
	e.volume = nil
	if gone {
		e.gone = true
		s.forget(id)
	}
	if v != nil {
		err = v.close(false)
	} else {
		err = nil
	}
	return true, errors.Join(err, e.keys.rest())
}

// recheckKeys does the same for the key file of a volume that is open.
func (s *Set) recheckKeys(e *entry) (bool, error) {
	if e.volume == nil || !e.volume.header.Encrypted {
		return false, nil
	}
	if _, err := s.fs.Stat(e.keys.path); !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return true, e.keys.rest()
}
