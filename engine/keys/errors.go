package keys

import (
	"errors"
	"fmt"
)

// The kinds of failure that callers tell apart.
var (
	// ErrDestroyed: the record's key was destroyed. Its bytes are gone for good.
	ErrDestroyed = errors.New("the record's key was destroyed")
	// ErrNoSlot: the key file has no slot of that number.
	ErrNoSlot = errors.New("no such key slot")
	// ErrUnknownKey: what is wrapped names a master key that this node does not have.
	ErrUnknownKey = errors.New("unknown master key")
	// ErrWrongKey: the master key of that name is another one than wrapped this, or the wrapped bytes are damaged.
	ErrWrongKey = errors.New("master key does not fit")
	// ErrVersion: the file was written by a newer version of the program.
	ErrVersion = errors.New("unknown format version")
	// ErrFailed: a write or an fsync of the file failed earlier; it is not written to until it is opened again.
	ErrFailed = errors.New("key file has failed")
)

// CorruptError says where a key file is not what was written. Another copy of the volume mends it.
type CorruptError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("key file %s is corrupt at offset %d: %s", e.Path, e.Offset, e.Reason)
}

// malformed is a decoder's complaint before anybody knows which file and offset it is about.
type malformed string

func (m malformed) Error() string { return string(m) }

// located makes a CorruptError of a decoder's complaint. Other errors stay what they are.
func located(err error, path string, off int64) error {
	var m malformed
	if !errors.As(err, &m) {
		return err
	}
	return &CorruptError{Path: path, Offset: off, Reason: m.Error()}
}

func corrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}
