// Package keys keeps the keys of encrypted volumes, one small file beside each volume, and the master keys that wrap them.
//
//	master key   of the node: a file that the operator made, or wrapped by a command that asks a key service
//	  └ wraps  volume key   32 random bytes in the header of the volume's key file, the same in all copies
//	             └ with slot n, 16 random bytes, gives  record key K(n) = HMAC-SHA256(volume key, slot n ‖ n)
//
// A record's key cannot be computed without its slot. Destroy overwrites slots with zeros: whoever holds the volume, its
// cold fragments or a backup of them, and the master key, reads nothing of those records any more (the idea is that of f4).
// A new master key rewrites the header of a key file and nothing else (Rewrap).
//
// Invariants:
//
//  1. A key file is whole and durable before it has its name, so before its volume has a name.
//  2. The header stands there twice, and one copy is durable before the other is rewritten: no crash loses the volume key.
//  3. Destroy answers only after an fsync that covers every slot. A slot that is zero never becomes anything else again.
//  4. After a failed write or fsync the file is not written any more until it is opened anew; then Destroy writes also
//     those slots that read as zero, because an fsync that failed may have left them so in memory only.
//  5. A damaged sector is an error for its records and for Destroy, never taken for destroyed slots. Mend rewrites it from another copy.
//
// What a crash leaves behind: a file NAME.tmp, which the next Create of that name replaces and Leftover recognises; a key
// file whose volume was never made; a header copy that is half written, beside a good one; of the slots under destruction, some zero.
package keys
