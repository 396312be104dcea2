package volume

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
)

// A volume's next generation is made beside the present one, in a file of its own (nextSuffix), and takes its place by one rename:
//
//  1. Prepare writes the header block and the records that stay, in the order that all copies are told, and fsyncs. Their stored bytes are
//     copied as they are, checked on the way; only the record headers get the new file's checksum. So all copies come out equal.
//  2. Switch, once the directory has entered the generation, renames the file and fsyncs the directory. Who reads the old file goes on.
//
// What a crash leaves behind: a next file, whole or not, which Next tells of. One of the entered generation is completed from
// another copy if need be (OpenNext, Extend) and switched to; another is dropped.

// nextSuffix marks a file that a volume's next generation is made in.
const nextSuffix = ".next"

// copyAhead is how much Prepare gathers for one write, and syncEvery how much it writes between two fsyncs.
const (
	copyAhead = 1 << 20
	syncEvery = 32 << 20
)

// Census is what a volume holds, held against what is live.
type Census struct {
	Here      *roaring.Bitmap // numbers of the records
	Stay      *roaring.Bitmap // those that are live, and the dictionaries
	Bytes     int64           // of the file
	StayBytes int64           // of a file with what stays
}

// Census counts what would stay if these records were live.
func (v *Volume) Census(live *roaring.Bitmap) (Census, error) {
	at, dictionaries, err := v.layout()
	if err != nil {
		return Census{}, fmt.Errorf("volume %s: census: %w", v.header.ID, err)
	}
	c := Census{Here: roaring.New(), Bytes: at.end, StayBytes: fileHeaderSize}
	for n, p := range at.positions {
		if p != 0 {
			c.Here.Add(uint32(n + 1))
		}
	}
	c.Stay = roaring.And(c.Here, live)
	if !c.Stay.IsEmpty() { // dictionaries alone are of no use
		c.Stay.Or(dictionaries)
	}
	for i, p := range at.sorted {
		end := at.end
		if i+1 < len(at.sorted) {
			end = int64(at.sorted[i+1].position) * alignment
		}
		if c.Stay.Contains(uint32(p.number)) {
			c.StayBytes += end - int64(p.position)*alignment
		}
	}
	return c, nil
}

// Prepared is what Prepare made: the same on every copy.
type Prepared struct {
	Length int64
	Sum    [32]byte // SHA-256 of the file
}

// NextBlock is the header block of a later generation of this volume. One copy chooses it for all.
func (v *Volume) NextBlock(generation uint32, salt uint64) ([]byte, error) {
	h := v.header
	if generation <= h.Generation {
		return nil, fmt.Errorf("volume %s: generation %d after %d: %w", h.ID, generation, h.Generation, ErrMisplaced)
	}
	at, _, err := v.layout()
	if err != nil {
		return nil, fmt.Errorf("volume %s: next header: %w", h.ID, err)
	}
	h.Generation, h.Salt, h.Records = generation, salt, max(h.Records, uint64(len(at.positions)))
	block, err := encodeFileHeader(h)
	if err != nil {
		return nil, fmt.Errorf("volume %s: next header: %w", h.ID, err)
	}
	return block, nil
}

// DecodeHeader reads a header block.
func DecodeHeader(block []byte) (Header, error) {
	h, _, err := decodeFileHeader(block)
	return h, err
}

// Prepare makes the file of a volume's next generation: block, then those records in that order. pace is told of the bytes as they are
// written and may wait. One call at a time for a volume. A record that is damaged or missing here is an error: *CorruptError, ErrNotFound.
func (s *Set) Prepare(ctx context.Context, id ID, block []byte, records []uint32, pace func(bytes int) error) (Prepared, error) {
	src, err := s.Get(id)
	if err != nil {
		return Prepared{}, err
	}
	h, _, err := decodeFileHeader(block)
	if err != nil || h.ID != id || h.Generation <= src.header.Generation || h.Encrypted != src.header.Encrypted {
		return Prepared{}, fmt.Errorf("volume %s: prepare generation %d after %d: header of volume %s: %w", id, h.Generation,
			src.header.Generation, h.ID, errors.Join(ErrMisplaced, err))
	}
	if err := s.DropNext(id); err != nil {
		return Prepared{}, err
	}
	dst, err := s.OpenNext(block)
	if err != nil {
		return Prepared{}, err
	}
	c := copier{src: src, dst: dst, off: fileHeaderSize, sum: sha256.New(), pace: pace, buf: make([]byte, 0, copyAhead)}
	c.sum.Write(block[:fileHeaderSize])
	if err = src.hold(); err == nil {
		err = errors.Join(c.run(ctx, records), src.drop())
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return Prepared{}, errors.Join(fmt.Errorf("volume %s: prepare generation %d: %w", id, h.Generation, err), s.DropNext(id))
	}
	return Prepared{Length: c.off, Sum: [32]byte(c.sum.Sum(nil))}, nil
}

// copier writes records of one generation into the next.
type copier struct {
	src, dst *Volume
	off      int64  // where buf goes
	buf      []byte // not written yet
	unsynced int
	sum      hash.Hash
	pace     func(int) error
}

func (c *copier) run(ctx context.Context, records []uint32) error {
	for _, n := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.record(uint64(n)); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	durable, err := c.dst.Commit()
	if err == nil && durable != c.off {
		err = fmt.Errorf("durable up to %d of %d", durable, c.off)
	}
	return err
}

func (c *copier) record(number uint64) error {
	h, at, err := c.src.record(number)
	if err != nil {
		return err
	}
	head := make([]byte, recordHeaderSize)
	h.encode(head, c.dst.rules.seed)
	if err := c.add(head); err != nil {
		return err
	}
	at += recordHeaderSize
	for left := h.size() - recordHeaderSize; left > 0; {
		if len(c.buf) == cap(c.buf) {
			if err := c.flush(); err != nil {
				return err
			}
		}
		room := c.buf[len(c.buf):min(int64(cap(c.buf)), int64(len(c.buf))+left)]
		if n, err := c.src.file.ReadAt(room, at); n < len(room) {
			return fmt.Errorf("read record %d at %d: %w", number, at, errors.Join(err, io.ErrUnexpectedEOF))
		}
		c.buf = c.buf[:len(c.buf)+len(room)]
		at, left = at+int64(len(room)), left-int64(len(room))
	}
	return nil
}

func (c *copier) add(p []byte) error {
	if len(c.buf)+len(p) > cap(c.buf) {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.buf = append(c.buf, p...)
	return nil
}

// flush writes what was gathered. The new file's own checker refuses what is damaged before it is written.
func (c *copier) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	if err := c.pace(len(c.buf)); err != nil {
		return err
	}
	if err := c.dst.Extend(c.off, c.buf); err != nil {
		return err
	}
	c.sum.Write(c.buf)
	c.off += int64(len(c.buf))
	if c.unsynced += len(c.buf); c.unsynced >= syncEvery {
		if _, err := c.dst.Commit(); err != nil {
			return err
		}
		c.unsynced = 0
	}
	c.buf = c.buf[:0]
	return nil
}

func (s *Set) nextPath(id ID) string { return s.path(id) + nextSuffix }

// Nexts lists the volumes of which a next file is here.
func (s *Set) Nexts() []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]ID, 0, len(s.nexts))
	for id := range s.nexts {
		ids = append(ids, id)
	}
	return ids
}

func (s *Set) noteNext(id ID, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if there {
		s.nexts[id] = struct{}{}
	} else {
		delete(s.nexts, id)
	}
}

// Next says which generation the next file of a volume is, and how long. ErrNotFound if there is none.
func (s *Set) Next(id ID) (generation uint32, length int64, err error) {
	v, err := Open(s.fs, s.nextPath(id), s.options(nil, nil))
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("volume %s: next generation: %w", id, ErrNotFound)
	}
	if err != nil {
		return 0, 0, err
	}
	generation, length = v.header.Generation, v.Durable()
	if len(v.Damage()) > 0 || v.Stats().Failed != nil {
		length = 0 // as good as none
	}
	return generation, length, v.Close()
}

// OpenNext gives the next file that begins with that header block, to be extended up to its length: the one that is here, or
// a new one. The caller closes it.
func (s *Set) OpenNext(block []byte) (*Volume, error) {
	h, _, err := decodeFileHeader(block)
	if err != nil {
		return nil, fmt.Errorf("open next generation: %w", located(err, h.ID, 0, 0))
	}
	v, err := Open(s.fs, s.nextPath(h.ID), s.options(nil, nil))
	if err == nil {
		have, err := v.FileHeader()
		if err == nil && bytes.Equal(have, block[:fileHeaderSize]) && len(v.Damage()) == 0 && v.Stats().Failed == nil {
			return v, nil
		}
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
	if err := s.DropNext(h.ID); err != nil {
		return nil, err
	}
	s.noteNext(h.ID, true)
	v, err = CreateCopy(s.fs, s.nextPath(h.ID), block, s.options(nil, nil))
	if err != nil {
		return nil, err
	}
	if err := v.Seal(); err != nil { // only Extend writes here
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// DropNext removes the next file of a volume, if there is one.
func (s *Set) DropNext(id ID) error {
	for _, path := range []string{indexPath(s.nextPath(id)), s.nextPath(id)} {
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("volume %s: drop next generation: %w", id, err)
		}
	}
	if err := durable.SyncDir(s.fs, s.dir); err != nil {
		return fmt.Errorf("volume %s: drop next generation: %w", id, err)
	}
	s.noteNext(id, false)
	return nil
}

// Switch puts the next file, which must be of that generation and length, in the place of the present one, for good once it returns.
// Open readers of the old file go on; other users of its Volume get ErrClosed and ask the set again.
func (s *Set) Switch(id ID, generation uint32, length int64) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	have, is, err := s.Next(id)
	if err != nil {
		return err
	}
	if have != generation || is != length {
		return fmt.Errorf("volume %s: next file of generation %d with %d bytes, expected generation %d with %d: %w",
			id, have, is, generation, length, ErrMisplaced)
	}
	if err := s.fs.Rename(s.nextPath(id), s.path(id)); err != nil {
		return fmt.Errorf("volume %s: switch to generation %d: %w", id, generation, err)
	}
	s.noteNext(id, false)
	old := e.volume
	e.volume = nil
	if err = s.fs.Rename(indexPath(s.nextPath(id)), indexPath(s.path(id))); errors.Is(err, os.ErrNotExist) {
		err = nil // the volume is scanned when it is opened
	}
	err = errors.Join(err, durable.SyncDir(s.fs, s.dir))
	if old != nil {
		err = errors.Join(err, old.close(false))
	}
	if err != nil {
		return fmt.Errorf("volume %s: switch to generation %d: %w", id, generation, err)
	}
	return nil
}

// where is where a volume's records are at one moment.
type where struct {
	positions []uint32 // by number, from 1 on; 0 where there is none
	sorted    []placed // in the order of the file
	end       int64
}

// layout says where the records are, and which are dictionaries.
func (v *Volume) layout() (where, *roaring.Bitmap, error) {
	if err := v.hold(); err != nil {
		return where{}, nil, err
	}
	var at where
	var err error
	at.positions, at.end, err = v.places()
	if err = errors.Join(err, v.drop()); err != nil {
		return where{}, nil, err
	}
	dictionaries := roaring.New()
	for _, n := range v.Dictionaries() {
		dictionaries.Add(uint32(n))
	}
	return at.sort(), dictionaries, nil
}

func (w where) sort() where {
	for i, p := range w.positions {
		if p != 0 {
			w.sorted = append(w.sorted, placed{number: uint64(i + 1), position: p})
		}
	}
	slices.SortFunc(w.sorted, func(a, b placed) int { return cmp.Compare(a.position, b.position) })
	return w
}

// Erase destroys the keys of all records of an encrypted volume but those that stay, and says how many there were. Dictionaries keep theirs
// while anything stays. A volume that is not encrypted has none.
func (s *Set) Erase(id ID, stay *roaring.Bitmap) (destroyed uint64, err error) {
	v, err := s.Get(id)
	if err != nil || !v.header.Encrypted {
		return 0, err
	}
	_, dictionaries, err := v.layout()
	if err != nil {
		return 0, fmt.Errorf("volume %s: erase: %w", id, err)
	}
	if !stay.IsEmpty() {
		stay = roaring.Or(stay, dictionaries)
	}
	err = s.UseKeys(id, func(f *keys.File) error {
		destroyed, err = f.Keep(func(n uint64) bool { return stay.Contains(uint32(n)) })
		return err
	})
	return destroyed, err
}
