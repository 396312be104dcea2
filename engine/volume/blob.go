package volume

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Blob is a message's bytes, encoded once: in memory when small, else in a temporary file. It does
// not change, so several goroutines may read and append it at once.
type Blob struct {
	store      *store
	length     uint64
	hash       [32]byte
	dictionary *Dictionary // that its frames may need; nil if none does
	closed     atomic.Bool
	bad        atomic.Pointer[error] // why it cannot be read any more
}

// Length is the message's own length.
func (b *Blob) Length() uint64 { return b.length }

// StoredLength is the length of the encoded chunks.
func (b *Blob) StoredLength() uint64 { return uint64(b.store.size) }

// Hash is the SHA-256 of the message.
func (b *Blob) Hash() [32]byte { return b.hash }

// Dictionary is what the blob is compressed with; nil if nothing.
func (b *Blob) Dictionary() *Dictionary { return b.dictionary }

// Stored gives the encoded chunk stream, to send to another node or to append. Many times.
func (b *Blob) Stored() (io.ReadCloser, error) {
	if !b.store.hold() {
		return nil, fmt.Errorf("blob: %w", ErrClosed)
	}
	return &storedReader{SectionReader: io.NewSectionReader(b.store, 0, b.store.size), store: b.store}, nil
}

// Open gives n raw bytes from off on, fewer where the message ends first.
func (b *Blob) Open(off, n uint64) (io.ReadCloser, error) {
	if !b.store.hold() {
		return nil, fmt.Errorf("blob: %w", ErrClosed)
	}
	span := chunkSpan{src: b.store, size: b.store.size, length: b.length, chunk: chunkSize, dictionary: b.named}
	return newChunkReader(span, off, n, b.store), nil
}

// named is the dictionary of that id.
func (b *Blob) named(id uint32) (*Dictionary, error) {
	if b.dictionary == nil || b.dictionary.id != id {
		return nil, malformed(fmt.Sprintf("chunk needs dictionary %d, which the blob is not said to need", id))
	}
	return b.dictionary, nil
}

// Close gives the blob back. Readers that are still open go on; the last of them frees the memory.
func (b *Blob) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	return b.store.drop()
}

// setBroken remembers that the blob's bytes cannot be read, so that it does not fail one volume after the other.
func (b *Blob) setBroken(err error) { b.bad.CompareAndSwap(nil, &err) }

func (b *Blob) broken() error {
	if p := b.bad.Load(); p != nil {
		return *p
	}
	return nil
}

// storedReader is a reader of the chunk stream that holds on to the blob until it is closed.
type storedReader struct {
	*io.SectionReader
	store  *store
	closed atomic.Bool
}

func (r *storedReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.store.drop()
}

// ReceiveBlob is the other end of Stored: it takes stored bytes of r, which are the chunks of a message of
// that length and hash. Every chunk's stored length and checksum are verified; the message itself is not
// decoded here: that its length and hash are right is the sender's word. d is the dictionary that it is compressed with, if any;
// frames that name another are refused. Memory is bounded as in a Spool.
func ReceiveBlob(r io.Reader, length, stored uint64, hash [32]byte, d *Dictionary, fs vfs.FS, tmpDir string, memLimit int) (*Blob, error) {
	if err := checkLengths(length, stored, chunkSize, 0); err != nil {
		return nil, fmt.Errorf("receive blob: %w", err)
	}
	b := &Blob{store: newStore(fs, tmpDir, memLimit), length: length, hash: hash, dictionary: d}
	if err := b.receive(r, stored); err != nil {
		err = fmt.Errorf("receive blob at %d of %d bytes: %w", b.store.size, stored, err)
		if dropErr := b.store.drop(); dropErr != nil {
			return nil, fmt.Errorf("%w (and %w)", err, dropErr)
		}
		return nil, err
	}
	return b, nil
}

func (b *Blob) receive(r io.Reader, stored uint64) error {
	s := b.store
	for left := b.length; left > 0; {
		raw := uint32(min(left, chunkSize))
		chunk, err := b.receiveChunk(r, raw, stored-uint64(s.size))
		if err != nil {
			return err
		}
		if err := s.add(chunk); err != nil {
			return err
		}
		left -= uint64(raw)
	}
	if uint64(s.size) != stored {
		return malformed("chunks are shorter than the stored length")
	}
	return nil
}

// receiveChunk reads one chunk of raw message bytes that takes at most limit stored ones.
func (b *Blob) receiveChunk(r io.Reader, raw uint32, limit uint64) (*buffer, error) {
	var head [chunkHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read chunk header: %w", err)
	}
	h, err := decodeChunkHeader(head[:], raw, 0)
	if err != nil {
		return nil, err
	}
	n := chunkHeaderSize + int(h.size)
	if uint64(n) > limit {
		return nil, malformed("chunk runs over the stored length")
	}
	chunk := newBuffer(n)
	chunk.b = append(chunk.b, head[:]...)[:n]
	if _, err := io.ReadFull(r, chunk.b[chunkHeaderSize:]); err != nil {
		chunk.release()
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	body := chunk.b[chunkHeaderSize:]
	if h.check != chunkChecksum(head[:4], body) {
		chunk.release()
		return nil, malformed("checksum of a chunk")
	}
	if !h.plain {
		id, err := frameDictionary(body)
		if err == nil && id != 0 {
			_, err = b.named(id)
		}
		if err != nil {
			chunk.release()
			return nil, err
		}
	}
	return chunk, nil
}
