package volume

import (
	"errors"
	"fmt"
	"io"
)

// Info is what a record says of itself.
type Info struct {
	Kind   Kind
	Sealed bool     // encrypted
	Length uint64   // of the message
	Stored int64    // bytes of the file that the record takes
	Hash   [32]byte // SHA-256 of the message; in a sealed record a MAC of it, which OpenRef compares
	Meta   []byte   // from Get only
}

// Get describes a record, metadata included, for which an encrypted one needs its key.
func (v *Volume) Get(record uint64) (Info, error) { return v.info(record, true) }

// Stat describes a record without its metadata; no key is needed.
func (v *Volume) Stat(record uint64) (Info, error) { return v.info(record, false) }

func (v *Volume) info(record uint64, withMeta bool) (Info, error) {
	if err := v.hold(); err != nil {
		return Info{}, err
	}
	var meta []byte
	h, off, err := v.record(record)
	if err == nil && withMeta {
		meta, err = v.meta(h, off)
	}
	if dropErr := v.drop(); err == nil {
		err = dropErr
	}
	if err != nil {
		return Info{}, err
	}
	return Info{Kind: h.kind, Sealed: h.sealed, Length: h.length, Stored: h.size(), Hash: h.hash, Meta: meta}, nil
}

// Is says whether the record of a reference's number is what the reference means: ErrNotFound if there is no record of that number, and of an encrypted
// one the error of its key if that is not to be had. Its content is not read.
func (v *Volume) Is(ref Ref) (same bool, err error) {
	if err := v.hold(); err != nil {
		return false, err
	}
	same, err = v.is(ref)
	if dropErr := v.drop(); err == nil {
		err = dropErr
	}
	return same, err
}

func (v *Volume) is(ref Ref) (bool, error) {
	h, _, err := v.record(ref.Record)
	if err != nil {
		return false, err
	}
	seal, err := v.cipher(ref.Record)
	if err != nil {
		return false, fmt.Errorf("tell what record %d is: %w", ref.Record, err)
	}
	return h.kind == KindMessage && h.means(&ref, seal), nil
}

// Open gives n raw bytes of a record's message from off on, fewer where the message ends. Each chunk is
// checked when it is read; a *CorruptError from Read means that another copy has to serve.
func (v *Volume) Open(record, off, n uint64) (io.ReadCloser, error) {
	return v.open(record, nil, off, n)
}

// OpenRef is Open of what a reference means: ErrNotFound if the record of that number is another.
func (v *Volume) OpenRef(ref Ref, off, n uint64) (io.ReadCloser, error) {
	return v.open(ref.Record, &ref, off, n)
}

func (v *Volume) open(record uint64, ref *Ref, off, n uint64) (io.ReadCloser, error) {
	if err := v.hold(); err != nil {
		return nil, err
	}
	r, err := v.reader(record, ref, off, n)
	if err != nil {
		return nil, errors.Join(err, v.drop())
	}
	return r, nil
}

// Of a record that is opened so much is read at once: all of one of a few kilobytes.
const (
	windowMost  = 16 << 10
	windowGuess = recordHeaderSize + 432 // header, and metadata as deliveries have it
)

// reader makes a reader of a record, which is to be what ref means, if there is one. The caller holds the volume; the reader drops it.
func (v *Volume) reader(record uint64, ref *Ref, off, n uint64) (_ *chunkReader, err error) {
	at, end, err := v.locate(record)
	if err != nil {
		return nil, err
	}
	size := int64(windowGuess)
	if ref != nil {
		size += int64(min(ref.Length, windowMost)) // no more than that is stored, or hardly
	}
	size = max(recordHeaderSize, min(size, windowMost, v.following(record, at, end)-at))
	window := newBuffer(int(size))
	defer func() {
		if err != nil {
			window.release()
		}
	}()
	got, err := v.file.ReadAt(window.b[:size], at)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("volume %s: read record %d: %w", v.header.ID, record, err)
	}
	window.b = window.b[:got]
	h, err := v.headerOf(window.b, record, at, end)
	if err != nil {
		return nil, err
	}
	seal, err := v.cipher(record)
	if err != nil {
		return nil, err
	}
	if ref != nil && !h.means(ref, seal) {
		return nil, fmt.Errorf("volume %s: record %d is not what the reference means: %w", v.header.ID, record, ErrNotFound)
	}
	start := at + recordHeaderSize + int64(h.meta)
	span := chunkSpan{src: v.file, start: start, size: int64(h.stored), length: h.length, chunk: h.chunk, seal: seal,
		window: window, windowAt: at - start, volume: v.header.ID, record: record}
	if h.kind != KindDictionary {
		span.dictionary = v.dictionary
	}
	return newChunkReader(span, off, n, v), nil
}

// means says whether the record is what a reference names.
func (h *recordHeader) means(ref *Ref, seal *recordCipher) bool {
	hash := ref.Hash
	if seal != nil {
		hash = seal.mac(hash)
	}
	return h.length == ref.Length && h.hash == hash
}

// record finds a durable record and reads its header.
func (v *Volume) record(number uint64) (recordHeader, int64, error) {
	off, end, err := v.locate(number)
	if err != nil {
		return recordHeader{}, 0, err
	}
	var b [recordHeaderSize]byte
	if _, err := v.file.ReadAt(b[:], off); err != nil && err != io.EOF {
		return recordHeader{}, 0, fmt.Errorf("volume %s: read record %d: %w", v.header.ID, number, err)
	}
	h, err := v.headerOf(b[:], number, off, end)
	return h, off, err
}

// headerOf decodes the header of the record of that number, whose bytes begin at off and lie before end.
func (v *Volume) headerOf(b []byte, number uint64, off, end int64) (recordHeader, error) {
	h, err := v.rules.decode(b)
	switch {
	case err != nil:
	case h.number != number:
		err = malformed(fmt.Sprintf("record %d is in its place", h.number))
	case off+h.size() > end:
		err = malformed("record runs over the durable part")
	}
	return h, located(err, v.header.ID, number, off)
}

// locate looks a record up in the index, or in its file. The caller holds the volume.
func (v *Volume) locate(number uint64) (off, end int64, err error) {
	for {
		v.mu.Lock()
		x, durable := v.saved, v.durable
		v.mu.Unlock()
		if x == nil {
			return v.lookUp(number)
		}
		p, err := x.place(number)
		switch {
		case unusable(err):
			if err := v.reindex(x); err != nil {
				return 0, 0, err
			}
			continue
		case err != nil:
			return 0, 0, fmt.Errorf("volume %s: look up record %d: %w", v.header.ID, number, err)
		case p == 0:
			return 0, 0, fmt.Errorf("volume %s: record %d: %w", v.header.ID, number, ErrNotFound)
		}
		return int64(p) * alignment, durable, nil
	}
}

// lookUp finds a record in the index that is in memory.
func (v *Volume) lookUp(number uint64) (off, end int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if number > 0 && number <= uint64(len(v.index)) && v.index[number-1] != 0 {
		return int64(v.index[number-1]) * alignment, v.durable, nil
	}
	return 0, 0, v.missing(number)
}

// following is where the next record begins if that is known at no cost, so that no more is read than the record; else end.
func (v *Volume) following(number uint64, at, end int64) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if number < uint64(len(v.index)) {
		if next := int64(v.index[number]) * alignment; next > at {
			return next
		}
	}
	return end
}

// missing says why a record has no place. Called under mu.
func (v *Volume) missing(number uint64) error {
	lost := &CorruptError{Volume: v.header.ID, Record: number, Offset: fileHeaderSize, Reason: "no record header found behind this place"}
	switch {
	case v.rules.sparse() && number > 0 && number <= v.rules.records && (len(v.damage) > 0 || v.endless):
		lost.Offset, lost.Reason = v.whole(), "if the record is in this generation it is in a damaged part"
	case v.rules.sparse(), number == 0, number > uint64(len(v.index)) && !v.endless:
		return fmt.Errorf("volume %s: record %d: %w", v.header.ID, number, ErrNotFound)
	default:
		// It lies between its neighbours, and nobody knows where; or at the end, if it is there at all.
		for i := min(number-1, uint64(len(v.index))); i > 0; i-- {
			if p := v.index[i-1]; p != 0 {
				lost.Offset = int64(p) * alignment
				break
			}
		}
	}
	return lost
}

// meta reads and checks a record's metadata.
func (v *Volume) meta(h recordHeader, off int64) ([]byte, error) {
	meta := make([]byte, h.meta)
	if n, err := v.file.ReadAt(meta, off+recordHeaderSize); n < len(meta) && err != io.EOF {
		return nil, fmt.Errorf("volume %s: read metadata of record %d: %w", v.header.ID, h.number, err)
	}
	if checksum(meta) != h.metaCheck {
		return nil, &CorruptError{Volume: v.header.ID, Record: h.number, Offset: off + recordHeaderSize, Reason: "checksum of the metadata"}
	}
	if !h.sealed || len(meta) == 0 {
		return meta, nil
	}
	seal, err := v.cipher(h.number)
	if err == nil {
		meta, err = seal.open(meta, metaCounter)
	}
	if err != nil {
		return nil, located(err, v.header.ID, h.number, off+recordHeaderSize)
	}
	return meta, nil
}
