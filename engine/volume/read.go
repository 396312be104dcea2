package volume

import (
	"fmt"
	"io"
)

// Get gives a record's metadata, and the length and hash of its message.
func (v *Volume) Get(record uint64) (meta []byte, length uint64, hash [32]byte, err error) {
	if err := v.hold(); err != nil {
		return nil, 0, hash, err
	}
	h, off, err := v.record(record)
	if err == nil {
		meta, err = v.meta(h, off)
	}
	if dropErr := v.drop(); err == nil {
		err = dropErr
	}
	if err != nil {
		return nil, 0, hash, err
	}
	return meta, h.length, h.hash, nil
}

// Open gives n raw bytes of a record's message from off on, fewer where the message ends. Each chunk is
// checked when it is read; a *CorruptError from Read means that another copy has to serve.
func (v *Volume) Open(record, off, n uint64) (io.ReadCloser, error) {
	if err := v.hold(); err != nil {
		return nil, err
	}
	h, at, err := v.record(record)
	if err != nil {
		if dropErr := v.drop(); dropErr != nil {
			return nil, fmt.Errorf("%w (and %w)", err, dropErr)
		}
		return nil, err
	}
	span := chunkSpan{src: v.file, start: at + recordHeaderSize + int64(h.meta), size: int64(h.stored),
		length: h.length, chunk: h.chunk, volume: v.header.ID, record: record}
	return newChunkReader(span, off, n, v.drop), nil
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
	h, err := decodeRecordHeader(b[:], v.seed)
	switch {
	case err != nil:
	case h.number != number:
		err = malformed(fmt.Sprintf("record %d is in its place", h.number))
	case off+h.size() > end:
		err = malformed("record runs over the durable part")
	}
	return h, off, located(err, v.header.ID, number, off)
}

// locate looks a record up in the index.
func (v *Volume) locate(number uint64) (off, end int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if number == 0 || number > uint64(len(v.index)) {
		return 0, 0, fmt.Errorf("volume %s: record %d: %w", v.header.ID, number, ErrNotFound)
	}
	if p := v.index[number-1]; p != 0 {
		return int64(p) * alignment, v.durable, nil
	}
	// It lies between its neighbours, and nobody knows where.
	at := int64(fileHeaderSize)
	for i := number - 1; i > 0; i-- {
		if p := v.index[i-1]; p != 0 {
			at = int64(p) * alignment
			break
		}
	}
	return 0, 0, &CorruptError{Volume: v.header.ID, Record: number, Offset: at, Reason: "no record header found behind this place"}
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
	return meta, nil
}
