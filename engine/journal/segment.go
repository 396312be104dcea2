package journal

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	segmentSuffix = ".log"
	sparePrefix   = "spare-"
)

// segment is one file of the journal. Its numbers are guarded by the journal's mu.
type segment struct {
	number uint64
	path   string
	file   vfs.File
	seed   uint32
	size   int64
	end    int64 // of the last frame

	entries int // that were ever written here
	live    int // of these, how many a log still has here
	readers int // that use the file now
}

// place is where an entry stands: numbers of 32 bits are enough for 2^32 segments of up to 4 GiB.
type place struct {
	segment uint32
	off     uint32
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

func parseSegment(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && segmentName(n) == name
}

// openSegment makes a prepared file the segment of that number: it gets its header, then its name.
func openSegment(fs vfs.FS, dir string, s *spare, h header) (*segment, error) {
	block, seed := h.encode()
	if _, err := s.file.WriteAt(block, 0); err != nil {
		return nil, fmt.Errorf("write the header of segment %d: %w", h.number, err)
	}
	if err := s.file.Sync(); err != nil {
		return nil, fmt.Errorf("sync the header of segment %d: %w", h.number, err)
	}
	path := fs.PathJoin(dir, segmentName(h.number))
	if err := fs.Rename(s.path, path); err != nil {
		return nil, fmt.Errorf("name segment %d: %w", h.number, err)
	}
	if err := durable.SyncDir(fs, dir); err != nil {
		return nil, err
	}
	return &segment{number: h.number, path: path, file: s.file, seed: seed, size: s.size, end: headerSize}, nil
}

// firstRead is how much of a record is read before its length is known.
const firstRead = 4096

// readEntry reads the entry that stands at off, of a segment that ends at end.
func (s *segment) readEntry(off, end int64) (record, error) {
	b := make([]byte, min(firstRead, end-off))
	if len(b) < recordHead {
		return record{}, &CorruptError{Path: s.path, Offset: off, Reason: "an entry runs over the end"}
	}
	if _, err := s.file.ReadAt(b, off); err != nil {
		return record{}, fmt.Errorf("read %s at %d: %w", s.path, off, err)
	}
	if n, ok := recordSize(b); ok && n > int64(len(b)) && off+n <= end {
		have := len(b)
		b = append(b, make([]byte, n-int64(have))...)
		if _, err := s.file.ReadAt(b[have:], off+int64(have)); err != nil {
			return record{}, fmt.Errorf("read %s at %d: %w", s.path, off, err)
		}
	}
	r, _, err := decodeRecord(b)
	if err != nil {
		return record{}, &CorruptError{Path: s.path, Offset: off, Reason: err.Error()}
	}
	return r, nil
}
