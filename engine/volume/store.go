package volume

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const spoolPrefix = "spool-"

// store keeps the encoded chunks of one message: in memory up to a limit, then in a temporary file.
// It has one writer; once that is done, any number of readers.
type store struct {
	fs     vfs.FS
	tmpDir string
	limit  int

	size   int64
	chunks []*buffer // while in memory
	starts []int64   // where each of chunks begins
	file   vfs.File  // afterwards

	mu   sync.Mutex
	refs int // guarded by mu; the memory is given back when nobody holds it any more
}

func newStore(fs vfs.FS, tmpDir string, limit int) *store {
	return &store{fs: fs, tmpDir: tmpDir, limit: limit, refs: 1}
}

// add takes over an encoded chunk, also when it fails.
func (s *store) add(chunk *buffer) error {
	n := int64(len(chunk.b))
	if s.file == nil && s.size+n <= int64(s.limit) {
		s.chunks = append(s.chunks, chunk)
		s.starts = append(s.starts, s.size)
		s.size += n
		return nil
	}
	defer chunk.release()
	if err := s.spill(); err != nil {
		return err
	}
	if _, err := s.file.Write(chunk.b); err != nil {
		return fmt.Errorf("write temporary file: %w", err)
	}
	s.size += n
	return nil
}

// spill moves what is in memory to a temporary file, which loses its name at once: the system takes it
// back when the last holder is gone, however that happens.
func (s *store) spill() error {
	if s.file != nil {
		return nil
	}
	name := s.fs.PathJoin(s.tmpDir, fmt.Sprintf("%s%016x", spoolPrefix, rand.Uint64()))
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	s.file = f
	if err := s.fs.Remove(name); err != nil {
		return fmt.Errorf("unlink temporary file: %w", err)
	}
	for _, c := range s.chunks {
		if _, err := f.Write(c.b); err != nil {
			return fmt.Errorf("write temporary file: %w", err)
		}
	}
	s.dropMemory()
	return nil
}

func (s *store) dropMemory() {
	for _, c := range s.chunks {
		c.release()
	}
	s.chunks, s.starts = nil, nil
}

// ReadAt reads stored bytes wherever they are. The caller holds a reference.
func (s *store) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n := 0
	for i := sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > off }) - 1; i < len(s.chunks) && n < len(p); i++ {
		n += copy(p[n:], s.chunks[i].b[off+int64(n)-s.starts[i]:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// hold takes a reference, and says false when the last one is gone.
func (s *store) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == 0 {
		return false
	}
	s.refs++
	return true
}

// drop gives a reference back.
func (s *store) drop() error {
	s.mu.Lock()
	s.refs--
	last := s.refs == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	s.dropMemory()
	if s.file == nil {
		return nil
	}
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("close temporary file: %w", err)
	}
	return nil
}

// RemoveLeftovers removes the temporary files that a crash left in tmpDir.
func RemoveLeftovers(fs vfs.FS, tmpDir string) error {
	names, err := fs.List(tmpDir)
	if err != nil {
		return fmt.Errorf("list %s: %w", tmpDir, err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, spoolPrefix) {
			continue
		}
		if err := fs.Remove(fs.PathJoin(tmpDir, name)); err != nil {
			return fmt.Errorf("remove left-over %s: %w", name, err)
		}
	}
	return nil
}
