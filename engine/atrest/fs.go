package atrest

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A file begins with a header: magic, version, salt and the first half of an HMAC of these. docs/formats/atrest.md draws it.
const (
	fileMagic   = "HYatrest"
	fileVersion = 1
	headerSize  = 64
	tagAt       = 48
)

// FS encrypts the files of another file system. Their names, and their lengths but for the header's, stay visible. A file is
// written once, from its beginning to its end, and read at any place. Without a key it is base.
func (k *Key) FS(base vfs.FS) vfs.FS {
	if k == nil {
		return base
	}
	return &sealedFS{FS: base, key: k}
}

type sealedFS struct {
	vfs.FS
	key *Key
}

var errRewrite = fmt.Errorf("an encrypted file is written once, from front to back: %w", errors.ErrUnsupported)

// Create implements vfs.FS.
func (s *sealedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return s.begin(f)
}

// ReuseForWrite implements vfs.FS. It makes the file anew: a key stream is not used twice.
func (s *sealedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.FS.Remove(oldname); err != nil {
		return nil, err
	}
	return s.Create(newname, category)
}

// OpenReadWrite implements vfs.FS, and refuses.
func (s *sealedFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, fmt.Errorf("open %s: %w", name, errRewrite)
}

// begin writes the header of a new file.
func (s *sealedFS) begin(f vfs.File) (vfs.File, error) {
	unique := salt()
	h := s.key.header(unique)
	if _, err := f.Write(h); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{File: f, cipher: s.key.fileCipher(unique)}, nil
}

// Open implements vfs.FS.
func (s *sealedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	h := make([]byte, headerSize)
	n, err := f.ReadAt(h, 0)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	if unwritten(h[:n]) {
		return &file{File: f, lost: true}, nil
	}
	c, err := s.key.open(h[:n])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), f.Close())
	}
	return &file{File: f, cipher: c}, nil
}

// unwritten recognises what a crash leaves of a file that was never synced: its header is not there, so nothing that it held
// was promised to be. It reads as an empty file.
func unwritten(h []byte) bool { return len(h) < headerSize || bytes.Equal(h, make([]byte, headerSize)) }

// Sealed reports whether a file of base was written through FS, under whatever key.
func Sealed(base vfs.FS, name string) (bool, error) {
	f, err := base.Open(name)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", name, err)
	}
	var magic [len(fileMagic)]byte
	_, err = f.ReadAt(magic[:], 0)
	if err == io.EOF {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("look at %s: %w", name, err)
	}
	return string(magic[:]) == fileMagic, nil
}

// Stat implements vfs.FS.
func (s *sealedFS) Stat(name string) (vfs.FileInfo, error) {
	info, err := s.FS.Stat(name)
	return withoutHeader(info, err)
}

// Unwrap implements vfs.FS.
func (s *sealedFS) Unwrap() vfs.FS { return s.FS }

// header makes a file's header.
func (k *Key) header(unique [saltSize]byte) []byte {
	b := make([]byte, headerSize)
	copy(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], fileVersion)
	copy(b[16:], unique[:])
	copy(b[tagAt:], k.tag(b))
	return b
}

func (k *Key) tag(header []byte) []byte {
	return k.derive([]byte("hongyan file header "), header[:tagAt])[:headerSize-tagAt]
}

// open checks a header and gives the cipher of its file.
func (k *Key) open(h []byte) (*fileCipher, error) {
	if len(h) < headerSize || string(h[:8]) != fileMagic {
		return nil, ErrPlain
	}
	if version := binary.LittleEndian.Uint32(h[8:]); version != fileVersion {
		return nil, fmt.Errorf("encrypted file of version %d, this program reads %d: %w", version, fileVersion, ErrVersion)
	}
	if !hmac.Equal(h[tagAt:], k.tag(h)) {
		return nil, ErrWrongKey
	}
	return k.fileCipher([saltSize]byte(h[16:])), nil
}

// info is a file's, without the header.
type info struct{ vfs.FileInfo }

// Size implements fs.FileInfo.
func (i info) Size() int64 { return max(0, i.FileInfo.Size()-headerSize) }

// empty is of a file whose header is lost.
type empty struct{ vfs.FileInfo }

// Size implements fs.FileInfo.
func (empty) Size() int64 { return 0 }

func withoutHeader(i vfs.FileInfo, err error) (vfs.FileInfo, error) {
	if err != nil || i.IsDir() {
		return i, err
	}
	return info{i}, nil
}
