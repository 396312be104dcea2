// Package journal keeps the logs of all of a node's shards in one sequence of files with one group commit: shards that
// append at once share a write and an fsync. (CockroachDB and dragonboat keep one log for many shards, too.)
//
// A journal is a sequence of segments, numbered without gaps; only the last is written. A segment is filled with zeros before
// its first use and used again after its last, since an fsync into blocks that exist costs half of one that lengthens a
// file. What was written goes to its end in frames: one write, one fsync, the records of everybody who waited.
// docs/formats/journal.md has the bytes.
//
// Invariants:
//
//  1. Append, Cut and Drop return after an fsync covers them. What they did is visible in memory only then.
//  2. A frame is written after the fsync of the one before. So behind a frame that is not whole there is no
//     whole one, unless the disk has damaged what it had made durable: Open tells a torn tail, which it ignores, from damage,
//     which it reports.
//  3. A segment that Open found is not written again. Its end is noted in the header of the next one.
//  4. Segments go in order, the oldest first, once no log has an entry there. Few entries, of a log that stands still or
//     in segments that restarts left nearly empty, do not keep a segment: they are written anew at the end, with the next frames.
//  5. After a failed write or fsync nothing is written any more: every later call is told. A disk that is full before anything
//     was written is an error of that call only.
//
// A crash leaves whole frames, perhaps part of one more, and files that are prepared for later use, which Open takes or removes.
package journal

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	// ErrNotFound is wrapped when a log has no entry at an index.
	ErrNotFound = errors.New("no such log entry")
	// ErrFailed is wrapped by every call after a write or an fsync has failed.
	ErrFailed = errors.New("the journal has failed and takes nothing any more")
	// ErrClosed is wrapped after Close.
	ErrClosed = errors.New("the journal is closed")
	// ErrTooLarge is wrapped when entries do not fit into a frame.
	ErrTooLarge = errors.New("too large for the journal")
	// ErrVersion is wrapped when a segment was written by a newer program.
	ErrVersion = errors.New("unknown version")
)

// CorruptError is damage of what had been durable.
type CorruptError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal segment %s is damaged at %d: %s; this replica's logs cannot be trusted", e.Path, e.Offset, e.Reason)
}

// Entry is one entry of a log. What it means is its writer's business.
type Entry struct {
	Index    uint64
	Term     uint64
	Kind     uint8
	Appended int64 // unix nanoseconds, or 0
	Data     []byte
	Ext      []byte
}
