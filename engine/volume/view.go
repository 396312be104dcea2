package volume

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// View reads records of a sealed volume whose file is not here: its bytes come from wherever src has them, its record index from a
// copy of the index file. Several goroutines may use it.
type View struct {
	fs     vfs.FS
	path   string // of the file that the index would belong to
	header Header
	seed   uint32
	keys   recordKeys
	index  atomic.Pointer[savedIndex]
}

// OpenView reads the volume's header block from src, and holds the index at indexPath against it. keys may be nil if the volume is
// not encrypted.
func OpenView(fs vfs.FS, indexPath string, src io.ReaderAt, keys recordKeys) (*View, error) {
	block := make([]byte, fileHeaderSize)
	if n, err := src.ReadAt(block, 0); n < len(block) {
		return nil, fmt.Errorf("open view: read the header block: %w", err)
	}
	h, seed, err := decodeFileHeader(block)
	if err != nil {
		return nil, fmt.Errorf("open view: %w", located(err, h.ID, 0, 0))
	}
	x, err := openIndex(fs, indexPath)
	if err != nil {
		return nil, fmt.Errorf("open view of volume %s: %w: %w", h.ID, ErrIndex, err)
	}
	if f := x.fields; f.Volume != h.ID || f.Generation != h.Generation || f.Seed != seed {
		return nil, fmt.Errorf("open view of volume %s: the index %s is of volume %s, generation %d: %w", h.ID, indexPath, f.Volume, f.Generation, ErrMisplaced)
	}
	w := &View{fs: fs, path: strings.TrimSuffix(indexPath, indexSuffix) + volumeSuffix, header: h, seed: seed, keys: keys}
	w.index.Store(x)
	return w, nil
}

// OpenRef is Volume.OpenRef, with the bytes of src. An index that turns out to be damaged is made anew from these.
func (w *View) OpenRef(src io.ReaderAt, ref Ref, off, n uint64) (io.ReadCloser, error) {
	v := w.volume(src)
	r, err := v.OpenRef(ref, off, n)
	w.keep(v)
	return r, errors.Join(err, v.drop())
}

// Get is Volume.Get.
func (w *View) Get(src io.ReaderAt, record uint64) (Info, error) {
	v := w.volume(src)
	info, err := v.Get(record)
	w.keep(v)
	return info, errors.Join(err, v.drop())
}

// Census is Volume.Census.
func (w *View) Census(src io.ReaderAt, live *roaring.Bitmap) (Census, error) {
	v := w.volume(src)
	c, err := v.Census(live)
	w.keep(v)
	return c, errors.Join(err, v.drop())
}

// volume is the view as a volume for one reader.
func (w *View) volume(src io.ReaderAt) *Volume {
	v := newVolume(w.fs, w.path, w.header, w.seed, through{src: src}, Options{ReadOnly: true, Keys: w.keys, shared: newShared(math.MaxInt)})
	x := w.index.Load()
	v.sealed, v.opened = true, true
	v.saved, v.found, v.durable, v.dictionaries = x, x.fields.Found, x.fields.Length, x.fields.Dictionaries
	return v
}

// keep takes over the index if the reader had to make it anew.
func (w *View) keep(v *Volume) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.saved != nil {
		w.index.Store(v.saved)
	}
}

// OpenThrough is Open, for reading only, of a volume whose file is not here: src gives its bytes, of which there are so many. The
// index file is used if it is of just that file; otherwise the index is made from the bytes, in memory.
func OpenThrough(fs vfs.FS, indexPath string, src io.ReaderAt, length int64, o Options) (*Volume, error) {
	o.ReadOnly = true
	path := strings.TrimSuffix(indexPath, indexSuffix) + volumeSuffix
	v, err := openFile(fs, path, through{src: src, length: length}, o)
	if err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	return v, nil
}

// through is a file of which only reading works.
type through struct {
	vfs.File
	src    io.ReaderAt
	length int64
}

func (t through) ReadAt(p []byte, off int64) (int, error) { return t.src.ReadAt(p, off) }
func (t through) Close() error                            { return nil }
func (t through) Stat() (vfs.FileInfo, error)             { return lengthOnly{length: t.length}, nil }
func (t through) Fd() uintptr                             { return vfs.InvalidFd }

// lengthOnly is all that is known of such a file.
type lengthOnly struct {
	vfs.FileInfo
	length int64
}

func (l lengthOnly) Size() int64 { return l.length }

// Seed is the file's checksum, which tells it from any other file.
func (v *Volume) Seed() uint32 { return v.rules.seed }

// IndexFile gives the index file of a sealed volume's copy, for a view of it elsewhere.
func (s *Set) IndexFile(id ID) ([]byte, error) {
	v, err := s.Get(id)
	if err == nil {
		err = v.Seal() // which saves the index
	}
	var b []byte
	if err == nil {
		b, err = readWhole(s.fs, v.indexPath())
	}
	if err != nil {
		return nil, fmt.Errorf("index file of volume %s: %w", id, err)
	}
	return b, nil
}

func readWhole(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, errors.Join(err, f.Close())
}
