package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	headerWindow = 4 << 10   // read at a time while records follow each other
	searchWindow = 256 << 10 // read at a time while looking for the next record, or checking the last
	sector       = 4 << 10   // what is given up where the disk cannot read
)

// Open opens a volume that exists. If it has an index file of just this state, no record is read. Otherwise Open reads the
// headers of the records and the whole last record, cuts a torn tail, and writes an index file. Damage in the body, or anywhere in a file that is known to be as long as its volume, does not keep it from opening: it is reported, and the records behind it are served.
// While nobody knows whether the volume was sealed (Sealed.Unsure) no tail is cut: what is in front of it is served, and nothing is written.
// What Open finds is durable when it returns. An opened volume is never appended to again.
func Open(fs vfs.FS, path string, o Options) (*Volume, error) {
	if _, err := fs.Stat(path); err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	open := func() (vfs.File, error) { return fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified) }
	if o.ReadOnly {
		open = func() (vfs.File, error) { return fs.Open(path) }
	}
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	v, err := openFile(fs, path, f, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open volume %s: %w", path, err), f.Close())
	}
	return v, nil
}

func openFile(fs vfs.FS, path string, f vfs.File, o Options) (*Volume, error) {
	block := make([]byte, fileHeaderSize)
	n, err := f.ReadAt(block, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	h, seed, err := decodeFileHeader(block[:n])
	if err != nil {
		return nil, located(err, h.ID, 0, 0)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	v := newVolume(fs, path, h, seed, f, o)
	v.sealed, v.opened = true, true
	if o.ReadOnly {
		v.failed = fmt.Errorf("volume %s: %w", v.header.ID, ErrReadOnly)
	}
	size := info.Size()
	if o.trusted > 0 {
		size = min(size, o.trusted)
	}
	if v.adopt(size) {
		v.o.shared.handles.add(v)
		return v, nil
	}
	s := newScanner(f, v.rules, size)
	s.all = o.known.Length == size && o.known.Generation == h.Generation
	s.run()
	if s.all {
		v.endless = s.broken && o.known.Last == 0
		s.upTo(min(o.known.Last, uint64(len(s.index))+hidden(s.damage, size)))
	}
	v.o.shared.scans.Add(1)
	v.index, v.damage, v.found, v.durable = s.index, s.damage, uint64(len(s.found)), s.off
	v.dictionaries = s.dictionaries()
	v.restart()
	v.settle(s, info.Size())
	v.save()
	v.o.shared.handles.add(v)
	return v, nil
}

// settle makes what the scan found durable: the records may come from a process that was killed before
// its fsync. A failure is kept in Stats; it ends writing to this copy, not reading. What the disk has then nobody knows: the system may give
// from its memory what a failed fsync has not written, and the next fsync does not write it either.
func (v *Volume) settle(s *scanner, size int64) {
	switch {
	case v.o.ReadOnly:
		v.cut = max(size-v.durable, 0) // what Open would cut
	case v.o.known.Unsure && size > v.durable:
		// Cut, what may be damage could not be mended any more.
		v.unsure, v.endless, v.unread = true, true, true
		if v.sync() == nil {
			_ = v.fail("open", errUnsure)
		}
	case s.unreadable >= v.durable:
		// Who knows what is there: the volume is served as it is, and not written to.
		v.unread = true
		_ = v.fail("read", s.readErr)
	case size > v.durable:
		v.cut = size - v.durable
		v.unread = v.cutTo(v.durable) != nil
	default:
		v.unread = v.sync() != nil
	}
}

// scanner builds the record index of a file. Each step goes on from off, which is the end of a record:
//
//  1. Where a header with the expected number follows, its record is taken, and skipped by its length.
//  2. Where not, the next place at which a header has the right checksum and a possible number is
//     searched for; what lies between is damage.
//  3. Where there is none, the rest is a torn tail, or empty.
//  4. The last record's content is verified. If it is not whole it belongs to the torn tail, and so does any
//     damage before it; and so on with the record before.
//
// Where the length is known to be that of the volume there is no torn tail: what would be one is damage up to the end, and records of it that
// have a header are in the index all the same.
type scanner struct {
	file   vfs.File
	rules  rules
	order  order
	size   int64
	all    bool // the volume is so long
	broken bool // there is more behind the last record that has a header
	off    int64
	index  []uint32
	found  []uint32 // record numbers in the order of the file
	dicts  []uint64 // of them, dictionaries
	damage []Span

	unreadable int64 // last byte that the disk did not give; zero if it gave all
	readErr    error
	buf        *buffer // of window
	window     []byte  // bytes of the file from windowOff on
	windowOff  int64
}

func newScanner(f vfs.File, r rules, size int64) *scanner {
	return &scanner{file: f, rules: r, order: r.orderAfter(nil), size: size, off: fileHeaderSize}
}

func (s *scanner) run() {
	s.buf = newBuffer(searchWindow)
	defer s.buf.release()
	for s.off < s.size {
		h, ok := s.headerAt(s.off)
		if ok && s.order.allows(h.number, 0) {
			s.add(h, s.off)
			continue
		}
		h, at, ok := s.search(s.off + alignment)
		if !ok {
			break
		}
		s.damage = append(s.damage, Span{Start: s.off, End: at})
		s.add(h, at)
	}
	s.broken = s.off < s.size
	index, found := s.index, s.found
	if s.all {
		index = slices.Clone(index)
	}
	for len(s.found) > 0 && !s.lastIsWhole() {
		s.dropLast()
	}
	if s.all && s.off < s.size {
		s.damage = append(s.damage, Span{Start: s.off, End: s.size})
		s.index, s.found, s.off = index, found, s.size
	}
}

// upTo makes the index as long as the highest record number is, unless later generations leave out numbers.
func (s *scanner) upTo(highest uint64) {
	for !s.rules.sparse() && uint64(len(s.index)) < highest {
		s.index = append(s.index, 0)
	}
}

func (s *scanner) add(h recordHeader, at int64) {
	s.index = place(s.index, placed{h.number, position(at), h.kind})
	s.found = append(s.found, uint32(h.number))
	if h.kind == KindDictionary {
		s.dicts = append(s.dicts, h.number)
	}
	s.order.take(h.number)
	s.off = at + h.size()
}

// last gives the number of the record at the end, and where it begins.
func (s *scanner) last() (number uint64, start int64) {
	number = uint64(s.found[len(s.found)-1])
	return number, int64(s.index[number-1]) * alignment
}

// dictionaries gives the numbers of the dictionary records that were found, ascending.
func (s *scanner) dictionaries() []uint64 {
	slices.Sort(s.dicts)
	return slices.DeleteFunc(s.dicts, func(n uint64) bool { return n > uint64(len(s.index)) || s.index[n-1] == 0 })
}

// dropLast takes the last record, and any damage before it, out of the index.
func (s *scanner) dropLast() {
	number, start := s.last()
	s.off = start
	s.found = s.found[:len(s.found)-1]
	s.index[number-1] = 0
	s.index = withoutLost(s.index)
	if n := len(s.damage); n > 0 && s.damage[n-1].End == s.off {
		s.off = s.damage[n-1].Start
		s.damage = s.damage[:n-1]
	}
}

// lastIsWhole checks all of the last record.
func (s *scanner) lastIsWhole() bool {
	number, start := s.last()
	c := newChecker(s.rules, only(number), start)
	s.window = nil // its memory is used here
	for at := start; at < s.off; {
		p := s.buf.b[:min(searchWindow, s.off-at)]
		s.read(p, at)
		if c.feed(p) != nil {
			return false
		}
		at += int64(len(p))
	}
	return c.whole == s.off
}

// headerAt decodes the record header there, if the record fits into the file.
func (s *scanner) headerAt(at int64) (recordHeader, bool) {
	if at+recordHeaderSize > s.size {
		return recordHeader{}, false
	}
	if at < s.windowOff || at+recordHeaderSize > s.windowOff+int64(len(s.window)) {
		s.load(at, headerWindow)
	}
	h, err := s.rules.decode(s.window[at-s.windowOff:])
	return h, err == nil && at+h.size() <= s.size
}

// search finds the first place from at on where a record can begin. Lost records leave room for
// their numbers: that bounds how far a number may be ahead.
func (s *scanner) search(at int64) (recordHeader, int64, bool) {
	magic := binary.LittleEndian.AppendUint32(nil, recordMagic)
	for from := at; at+recordHeaderSize <= s.size; {
		if at < s.windowOff || at+recordHeaderSize > s.windowOff+int64(len(s.window)) {
			s.load(at, searchWindow)
		}
		// The part that can still hold a whole header.
		view := s.window[at-s.windowOff:]
		i := bytes.Index(view[:len(view)-recordHeaderSize+len(magic)], magic)
		if i < 0 {
			at += aligned(int64(len(view)) - recordHeaderSize + 1)
			continue
		}
		at += int64(i)
		if at%alignment == 0 {
			h, ok := s.headerAt(at)
			lost := uint64(at-from+alignment) / recordHeaderSize
			if ok && s.order.allows(h.number, lost) {
				return h, at, true
			}
		}
		at = aligned(at + 1)
	}
	return recordHeader{}, 0, false
}

// load fills the window from at on.
func (s *scanner) load(at int64, size int) {
	s.window = s.buf.b[:min(int64(size), s.size-at)]
	s.windowOff = at
	s.read(s.window, at)
}

// read fills p. What the disk does not give reads as zeros, sector by sector, and is remembered.
func (s *scanner) read(p []byte, at int64) {
	if n, _ := s.file.ReadAt(p, at); n == len(p) {
		return
	}
	for len(p) > 0 {
		n := min(int64(len(p)), sector-at%sector)
		if got, err := s.file.ReadAt(p[:n], at); got < int(n) {
			clear(p[:n])
			s.unreadable, s.readErr = max(s.unreadable, at+n-1), err
		}
		p, at = p[n:], at+n
	}
}
