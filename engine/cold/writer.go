package cold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	suffix          = ".frag"
	temporarySuffix = durable.TemporarySuffix
	syncEvery       = 8 << 20 // bytes written between two fsyncs: what a crash may undo, and what memory waits for the disk
)

// Sink takes the blocks of one fragment in their order, as they will be in its file.
type Sink interface {
	Append(ctx context.Context, stored []byte) error
}

// Writer makes one fragment file. One goroutine uses it.
type Writer struct {
	fs     vfs.FS
	path   string
	layout Layout
	index  int
	file   vfs.File
	next   int64 // block
	dirty  int64 // bytes since the last fsync
	dead   error
}

// Begin makes a fragment file at path, or goes on with what an earlier attempt left there: see Next.
func Begin(ctx context.Context, fs vfs.FS, path string, l Layout, index int) (*Writer, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if index < 0 || index >= l.Fragments() {
		return nil, fmt.Errorf("fragment %d of volume %s in %d+%d: %w", index, l.Volume, l.Data, l.Parity, ErrLayout)
	}
	w := &Writer{fs: fs, path: path, layout: l, index: index}
	if err := w.begin(ctx); err != nil {
		if w.file != nil {
			err = errors.Join(err, w.file.Close())
		}
		return nil, fmt.Errorf("begin fragment %d of volume %s: %w", index, l.Volume, err)
	}
	return w, nil
}

func (w *Writer) begin(ctx context.Context) error {
	block, err := header{Layout: w.layout, Index: uint8(w.index)}.encode()
	if err != nil {
		return err
	}
	temporary := w.path + temporarySuffix
	if _, err := w.fs.Stat(temporary); err == nil {
		if w.file, err = w.fs.OpenReadWrite(temporary, vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
		old := make([]byte, headerSize)
		if n, _ := w.file.ReadAt(old, 0); n == headerSize && bytes.Equal(old, block) {
			return w.resume(ctx)
		}
		// Of another attempt's layout, or torn: nothing in it is of use.
		err, w.file = w.file.Close(), nil
		if err != nil {
			return err
		}
		if err := w.fs.Remove(temporary); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if w.file, err = w.fs.Create(temporary, vfs.WriteCategoryUnspecified); err != nil {
		return err
	}
	_, err = w.file.WriteAt(block, 0)
	return err
}

// resume finds the last good block of an earlier attempt. Blocks behind a bad one are written again.
func (w *Writer) resume(ctx context.Context) error {
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	f := &Fragment{layout: w.layout, index: w.index, file: w.file, holds: 1}
	for left := info.Size() - headerSize; w.next < w.layout.Blocks(); w.next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if left -= w.layout.stored(w.next, 1); left < 0 {
			return nil
		}
		if _, err := f.ReadBlocks(ctx, w.next, 1); err != nil {
			return nil // torn, or not readable: what is written there now will tell
		}
	}
	return nil
}

// Next is the block that Append has to begin with: 0, or further on after an attempt that did not end.
func (w *Writer) Next() int64 { return w.next }

// Append implements Sink: it checks the blocks and writes them. After an error the writer is of no use any more.
func (w *Writer) Append(ctx context.Context, stored []byte) error {
	if w.dead != nil {
		return w.dead
	}
	n := (int64(len(stored)) + BlockSize - 1) / BlockSize
	if n < 1 || n > batch {
		return fmt.Errorf("fragment %d of volume %s: %d bytes at once: %w", w.index, w.layout.Volume, len(stored), ErrLayout)
	}
	if err := w.layout.check(w.index, w.next, n, stored); err != nil {
		return fmt.Errorf("append to fragment: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(stored, position(w.next)); err != nil {
		return w.fail("write", err)
	}
	w.next += n
	if w.dirty += int64(len(stored)); w.dirty < syncEvery {
		return nil
	}
	w.dirty = 0
	if err := w.file.SyncData(); err != nil {
		return w.fail("fsync", err)
	}
	return nil
}

// fail gives the attempt up with its file: what a failed write or fsync left is never trusted.
func (w *Writer) fail(doing string, err error) error {
	w.dead = fmt.Errorf("fragment %d of volume %s: %s: %w", w.index, w.layout.Volume, doing, err)
	err = errors.Join(w.dead, w.file.Close(), w.fs.Remove(w.path+temporarySuffix))
	w.file = nil
	return err
}

// Finish makes the fragment complete: durable, read back from its file, and under its name.
func (w *Writer) Finish(ctx context.Context) error {
	if w.dead != nil {
		return w.dead
	}
	if w.next != w.layout.Blocks() {
		return fmt.Errorf("fragment %d of volume %s has %d of %d blocks: %w", w.index, w.layout.Volume, w.next, w.layout.Blocks(), ErrLayout)
	}
	if err := w.file.Sync(); err != nil {
		return w.fail("fsync", err)
	}
	f := &Fragment{layout: w.layout, index: w.index, file: w.file, holds: 1}
	damaged, err := f.Verify(ctx, nil)
	if err != nil {
		return err
	}
	if len(damaged) > 0 {
		return w.fail("read back", &DamageError{Volume: w.layout.Volume, Index: w.index, Block: damaged[0], Reason: "not what was written"})
	}
	if err := w.file.Close(); err != nil {
		w.dead = fmt.Errorf("fragment %d of volume %s: close: %w", w.index, w.layout.Volume, err)
		return errors.Join(w.dead, w.fs.Remove(w.path+temporarySuffix))
	}
	w.file, w.dead = nil, ErrClosed
	if err := w.fs.Rename(w.path+temporarySuffix, w.path); err != nil {
		return fmt.Errorf("fragment %d of volume %s: name it: %w", w.index, w.layout.Volume, err)
	}
	return durable.SyncDir(w.fs, w.fs.PathDir(w.path))
}

// Close leaves what is not finished for the next attempt. After Finish it does nothing.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	file := w.file
	w.file, w.dead = nil, ErrClosed
	if err := file.Close(); err != nil {
		return errors.Join(fmt.Errorf("close fragment %d of volume %s: %w", w.index, w.layout.Volume, err), w.fs.Remove(w.path+temporarySuffix))
	}
	return nil
}
