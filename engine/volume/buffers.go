package volume

import "sync"

// bufferSizes are the classes of pooled buffers. The largest holds a chunk of the largest size that
// the format allows, with its header and the few bytes that zstd adds to what it cannot compress.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, chunkSize + 1<<10, maxChunkSize + 4<<10}

// buffers holds free buffers of each class. It is shared by the package since a Spool or a reader lives
// for one message only; it keeps nothing but scratch memory.
var buffers [len(bufferSizes)]sync.Pool

// buffer is scratch memory that is given back. Whoever holds it last releases it, once.
type buffer struct {
	b     []byte
	class int
}

// newBuffer gives an empty buffer with room for n bytes.
func newBuffer(n int) *buffer {
	for class, size := range bufferSizes {
		if n > size {
			continue
		}
		if p, ok := buffers[class].Get().(*buffer); ok {
			p.b = p.b[:0]
			return p
		}
		return &buffer{b: make([]byte, 0, size), class: class}
	}
	return &buffer{b: make([]byte, 0, n), class: -1}
}

// release gives the memory back; the holder must not touch it again. A nil buffer is fine.
func (p *buffer) release() {
	if p != nil && p.class >= 0 && cap(p.b) == bufferSizes[p.class] {
		buffers[p.class].Put(p)
	}
}
