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
	// window holds what was read of src already, from windowAt on, relative to start; the reader releases it. It may be nil.
	window   *buffer
	windowAt int64
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
	holder holder // of src; nil once the reader is closed

	pos   int64  // next chunk, relative to start
	index uint64 // its number in the message
	skip  uint64 // raw bytes before the range in the next chunk
	left  uint64 // raw bytes of the range not given yet

	raw  *buffer // the decoded chunk
	rest []byte  // of it, what was not given yet
	err  error   // final
}

// holder is what keeps a span's bytes at hand until it is dropped.
type holder interface{ drop() error }

// newChunkReader gives n raw bytes from off on, fewer where the message ends. It drops the holder once, when it is closed.
func newChunkReader(s chunkSpan, off, n uint64, h holder) *chunkReader {
	off = min(off, s.length)
	r := &chunkReader{chunkSpan: s, holder: h, left: min(n, s.length-off)}
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
		n, err := r.next(p)
		if err != nil {
			r.finish(err)
			return 0, err
		}
		if n > 0 {
			r.left -= uint64(n)
			return n, nil
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.left -= uint64(n)
	return n, nil
}

// Close ends the reading. It may be called at any time, and twice.
func (r *chunkReader) Close() error {
	if r.holder == nil {
		return nil
	}
	r.finish(ErrClosed)
	h := r.holder
	r.holder = nil
	return h.drop()
}

func (r *chunkReader) finish(err error) {
	r.err, r.rest = err, nil
	r.raw.release()
	r.window.release()
	r.raw, r.window = nil, nil
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

// next decodes the next chunk of the range: into p, and says how much that is, if all of the chunk is wanted and there is room; else
// into rest.
func (r *chunkReader) next(p []byte) (int, error) {
	for r.skip >= uint64(r.chunk) {
		if err := r.pass(); err != nil {
			return 0, err
		}
	}
	raw := r.rawSize()
	h, body, stored, err := r.load(raw)
	if err != nil {
		return 0, err
	}
	if r.seal != nil {
		if body, err = r.seal.open(body, r.index+1); err != nil {
			stored.release()
			return 0, r.corrupt(err)
		}
	}
	r.raw.release()
	r.raw = nil
	direct := r.skip == 0 && r.left >= uint64(raw) && len(p) >= int(raw)+overrun
	switch {
	case h.plain:
		r.raw, r.rest, direct = stored, body, false
	case direct:
		_, err = r.decode(body, p, raw, h.recoded)
		stored.release()
	default:
		r.raw = newBuffer(int(raw) + overrun)
		r.rest, err = r.decode(body, r.raw.b, raw, h.recoded)
		stored.release()
	}
	if err != nil {
		return 0, r.corrupt(err)
	}
	r.advance(h)
	if direct {
		return int(raw), nil
	}
	r.rest = r.rest[r.skip:]
	r.rest = r.rest[:min(uint64(len(r.rest)), r.left)]
	r.skip = 0
	return 0, nil
}

// decode decompresses a frame into dst.
func (r *chunkReader) decode(frame, dst []byte, raw uint32, recoded bool) ([]byte, error) {
	own, err := decoderFor(frame, r.dictionary)
	if err != nil {
		return nil, err
	}
	return decodeChunk(own, frame, dst, raw, recoded)
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
// and checks it. The chunk's bytes are in the window, or in the buffer that comes back.
func (r *chunkReader) load(raw uint32) (h chunkHeader, body []byte, _ *buffer, err error) {
	n := int(min(r.size-r.pos, chunkHeaderSize+int64(raw+r.tag())))
	if n <= chunkHeaderSize {
		return h, nil, nil, r.corrupt(malformed("chunks end before the message"))
	}
	var stored *buffer
	b := r.windowed(n)
	if b == nil {
		stored = newBuffer(n)
		b = stored.b[:n]
		err = r.readAt(b)
	}
	if err == nil {
		h, err = r.header(b, raw)
	}
	if err == nil {
		body = b[chunkHeaderSize : chunkHeaderSize+int(h.size)]
		if h.check != chunkChecksum(b[:4], body) {
			err = r.corrupt(malformed("checksum of a chunk"))
		}
	}
	if err != nil {
		stored.release()
		return h, nil, nil, err
	}
	return h, body, stored, nil
}

// windowed gives the next n bytes if they are all in the window.
func (r *chunkReader) windowed(n int) []byte {
	if r.window == nil || r.pos-r.windowAt+int64(n) > int64(len(r.window.b)) {
		return nil
	}
	return r.window.b[r.pos-r.windowAt:][:n]
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
