// Package cold keeps sealed volumes that are seldom read as Reed–Solomon fragments: k data fragments, which together are
// the volume's file, and m parity fragments. Any k of the k+m give every byte of the volume. With 4+2 a volume takes 1.5
// bytes a byte instead of 2, and two fragments in each of three regions survive the loss of any region.
//
//	volume    |   column 0   |   column 1   |   column 2   |   column 3   |    the file in k equal parts
//	fragment  0              1              2              3         4: parity   5: parity
//	stripe j  block j of every fragment: 16,380 bytes of its column and their CRC32C
//
// Data fragment i is column i of the file, in blocks; the blocks of a stripe, one in each fragment, make one code word. So a
// message of 10 KiB lies in one or two blocks of one fragment, and when that fragment is missing the same blocks of k others
// give it: reading never touches more than the stripes that hold what is read. docs/formats/fragment.md draws the file.
//
// Invariants:
//
//  1. A fragment is a function of the volume's bytes and its Layout. Whoever makes it, makes the same file.
//  2. A file has its name, *.frag, only when all its blocks and the name's directory are durable (Writer.Finish). What has it is
//     never written again but by Mend, which puts a damaged block back.
//  3. No byte is used before its block's checksum was compared, which covers the block's place, its fragment and its volume.
//  4. Memory is bounded by batches of stripes, whatever the length of the volume (Encode, Reader, Rebuild).
//
// What a crash leaves behind: *.frag.tmp with blocks up to somewhere. A Writer that begins again checks these blocks and
// goes on behind the last good one; by 1 that is right whoever encodes now. After a write or an fsync that failed the temporary
// file is removed, for what memory gives back then may be on no disk. A block torn by a crash in Mend was damaged before and is
// mended again.
package cold
