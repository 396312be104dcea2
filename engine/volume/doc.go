// Package volume keeps the bytes of messages in append-only files, called volumes.
//
// A volume is one file of many records; each of its copies, on nodes in different regions, is the same
// file byte for byte. Compaction replaces it by a file of a later generation with fewer records. One node, the primary, numbers and appends the records (Append); the others write
// what the primary streamed to them (Receive, Commit). A record is written once and never changed: what
// names it for ever is its Ref (volume, record number, length, hash).
//
//	file    header block (4 KiB) | record | record | …                 every part starts at a multiple of 8
//	record  header (80 B) | metadata | chunk | chunk | … | zeros to 8   see docs/formats/volume.md
//	chunk   length and flag | CRC32C | up to 256 KiB of message, zstd or as it is
//
// Invariants:
//
//  1. Append answers only after an fsync that covers the whole record. Durable never runs ahead of that.
//  2. Readers see durable records only; Durable is always the end of a whole record, or of a volume whose last ones are damaged.
//  3. After a write or an fsync has failed nothing more is ever written to that file through that Volume:
//     whatever lies past Durable is not trusted, and every waiting caller gets an error.
//  4. A file that was opened (not created) is never appended to by Append or Receive. So a primary that
//     comes back after a crash, or a stale stream, cannot add to it; only repair can (Extend, Truncate).
//  5. Record numbers start at 1 and are dense: the nth record of a file of generation 0 has number n. Later generations
//     have some of them, in any order.
//  6. Open cuts only a tail in which no whole record is left: after a power cut, nothing that was acknowledged. It cuts nothing of a file that is known
//     to be as long as its volume was sealed (KnowSealed): what is wrong at its end is damage, which another copy mends. Nor of one of which nobody knows yet.
//  7. An index file (saved.go) exists only while its volume is sealed, whole and durable, and is about just that state of it. It
//     is removed, durably, before the volume changes. It is never needed.
//  8. A volume that is sealed, and not being read or mended, needs no open file and no index in memory: a Set closes those used
//     least (handles.go).
//
// What a crash leaves behind: a file ends anywhere inside the records that no fsync covered, or behind them with the zeros that
// were filled in ahead of them (ahead.go). Open cuts such a torn tail at the last whole record, and fsyncs the cut. Damage that is followed by a whole record
// is not a torn tail: it is reported (Stats, Damage, *CorruptError on reading) and mended from another copy, and the
// records behind it are found again by their magic and header checksum. A header block is complete
// before the file gets its name, so a crash in Create leaves nothing, or a temporary file that OpenSet removes.
//
// A Blob is a message's bytes encoded once, by a Spool, into the chunks that every copy then stores: it is
// compressed, hashed and checksummed on the node that took it in, and nowhere again.
//
// One goroutine owns the file of an appending volume and commits in groups: callers that arrive while it
// waits for the disk share its next write and its next fsync. Reads go to the file directly and wait for nobody.
package volume
