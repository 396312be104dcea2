// Package replica keeps the copies of volumes equal: it opens volumes, streams what the primary
// appends to the other copies, seals, repairs, and reads from whichever copy answers.
//
// A volume lives on the nodes that its directory entry names. The first of them is its primary, the
// only one that appends. Bytes need no consensus round: a volume's life has one writer, one stream to each
// other copy and one seal, and only opening and sealing are entries in the directory.
//
// Steps, named by number in the code:
//
//  1. Open. The directory assigns an id and an epoch; the primary creates its file, then opens one
//     stream to each other copy, whose node creates its file. A node that has the file already refuses.
//     Every node holds such volumes with several peers beforehand, so that a failure waits for nothing.
//
//  2. Append. The volume's tap hands each byte that the primary writes to the stream, before the primary's fsync.
//     The other copy checks, writes and fsyncs in groups and acknowledges how far it is durable. Both fsyncs
//     run at the same time. An append is answered when every copy is durable past its end.
//
//  3. Fence. A broken stream, a copy without progress, a full disk, any error or a restart ends the volume's
//     appends for good. Those that wait are refused with ErrSealed and go to another volume.
//
//  4. Seal. The sealer asks the reachable copies how far they are durable, which fences them too, and proposes as the
//     volume's length the least that a running copy says, or else the most that restarted ones found on their disks; if only such
//     ones answer, it waits for the others, until they are up or for three times as long as a primary may be down. The
//     directory takes the first proposal for a volume and tells later ones what it took. The primary seals after a
//     fence; another copy's node when the primary has been down a while.
//
//  5. Repair. Every copy is cut or filled up to the sealed length, from another copy, and is then equal to it byte for byte.
//
//  6. Prepare, and 7. Switch, to a next generation without the dead records: compact.go.
//
// Invariants:
//
//   - I1. An append is answered with success only if every copy has fsynced its record.
//   - I2. A copy acknowledges nothing beyond what it answered to a fence: not in this process, since the fence cuts its
//     stream before it looks how far the copy is; not in a later one, since a file that exists is never streamed
//     to again. A copy without a file proposes no seal, for it would fence nothing.
//   - I3. A sealed length is never below an acknowledged record's end: the proposer has fenced itself or the primary's
//     appends (I2), and every copy's durable length then is at least what was acknowledged (I1), unless its disk lost
//     something. So a copy whose file is lost does not count as length zero while another copy has the file, nor one whose
//     disk lost the file's end as shorter than another; and a copy whose disk does not read its end seals nothing alone.
//     What is on the primary's disk and on another copy's is within every sealed length too, acknowledged or not: spread.go.
//   - I4. A record number is never used twice in a volume, for what is cut in repair is never appended to again. A reader
//     holds the record's hash against the reference all the same.
//   - I5. A volume is dropped, and its files removed, only when its entry has length 0: it was sealed so, then nothing in it was acknowledged;
//     or compaction found nothing live in it. A file that no entry accounts for is removed only if it holds no record; else it is counted and kept.
//
// What a crash leaves behind: open volumes of a primary that is gone. It finds them in the directory when it is back and
// seals them, unless the other copy's node did before. Their tails may differ until repaired, only beyond what was acknowledged.
// Records that were never acknowledged may stay in a volume; nothing refers to them, and compaction drops them.
package replica
