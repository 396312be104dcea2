package volume

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The kinds of failure that callers tell apart.
var (
	// ErrSealed: the volume takes no more records. Another volume will.
	ErrSealed = errors.New("volume is sealed")
	// ErrNotFound: there is no such volume here, or no such record in the volume's durable part.
	ErrNotFound = errors.New("not found")
	// ErrFull: the disk has no space left, or less than the reserve.
	ErrFull = errors.New("disk is full")
	// ErrFailed: a write or an fsync failed earlier, and the volume is not written to any more.
	ErrFailed = errors.New("volume has failed")
	// ErrExists: a volume of that id is already here.
	ErrExists = errors.New("volume exists")
	// ErrVersion: the file was written by a newer version of the program.
	ErrVersion = errors.New("unknown format version")
	// ErrTooLarge: a message or its metadata is over the format's limits.
	ErrTooLarge = errors.New("too large")
	// ErrIndex: the record index beside the fragments of a volume is gone or damaged. Another node has it.
	ErrIndex = errors.New("record index cannot be used")
	// ErrReadOnly: the volume was opened for looking only.
	ErrReadOnly = errors.New("volume is open for reading only")
	// ErrNoKeys: the volume is encrypted, and its keys are not here.
	ErrNoKeys = errors.New("the volume's keys are not at hand")
	// ErrClosed: the volume, blob or spool was closed.
	ErrClosed = errors.New("closed")
	// ErrMisplaced: bytes or a length that do not belong at this place of the file.
	ErrMisplaced = errors.New("wrong place in the volume")
)

// errUnsure is why a volume with a tail of which nobody knows what it is fails.
var errUnsure = errors.New("it is not known yet how the volume was sealed")

// CorruptError says where stored bytes are not what was written. Another copy of the volume mends them.
type CorruptError struct {
	Volume ID     // zero for a blob that is not in a volume
	Record uint64 // zero if not known
	Offset int64  // in the file, or in the stored bytes of a blob
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("volume %s record %d is corrupt at offset %d: %s", e.Volume, e.Record, e.Offset, e.Reason)
}

// malformed is a decoder's complaint before anybody knows which file and offset it is about.
type malformed string

func (m malformed) Error() string { return string(m) }

// failure turns the error of a write or an fsync into the one that the volume keeps for good.
func failure(id ID, doing string, err error) error {
	kind := ErrFailed
	if vfs.IsNoSpaceError(err) || errors.Is(err, syscall.EDQUOT) {
		kind = ErrFull
	}
	return fmt.Errorf("volume %s: %s: %w: %w", id, doing, kind, err)
}

// located makes a CorruptError of a decoder's complaint. Other errors stay what they are.
func located(err error, id ID, record uint64, off int64) error {
	var m malformed
	if !errors.As(err, &m) {
		return err
	}
	return &CorruptError{Volume: id, Record: record, Offset: off, Reason: m.Error()}
}
