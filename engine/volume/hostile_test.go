package volume

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// hostile is what a file system can do to its users: any call fails, before or after it did its work, reads and writes come out
// short, the disk is full for a while. All of it only while armed.
type hostile struct {
	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	percent int  // of calls that fail
	full    bool // no write succeeds
	strikes int
}

var errDisk = errors.New("hostile disk")

type blow uint8

const (
	noBlow blow = iota
	before      // nothing was done
	after       // it was done, and the answer is lost
	short       // a part of it was done
)

// strike says what happens to a call.
func (h *hostile) strike(writes bool) (blow, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full && writes {
		return short, &os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}
	}
	if h.rng.IntN(100) >= h.percent {
		return noBlow, nil
	}
	h.strikes++
	return blow(1 + h.rng.IntN(3)), errDisk
}

func (h *hostile) upTo(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n == 0 {
		return 0
	}
	return h.rng.IntN(n)
}

func (h *hostile) set(percent int, full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.percent, h.full = percent, full
}

// call does something that has no half.
func (h *hostile) call(do func() error) error {
	b, err := h.strike(false)
	if b == noBlow {
		return do()
	}
	if b == after {
		return errors.Join(err, do())
	}
	return err
}

type hostileFS struct {
	vfs.FS
	h *hostile
}

func (fs hostileFS) open(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if b, err := fs.h.strike(false); b != noBlow {
		return nil, errors.Join(err, f.Close())
	}
	return &hostileFile{f, fs.h}, nil
}

func (fs hostileFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(fs.FS.Create(name, c))
}

func (fs hostileFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(fs.FS.Open(name, o...))
}

func (fs hostileFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(fs.FS.OpenReadWrite(name, c, o...))
}

func (fs hostileFS) OpenDir(name string) (vfs.File, error) { return fs.open(fs.FS.OpenDir(name)) }

func (fs hostileFS) Remove(name string) error {
	return fs.h.call(func() error { return fs.FS.Remove(name) })
}

func (fs hostileFS) Rename(from, to string) error {
	return fs.h.call(func() error { return fs.FS.Rename(from, to) })
}

func (fs hostileFS) Stat(name string) (info vfs.FileInfo, err error) {
	err = fs.h.call(func() error { info, err = fs.FS.Stat(name); return err })
	return info, err
}

func (fs hostileFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: 1 << 40}, fs.h.call(func() error { return nil })
}

type hostileFile struct {
	vfs.File
	h *hostile
}

func (f *hostileFile) ReadAt(p []byte, off int64) (int, error) {
	b, err := f.h.strike(false)
	switch b {
	case noBlow:
		return f.File.ReadAt(p, off)
	case short:
		n, readErr := f.File.ReadAt(p[:f.h.upTo(len(p))], off)
		return n, errors.Join(err, readErr)
	}
	return 0, err
}

func (f *hostileFile) Write(p []byte) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.Write(p) })
}

func (f *hostileFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *hostileFile) write(p []byte, do func([]byte) (int, error)) (int, error) {
	b, err := f.h.strike(true)
	switch b {
	case noBlow:
		return do(p)
	case before:
		return 0, err
	case after:
		n, writeErr := do(p)
		return n, errors.Join(err, writeErr)
	}
	n, writeErr := do(p[:f.h.upTo(len(p))])
	return n, errors.Join(err, writeErr)
}

func (f *hostileFile) Sync() error     { return f.h.call(f.File.Sync) }
func (f *hostileFile) SyncData() error { return f.h.call(f.File.SyncData) }

func (f *hostileFile) Close() error {
	b, err := f.h.strike(false)
	if closeErr := f.File.Close(); b == noBlow {
		return closeErr
	}
	return err
}

// flip changes a bit of a file for good, behind everybody's back.
func flip(fs *vfs.MemFS, path string, rng *rand.Rand) error {
	info, err := fs.Stat(path)
	if err != nil || info.Size() == 0 {
		return err
	}
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	var b [1]byte
	at := rng.Int64N(info.Size())
	if rng.IntN(2) == 0 { // where a block of an index file has most of what matters
		at = min(at/indexBlockSize*indexBlockSize+rng.Int64N(40), info.Size()-1)
	}
	if _, err = f.ReadAt(b[:], at); err == nil || errors.Is(err, io.EOF) {
		b[0] ^= 1 << rng.IntN(8)
		if _, err = f.WriteAt(b[:], at); err == nil {
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("flip a bit of %s: %w", path, err)
	}
	return nil
}
