package volume

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// RangeSize is the length of the stretches of a file whose digests two copies compare.
const RangeSize = 1 << 20

// maxFindings is how many damaged records of one file are listed; further ones are only counted.
const maxFindings = 100

// Check says how a copy is verified.
type Check struct {
	// Pace is called before n bytes are read from the disk: it waits, so that there is always room for readers of mail.
	// Its error ends the check. Nil: no waiting.
	Pace func(n int) error
	// Others are the same file on other nodes. What is damaged here is overwritten by the first of them that has it right;
	// without any, damage is only reported.
	Others []io.ReaderAt
	// Distrust takes the other copies' word where their bytes verify and differ from those here, which verify too: the record's
	// content was found not to be what its hash says.
	Distrust bool
	// Range gets the SHA-256 of each RangeSize bytes of the file in order, the last of what is left. Nil: nobody asks.
	Range func(sum [32]byte) error
}

// Checked is what a check found.
type Checked struct {
	Generation uint32
	Length     int64  // of the file, as far as it was checked
	Records    uint64 // whole ones, those included that were mended
	Damaged    uint64 // records that are not whole, and no other copy had them; the header block counts as one
	Mended     uint64 // records that were not whole before
	Bytes      int64  // written to mend them
	Findings   []Finding
	Digest     [32]byte // SHA-256 of the whole file; zero while something in it is damaged
}

// Finding is damage in one place, or in records that follow each other.
type Finding struct {
	Record  uint64 // the first; 0: the header block, or nobody can tell
	Records uint64
	Span
	Reason string // of the first
	Mended bool
	Source int // in Check.Others, of what was mended; FromMemory: nobody had to be asked
}

// FromMemory is the source of a header block that the open volume still knew.
const FromMemory = -1

// Verify reads all of a sealed copy and checks every byte of it: header block, record headers, checksums of metadata and
// chunks, padding. Nothing is decompressed or decrypted. It works on a part of the file at a time, in these steps:
//
//  1. The part is read from the disk, not from the page cache where that can be told apart, and verified.
//  2. If it is wrong, or the disk does not give it, the same place of the other copies is read. Bytes that verify there are
//     what stood here: header checksums are seeded by the file's header block, which all copies share, and the chunk's
//     or metadata's own checksum is in the part or in the header before it. So a record of which every copy has lost
//     another part becomes whole again.
//  3. They are written in place, fsynced, and read back. A crash in between leaves a part that is still wrong.
//  4. If no copy has it, the record is given up and noted, and step 1 goes on behind it, at the next known record.
//
// Damage is no error. An error means that the check did not come to its end; what it had mended by then stays.
func (v *Volume) Verify(c Check) (*Checked, error) {
	w, err := v.walk(c)
	if err != nil {
		return nil, err
	}
	w.end = w.out.Length
	err = w.block()
	if err == nil {
		err = w.records()
	}
	return w.finish(err)
}

// Mend is Verify for one record and what lies between it and the next known one.
func (v *Volume) Mend(record uint64, c Check) (*Checked, error) {
	w, err := v.walk(c)
	if err != nil {
		return nil, err
	}
	if record == 0 || record > uint64(len(w.index)) || w.index[record-1] == 0 {
		return w.finish(fmt.Errorf("volume %s: mend record %d, which has no known place: %w", v.header.ID, record, ErrNotFound))
	}
	w.off = int64(w.index[record-1]) * alignment
	_, w.end = knownAfter(w.known, w.off, w.out.Length)
	if !v.rules.sparse() {
		w.order = only(record)
	}
	w.sum, w.check.Range = nil, nil
	return w.finish(w.records())
}

// walker goes through a file part by part. One goroutine uses it.
type walker struct {
	v     *Volume
	check Check
	index []uint32 // as it was when the check began
	known []placed // the same in the order of the file
	order order

	off, end int64
	start    int64 // of the record that is being read
	in       window
	out      Checked
	bad      *Finding // of the record that is being read; nil while that is whole
	sum      hash.Hash
	stretch  hash.Hash // of the current RangeSize bytes
	patches  []patch   // written, and not fsynced yet
	unsynced int
}

func (v *Volume) walk(c Check) (*walker, error) {
	if err := v.hold(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	sealed := v.sealed
	v.mu.Unlock()
	at, _, err := v.layout()
	if err == nil && !sealed {
		err = fmt.Errorf("not sealed yet: %w", ErrMisplaced)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("verify volume %s: %w", v.header.ID, err), v.drop())
	}
	w := &walker{v: v, check: c, index: at.positions, known: at.sorted, order: v.rules.orderAfter(nil), sum: sha256.New(), stretch: sha256.New()}
	w.out.Length, w.out.Generation = at.end, v.header.Generation
	w.in = window{file: v.file, end: at.end, pace: c.Pace}
	return w, nil
}

// finish makes what was mended durable, and gives the file back.
func (w *walker) finish(err error) (*Checked, error) {
	err = errors.Join(err, w.settle())
	w.in.close()
	if err = errors.Join(err, w.v.drop()); err != nil {
		for i := range w.out.Findings {
			w.out.Findings[i].Mended = false // perhaps: nobody has looked
		}
		return &w.out, fmt.Errorf("verify volume %s at %d of %d: %w", w.v.header.ID, w.off, w.end, err)
	}
	if w.out.Damaged == 0 && w.sum != nil {
		w.sum.Sum(w.out.Digest[:0])
	}
	return &w.out, w.lastRange()
}

// block verifies the header block. The volume is open, so its checksum is known, and mostly what it says as well: its fields, unless
// a newer program wrote more of them.
func (w *walker) block() error {
	verify := func(p []byte) (int64, error) {
		h, seed, err := decodeFileHeader(p)
		switch {
		case err != nil:
			return 0, err
		case seed != w.v.rules.seed || h.ID != w.v.header.ID:
			return 0, malformed("header block of another volume or generation")
		case !zeros(p[fileHeaderFixed+binary.LittleEndian.Uint32(p[12:]) : fileHeaderSize]):
			return 0, malformed("bytes behind the header fields")
		}
		return fileHeaderSize, nil
	}
	ok, err := w.part(fileHeaderSize, verify)
	if !ok && err == nil {
		ok, err = w.blockFromMemory(verify)
	}
	if err != nil {
		return err
	}
	return w.ended(0, ok, fileHeaderSize)
}

func (w *walker) blockFromMemory(verify func(p []byte) (int64, error)) (bool, error) {
	block, err := encodeFileHeader(w.v.header)
	if err == nil {
		_, err = verify(block)
	}
	if err != nil || w.v.o.ReadOnly || len(w.check.Others) == 0 {
		return false, nil // nothing to mend with, or nobody wants it mended
	}
	w.bad.Mended, w.bad.Source = true, FromMemory
	if err := w.overwrite(block); err != nil {
		return false, err
	}
	return true, w.pass(block)
}

// records verifies one record after the other.
func (w *walker) records() error {
	for w.off < w.end {
		if err := w.record(); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) record() error {
	start := w.off
	w.start = start
	var h recordHeader
	ok, err := w.part(recordHeaderSize, func(p []byte) (n int64, err error) {
		if h, err = w.v.rules.decode(p); err == nil {
			err = w.fits(start, &h)
		}
		return recordHeaderSize, err
	})
	if err != nil {
		return err
	}
	if !ok {
		next, to := knownAfter(w.known, start, w.end)
		return w.lose(start, next, to)
	}
	w.order.take(h.number)
	if ok, err = w.body(start, &h); err != nil {
		return err
	}
	return w.ended(h.number, ok, start+h.size())
}

// fits says whether this record can stand here.
func (w *walker) fits(start int64, h *recordHeader) error {
	known := w.numberAt(start)
	switch {
	case start+h.size() > w.end:
		return malformed("record runs over the end")
	case known != 0 && h.number != known, known == 0 && !w.order.allows(h.number, 0):
		return malformed("another record's header")
	case known == 0 && h.number <= uint64(len(w.index)) && w.index[h.number-1] != 0:
		return malformed("header of a record that is elsewhere")
	}
	return nil
}

// body verifies what follows a record's header; false means that a part is lost.
func (w *walker) body(start int64, h *recordHeader) (bool, error) {
	if h.meta > 0 {
		ok, err := w.part(int64(h.meta), func(p []byte) (int64, error) {
			if len(p) < int(h.meta) || checksum(p) != h.metaCheck {
				return 0, malformed("checksum of the metadata")
			}
			return int64(h.meta), nil
		})
		if !ok || err != nil {
			return false, err
		}
	}
	end := start + recordHeaderSize + int64(h.meta) + int64(h.stored)
	for left := h.length; left > 0; {
		raw := uint32(min(left, uint64(h.chunk)))
		ok, err := w.chunk(h, raw, end)
		if !ok || err != nil {
			return false, err
		}
		left -= uint64(raw)
	}
	if w.off != end {
		w.note(malformed("chunks are shorter than the stored length"))
		return false, nil
	}
	return w.padding(start + h.size() - end)
}

func (w *walker) chunk(h *recordHeader, raw uint32, end int64) (bool, error) {
	off := w.off
	return w.part(chunkHeaderSize+int64(raw)+int64(h.tag()), func(p []byte) (int64, error) {
		if len(p) < chunkHeaderSize {
			return 0, malformed("chunk is cut off")
		}
		c, err := decodeChunkHeader(p, raw, h.tag())
		if err != nil {
			return 0, err
		}
		n := chunkHeaderSize + int64(c.size)
		if off+n > end || n > int64(len(p)) {
			return 0, malformed("chunk runs over the stored length")
		}
		if c.check != chunkChecksum(p[:4], p[chunkHeaderSize:n]) {
			return 0, malformed("checksum of a chunk")
		}
		return n, nil
	})
}

func (w *walker) padding(n int64) (bool, error) {
	if n == 0 {
		return true, nil
	}
	return w.part(n, func(p []byte) (int64, error) {
		if int64(len(p)) < n || !zeros(p) {
			return 0, malformed("padding is not zero")
		}
		return n, nil
	})
}

func zeros(p []byte) bool {
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}

// part takes the next part of the file, which is most bytes long or, if verify says so, shorter. It is steps 1 to 3.
func (w *walker) part(most int64, verify func(p []byte) (int64, error)) (bool, error) {
	most = min(most, w.end-w.off)
	p, err := w.in.at(w.off, int(most))
	if err != nil {
		return false, err
	}
	n, wrong := verify(p)
	if wrong == nil && w.in.unreadable(w.off, n) {
		wrong = malformed("the disk does not give it")
	}
	if wrong == nil && !w.check.Distrust {
		return true, w.pass(p[:n])
	}
	return w.fromOthers(most, p, n, wrong, verify)
}

// fromOthers is step 2 for a part of which p are the bytes here, the first n of them right if nothing is wrong with them.
func (w *walker) fromOthers(most int64, p []byte, n int64, wrong error, verify func(p []byte) (int64, error)) (bool, error) {
	good := newBuffer(int(most))
	defer good.release()
	for i, other := range w.check.Others {
		got, _ := other.ReadAt(good.b[:most], w.off) // what it does not give does not verify
		size, err := verify(good.b[:got])
		if err != nil || size > int64(got) || wrong == nil && bytes.Equal(good.b[:size], p[:n]) {
			continue
		}
		w.note(cmp.Or(wrong, error(malformed("content is not what its hash says"))))
		w.bad.Source = i
		if err := w.overwrite(good.b[:size]); err != nil {
			return false, err
		}
		return true, w.pass(good.b[:size])
	}
	if wrong == nil {
		_, err := verify(p) // so that what it found is what stands here
		return true, errors.Join(err, w.pass(p[:n]))
	}
	w.note(wrong)
	w.bad.Mended = false
	return false, nil
}

// note remembers what is wrong with the record that is being read.
func (w *walker) note(wrong error) {
	if w.bad == nil {
		w.bad = &Finding{Span: Span{Start: w.off}, Reason: wrong.Error(), Mended: true}
	}
}

// ended books a record, or the header block, and goes on at its end.
func (w *walker) ended(number uint64, whole bool, end int64) error {
	if whole && number > 0 {
		w.out.Records++
	}
	if f := w.bad; f != nil {
		f.Record, f.End = number, end
		w.find(*f, 1)
	}
	return w.skipTo(end)
}

// lose is step 4 where not even a header is left.
func (w *walker) lose(start int64, next placed, to int64) error {
	f := *w.bad
	f.End, f.Mended = to, false
	records := uint64(1)
	if !w.v.rules.sparse() {
		if next.number > w.order.next {
			records = next.number - w.order.next
		}
		if records == 1 {
			f.Record = w.order.next
		}
		if next.number > 0 {
			w.order = only(next.number)
		}
	} else if known := w.numberAt(start); known != 0 {
		f.Record = known
	}
	w.find(f, records)
	return w.skipTo(to)
}

// find books damage.
func (w *walker) find(f Finding, records uint64) {
	f.Records = records
	if f.Mended {
		w.out.Mended += records
	} else {
		w.out.Damaged += records
	}
	w.bad = nil
	if n := len(w.out.Findings); n > 0 {
		last := &w.out.Findings[n-1]
		if last.Record > 0 && f.Record > 0 && f.follows(last, w.start) {
			last.End, last.Records = f.End, last.Records+records
			return
		}
	}
	if len(w.out.Findings) < maxFindings {
		w.out.Findings = append(w.out.Findings, f)
	}
}

// follows says that the damage begins in the record behind other damage, which had the same end.
func (f *Finding) follows(last *Finding, start int64) bool {
	return last.End == start && last.Mended == f.Mended && last.Source == f.Source
}

// skipTo goes on there; what lies before is given up, but read.
func (w *walker) skipTo(end int64) error {
	for w.off < end {
		p, err := w.in.at(w.off, int(min(end-w.off, RangeSize)))
		if err != nil {
			return err
		}
		if err := w.pass(p); err != nil {
			return err
		}
	}
	return nil
}

// numberAt is the number of the record that is known to begin there, or 0.
func (w *walker) numberAt(off int64) uint64 {
	i, found := searchKnown(w.known, off)
	if !found {
		return 0
	}
	return w.known[i].number
}

// knownAfter is the first of the records, which are in the order of the file, that begins behind off, and where; or the end.
func knownAfter(known []placed, off, end int64) (placed, int64) {
	i, found := searchKnown(known, off)
	if found {
		i++
	}
	if i == len(known) {
		return placed{}, end
	}
	return known[i], int64(known[i].position) * alignment
}

func searchKnown(known []placed, off int64) (int, bool) {
	return slices.BinarySearchFunc(known, off, func(p placed, off int64) int { return cmp.Compare(int64(p.position)*alignment, off) })
}

// pass adds the next bytes to the digests, and goes on behind them.
func (w *walker) pass(p []byte) error {
	if w.sum != nil {
		w.sum.Write(p)
	}
	for len(p) > 0 {
		n := min(int64(len(p)), RangeSize-w.off%RangeSize)
		if w.check.Range != nil {
			w.stretch.Write(p[:n])
		}
		w.off += n
		p = p[n:]
		if w.off%RangeSize == 0 {
			if err := w.endRange(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) endRange() error {
	if w.check.Range == nil {
		return nil
	}
	var sum [32]byte
	w.stretch.Sum(sum[:0])
	w.stretch.Reset()
	return w.check.Range(sum)
}

func (w *walker) lastRange() error {
	if w.off%RangeSize == 0 {
		return nil
	}
	return w.endRange()
}
