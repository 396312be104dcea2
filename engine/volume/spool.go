package volume

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Spool turns a message that arrives piece by piece into a Blob: it hashes, compresses and checksums it
// once. It holds at most one raw chunk and memLimit encoded bytes in memory; the rest goes to a temporary
// file. One goroutine uses it, and ends with Finish or Abort.
type Spool struct {
	store      *store
	raw        *buffer // the chunk that is not full yet; nil when empty
	hash       hash.Hash
	length     uint64
	dictionary *Dictionary // may be nil
	err        error       // the first failure, or ErrClosed; final
}

// NewSpool starts a message. Temporary files go to tmpDir.
func NewSpool(fs vfs.FS, tmpDir string, memLimit int) *Spool {
	return &Spool{store: newStore(fs, tmpDir, memLimit), hash: sha256.New()}
}

// Use compresses the message with a dictionary, which may be nil, if it is one chunk: later chunks have learned enough from
// the first.
func (s *Spool) Use(d *Dictionary) { s.dictionary = d }

// SpoolRoom says ErrFull when fewer than keep bytes are free where spools keep their files. Whoever spools what strangers
// send asks now and then: volumes leave a reserve for the logs and the index, and spools must not use it up. A file
// system that cannot tell how full it is has room.
func SpoolRoom(fs vfs.FS, tmpDir string, keep uint64) error {
	usage, err := fs.GetDiskUsage(tmpDir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for free space of %s: %w", tmpDir, err)
	}
	if usage.AvailBytes < keep {
		return fmt.Errorf("%d bytes free at %s, %d kept: %w", usage.AvailBytes, tmpDir, keep, ErrFull)
	}
	return nil
}

// Write takes the next bytes of the message. After an error the spool is good for Abort only.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.length+uint64(len(p)) > MaxLength {
		s.err = fmt.Errorf("message of more than %d bytes: %w", MaxLength, ErrTooLarge)
		return 0, s.err
	}
	s.hash.Write(p)
	s.length += uint64(len(p))
	for rest := p; len(rest) > 0; {
		var err error
		if rest, err = s.take(rest); err != nil {
			s.err = fmt.Errorf("spool message: %w", err)
			return len(p) - len(rest), s.err
		}
	}
	return len(p), nil
}

// take adds to the current chunk, encodes it when it is full, and returns what it left of p.
func (s *Spool) take(p []byte) ([]byte, error) {
	if s.raw == nil && len(p) >= chunkSize {
		return p[chunkSize:], s.encode(p[:chunkSize])
	}
	if s.raw == nil {
		s.raw = newBuffer(len(p))
	}
	n := min(len(p), chunkSize-len(s.raw.b))
	if have := len(s.raw.b); have+n > cap(s.raw.b) {
		grown := newBuffer(min(max(have+n, 4*have), chunkSize))
		grown.b = append(grown.b, s.raw.b...)
		s.raw.release()
		s.raw = grown
	}
	s.raw.b = append(s.raw.b, p[:n]...)
	if len(s.raw.b) < chunkSize {
		return p[n:], nil
	}
	return p[n:], s.flush()
}

func (s *Spool) flush() error {
	if s.raw == nil {
		return nil
	}
	err := s.encode(s.raw.b)
	s.raw.release()
	s.raw = nil
	return err
}

// encode adds a chunk to the store. A full one may not be the message's last.
func (s *Spool) encode(raw []byte) error {
	if len(raw) == chunkSize || s.length > chunkSize {
		s.dictionary = nil
	}
	return s.store.add(encodeChunk(raw, s.dictionary))
}

// Finish ends the message. The caller closes the Blob. When it fails nothing is left to clean up.
func (s *Spool) Finish() (*Blob, error) {
	if s.err == nil {
		s.err = s.flush()
	}
	if s.err != nil {
		err := fmt.Errorf("finish message: %w", s.err)
		if abortErr := s.Abort(); abortErr != nil {
			return nil, fmt.Errorf("%w (and %w)", err, abortErr)
		}
		return nil, err
	}
	b := &Blob{store: s.store, length: s.length, dictionary: s.dictionary}
	s.hash.Sum(b.hash[:0])
	s.store, s.err = nil, ErrClosed
	return b, nil
}

// Abort throws the message away. After Finish or Abort it does nothing.
func (s *Spool) Abort() error {
	if s.store == nil {
		return nil
	}
	s.raw.release()
	store := s.store
	s.raw, s.store, s.err = nil, nil, ErrClosed
	return store.drop()
}
