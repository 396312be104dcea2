package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pieceSize is how much is encrypted at a time.
const pieceSize = 64 << 10

// fileCipher is AES in counter mode with the file's own key; the counter is the number of the 16-byte block, from 0.
type fileCipher struct{ block cipher.Block }

func (k *Key) fileCipher(unique [saltSize]byte) *fileCipher {
	return &fileCipher{newAES(k.derive([]byte("hongyan file "), unique[:]))}
}

// xor encrypts or decrypts src, which begins at off in the file, into dst.
func (c *fileCipher) xor(dst, src []byte, off int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(c.block, counter[:])
	var skip [aes.BlockSize]byte
	if n := off % aes.BlockSize; n > 0 {
		stream.XORKeyStream(skip[:n], skip[:n])
	}
	stream.XORKeyStream(dst[:len(src)], src)
}

// file is an encrypted file: one that is new and being written, or one that is read.
type file struct {
	vfs.File
	cipher *fileCipher
	lost   bool   // opened, but its header never reached the disk: it is empty
	piece  []byte // scratch of Write
	wrote  int64
	read   int64 // where Read goes on
}

// Write implements io.Writer. What it is given stays as it is.
func (f *file) Write(p []byte) (n int, err error) {
	if f.piece == nil {
		f.piece = make([]byte, min(pieceSize, max(len(p), 4<<10)))
	}
	if len(f.piece) < pieceSize && len(f.piece) < len(p) {
		f.piece = make([]byte, pieceSize)
	}
	for n < len(p) {
		src := p[n:min(len(p), n+len(f.piece))]
		f.cipher.xor(f.piece, src, f.wrote)
		m, err := f.File.Write(f.piece[:len(src)])
		f.wrote += int64(m)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// WriteAt implements io.WriterAt, and refuses.
func (f *file) WriteAt([]byte, int64) (int, error) { return 0, errRewrite }

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if f.lost {
		return 0, io.EOF
	}
	n, err := f.File.ReadAt(p, headerSize+off)
	f.cipher.xor(p[:n], p[:n], off)
	return n, err
}

// Read implements io.Reader. Unlike a plain file's, its place does not move with Write.
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.read)
	f.read += int64(n)
	if n > 0 && err == io.EOF {
		err = nil // the next call says so
	}
	return n, err
}

// Stat implements vfs.File.
func (f *file) Stat() (vfs.FileInfo, error) {
	i, err := f.File.Stat()
	if f.lost && err == nil {
		return empty{i}, nil
	}
	return withoutHeader(i, err)
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(off, length int64) error {
	return f.File.Preallocate(headerSize+off, length)
}

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (bool, error) { return f.File.SyncTo(headerSize + length) }

// Prefetch implements vfs.File.
func (f *file) Prefetch(off, length int64) error { return f.File.Prefetch(headerSize+off, length) }
