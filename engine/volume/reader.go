package volume

import (
	"errors"
	"io"
)

// chunkSpan is where the chunks of one message lie, and how long they and the message are.
type chunkSpan struct {
	src    io.ReaderAt
	start  int64 // of the first chunk in src
	size   int64 // of all chunks
	length uint64
	chunk  uint32        // raw bytes in every chunk but the last
	seal   *recordCipher // nil: the chunks are not encrypted
	// dictionary gives what frames name; nil where none may
	dictionary func(id uint32) (*Dictionary, error)
	// where the span is, for errors
	volume ID
	record uint64
}

// chunkReader gives a range of a message's raw bytes. It decodes one chunk at a time, and only those
// that the range touches; those before are skipped by their lengths. One goroutine uses it.
type chunkReader struct {
	chunkSpan
	release func() error

	pos   int64  // next chunk, relative to start
	index uint64 // its number in the message
	skip  uint64 // raw bytes before the range in the next chunk
	left  uint64 // raw bytes of the range not given yet

	raw  *buffer // the decoded chunk
	rest []byte  // of it, what was not given yet
	err  error   // final
}

// newChunkReader gives n raw bytes from off on, fewer where the message ends. It calls release once, when it is closed.
func newChunkReader(s chunkSpan, off, n uint64, release func() error) *chunkReader {
	off = min(off, s.length)
	r := &chunkReader{chunkSpan: s, release: release, left: min(n, s.length-off)}
	r.skip = off
	return r
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.rest) == 0 {
		if r.left == 0 {
			r.finish(io.EOF)
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			r.finish(err)
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.left -= uint64(n)
	return n, nil
}

// Close ends the reading. It may be called at any time, and twice.
func (r *chunkReader) Close() error {
	if r.release == nil {
		return nil
	}
	r.finish(ErrClosed)
	release := r.release
	r.release = nil
	return release()
}

func (r *chunkReader) finish(err error) {
	r.err, r.rest = err, nil
	r.raw.release()
	r.raw = nil
}

// tag is what encryption adds to a chunk.
func (r *chunkReader) tag() uint32 {
	if r.seal == nil {
		return 0
	}
	return tagSize
}

// rawSize is how much of the message the next chunk holds.
func (r *chunkReader) rawSize() uint32 {
	return uint32(min(uint64(r.chunk), r.length-r.index*uint64(r.chunk)))
}

// next decodes the next chunk of the range into rest.
func (r *chunkReader) next() error {
	for r.skip >= uint64(r.chunk) {
		if err := r.pass(); err != nil {
			return err
		}
	}
	raw := r.rawSize()
	h, stored, err := r.load(raw)
	if err != nil {
		return err
	}
	body := stored.b[chunkHeaderSize : chunkHeaderSize+int(h.size)]
	if r.seal != nil {
		if body, err = r.seal.open(body, r.index+1); err != nil {
			stored.release()
			return r.corrupt(err)
		}
	}
	r.raw.release()
	if h.plain {
		r.raw, r.rest = stored, body
	} else {
		r.raw = newBuffer(int(raw) + overrun)
		err = r.decode(body, raw, h.recoded)
		stored.release()
		if err != nil {
			return r.corrupt(err)
		}
	}
	r.rest = r.rest[r.skip:]
	r.rest = r.rest[:min(uint64(len(r.rest)), r.left)]
	r.skip = 0
	r.advance(h)
	return nil
}

// decode decompresses a frame into raw and rest.
func (r *chunkReader) decode(frame []byte, raw uint32, recoded bool) error {
	own, err := decoderFor(frame, r.dictionary)
	if err == nil {
		r.rest, err = decodeChunk(own, frame, r.raw.b, raw, recoded)
	}
	return err
}

// pass steps over a chunk before the range without reading it.
func (r *chunkReader) pass() error {
	var head [chunkHeaderSize]byte
	if err := r.readAt(head[:]); err != nil {
		return err
	}
	h, err := r.header(head[:], r.rawSize())
	if err != nil {
		return err
	}
	r.advance(h)
	r.skip -= uint64(r.chunk)
	return nil
}

func (r *chunkReader) advance(h chunkHeader) {
	r.pos += chunkHeaderSize + int64(h.size)
	r.index++
}

// load reads the next chunk with its header in one go, since it can be no longer than its raw bytes,
// and checks it.
func (r *chunkReader) load(raw uint32) (chunkHeader, *buffer, error) {
	n := int(min(r.size-r.pos, chunkHeaderSize+int64(raw+r.tag())))
	if n <= chunkHeaderSize {
		return chunkHeader{}, nil, r.corrupt(malformed("chunks end before the message"))
	}
	stored := newBuffer(n)
	stored.b = stored.b[:n]
	err := r.readAt(stored.b)
	var h chunkHeader
	if err == nil {
		h, err = r.header(stored.b, raw)
	}
	if err == nil && h.check != chunkChecksum(stored.b[:4], stored.b[chunkHeaderSize:chunkHeaderSize+int(h.size)]) {
		err = r.corrupt(malformed("checksum of a chunk"))
	}
	if err != nil {
		stored.release()
		return h, nil, err
	}
	return h, stored, nil
}

// header decodes a chunk header and checks that the chunk lies inside the span.
func (r *chunkReader) header(b []byte, raw uint32) (chunkHeader, error) {
	h, err := decodeChunkHeader(b, raw, r.tag())
	if err != nil {
		return h, r.corrupt(err)
	}
	if r.pos+chunkHeaderSize+int64(h.size) > r.size {
		return h, r.corrupt(malformed("chunk runs over the stored length"))
	}
	return h, nil
}

func (r *chunkReader) readAt(p []byte) error {
	if r.pos+int64(len(p)) > r.size {
		return r.corrupt(malformed("chunks end before the message"))
	}
	n, err := r.src.ReadAt(p, r.start+r.pos)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return r.corrupt(malformed("file ends inside the message"))
	}
	return err
}

// corrupt says where a decoder's complaint belongs; other errors pass through it.
func (r *chunkReader) corrupt(err error) error {
	return located(err, r.volume, r.record, r.start+r.pos)
}
