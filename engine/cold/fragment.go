package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// batch is how many stripes are in memory at a time: some megabyte of each fragment.
const batch = 64

// Fragment is a complete fragment file. Its methods may be called by several goroutines at once.
type Fragment struct {
	layout Layout
	index  int
	path   string
	file   vfs.File

	mu     sync.Mutex // guards what follows; never held during input or output
	holds  int        // the opener and the calls under way; the file is closed with the last one
	closed bool
}

// Open opens a fragment. It reads the header only; a *DamageError means that this, or the length, is wrong.
func Open(fs vfs.FS, path string) (*Fragment, error) {
	if _, err := fs.Stat(path); err != nil { // OpenReadWrite would make the file
		return nil, fmt.Errorf("open fragment: %w", err)
	}
	file, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open fragment: %w", err)
	}
	f, err := openFile(path, file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open fragment %s: %w", path, err), file.Close())
	}
	return f, nil
}

func openFile(path string, file vfs.File) (*Fragment, error) {
	h, err := readHeader(file)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if size := info.Size(); size != h.Layout.FileSize() {
		return nil, &DamageError{Volume: h.Layout.Volume, Index: int(h.Index), Block: -1,
			Reason: fmt.Sprintf("file of %d bytes, not %d", size, h.Layout.FileSize())}
	}
	return &Fragment{layout: h.Layout, index: int(h.Index), path: path, file: file, holds: 1}, nil
}

func readHeader(file vfs.File) (header, error) {
	b := make([]byte, headerSize)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return decodeHeader(b[:n])
}

// Layout says of which volume the fragment is.
func (f *Fragment) Layout() Layout { return f.layout }

// Index is the fragment's number, from 0; those from Layout().Data on are parity.
func (f *Fragment) Index() int { return f.index }

// ReadBlocks implements Source: n blocks from first on as they are in the file, all of them right.
func (f *Fragment) ReadBlocks(_ context.Context, first, n int64) ([]byte, error) {
	stored, err := f.readStored(first, n)
	if err != nil {
		return nil, err
	}
	if err := f.layout.check(f.index, first, n, stored); err != nil {
		return nil, err
	}
	return stored, nil
}

func (f *Fragment) readStored(first, n int64) ([]byte, error) {
	if first < 0 || n < 1 || n > batch || first > f.layout.Blocks()-n {
		return nil, fmt.Errorf("fragment %d of volume %s: %d blocks from %d on: %w", f.index, f.layout.Volume, n, first, ErrLayout)
	}
	if err := f.hold(); err != nil {
		return nil, err
	}
	b := make([]byte, f.layout.stored(first, n))
	got, err := f.file.ReadAt(b, position(first))
	if got == len(b) {
		err = nil
	}
	if err = errors.Join(err, f.drop()); err != nil {
		return nil, fmt.Errorf("fragment %d of volume %s: read %d blocks from %d on: %w", f.index, f.layout.Volume, n, first, err)
	}
	return b, nil
}

// Verify reads the whole fragment and lists the blocks that are not right, also those that the disk does not give. pace is
// asked before each batch; it may be nil.
func (f *Fragment) Verify(ctx context.Context, pace Pace) (damaged []int64, err error) {
	for first := int64(0); first < f.layout.Blocks(); first += batch {
		n := min(batch, f.layout.Blocks()-first)
		if err := pace.wait(ctx, f.layout.stored(first, n)); err != nil {
			return damaged, fmt.Errorf("verify fragment %d of volume %s: %w", f.index, f.layout.Volume, err)
		}
		if _, err := f.ReadBlocks(ctx, first, n); err == nil {
			continue
		} else if errors.Is(err, ErrClosed) {
			return damaged, err
		}
		for block := first; block < first+n; block++ {
			if _, err := f.ReadBlocks(ctx, block, 1); err != nil {
				damaged = append(damaged, block)
			}
		}
	}
	return damaged, nil
}

// Mend writes damaged blocks anew with what the other fragments give, and reads them back.
func (f *Fragment) Mend(ctx context.Context, from *Reader, blocks []int64) error {
	if from.layout != f.layout {
		return fmt.Errorf("mend fragment %d of volume %s: fragments of another file: %w", f.index, f.layout.Volume, ErrLayout)
	}
	if err := f.hold(); err != nil {
		return err
	}
	err := f.mend(ctx, from, blocks)
	if err = errors.Join(err, f.drop()); err != nil {
		return fmt.Errorf("mend fragment %d of volume %s: %w", f.index, f.layout.Volume, err)
	}
	return nil
}

func (f *Fragment) mend(ctx context.Context, from *Reader, blocks []int64) error {
	for _, block := range blocks {
		stored, err := from.restore(ctx, f.index, block, 1)
		if err != nil {
			return err
		}
		if _, err := f.file.WriteAt(stored, position(block)); err != nil {
			return fmt.Errorf("write block %d: %w", block, err)
		}
	}
	if err := f.file.Sync(); err != nil {
		return fmt.Errorf("fsync: %w", err)
	}
	for _, block := range blocks {
		if _, err := f.ReadBlocks(ctx, block, 1); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	return nil
}

func (f *Fragment) hold() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holds == 0 || f.closed {
		return fmt.Errorf("fragment %d of volume %s: %w", f.index, f.layout.Volume, ErrClosed)
	}
	f.holds++
	return nil
}

func (f *Fragment) drop() error {
	f.mu.Lock()
	f.holds--
	last := f.holds == 0
	f.mu.Unlock()
	if !last {
		return nil
	}
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// Close gives the file back once the reads under way are done. It may be called twice.
func (f *Fragment) Close() error {
	f.mu.Lock()
	again := f.closed
	f.closed = true
	f.mu.Unlock()
	if again {
		return nil
	}
	return f.drop()
}
