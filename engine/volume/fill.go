package volume

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

// Fill makes a copy as long as its volume was sealed with bytes of another copy that do not all verify: what is damaged there
// becomes damage here, and the records behind it are kept twice again. It is for when no copy has the damaged part, which would
// otherwise keep all that follows from being copied.
//
// The new file is made beside the present one and takes its place by a rename, so a crash leaves one or the other, or a temporary
// file that OpenSet removes. Records of the present file stay as they are.
func (s *Set) Fill(id ID, length int64, rest io.ReaderAt) error {
	v, err := s.Get(id)
	if err != nil {
		return err
	}
	durable := v.Durable()
	if !v.Stats().Sealed || durable >= length {
		return fmt.Errorf("fill volume %s from %d to %d: %w", id, durable, length, ErrMisplaced)
	}
	if free, err := s.FreeBytes(); err == nil && free < uint64(length) {
		return fmt.Errorf("fill volume %s: %d bytes free, %d needed: %w", id, free, length, ErrFull)
	}
	path := s.path(id)
	err = s.assemble(path+temporarySuffix, io.MultiReader(io.NewSectionReader(rawReader{v}, 0, durable), io.NewSectionReader(rest, durable, length-durable)))
	if err == nil {
		err = s.exchange(id, v, path)
	}
	if err != nil {
		if removeErr := s.fs.Remove(path + temporarySuffix); !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
		return fmt.Errorf("fill volume %s from %d to %d: %w", id, durable, length, err)
	}
	return nil
}

// assemble writes a file durably.
func (s *Set) assemble(path string, content io.Reader) error {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	buf := make([]byte, RangeSize)
	for err == nil {
		var n int
		n, err = io.ReadFull(content, buf)
		if n > 0 {
			if _, writeErr := f.Write(buf[:n]); writeErr != nil {
				err = writeErr
			}
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// exchange puts the temporary file in the place of the one that v has open.
func (s *Set) exchange(id ID, v *Volume, path string) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if e.volume != v {
		return fmt.Errorf("the volume was opened anew meanwhile: %w", ErrClosed)
	}
	e.volume = nil
	if err := v.close(false); err != nil {
		return err
	}
	if err := s.fs.Rename(path+temporarySuffix, path); err != nil {
		return err
	}
	return durable.SyncDir(s.fs, s.dir)
}

// rawReader gives a volume's file.
type rawReader struct{ v *Volume }

// ReadAt implements io.ReaderAt.
func (r rawReader) ReadAt(p []byte, off int64) (int, error) { return r.v.ReadRaw(off, p) }
