// Package atrest keeps what a node writes beside its volumes from being read on its disk: the files of the index and of
// snapshots, scratch files, and the entries of the Raft logs. Volumes have keys of their own, see package keys.
//
//	store key  32 bytes, K(1) of the key file DATA/store.key, which the master key wraps
//	  ├ file key   HMAC-SHA256(store key, "hongyan file " ‖ salt), the salt in the file's header: AES-256-CTR, seekable   (FS)
//	  └ log key    HMAC-SHA256(store key, "hongyan log " ‖ name ‖ salt), a salt for each opening of a log: AES-256-GCM    (Log)
//
// Invariants:
//
//  1. No key stream is used twice: each file has a random salt, is written once from front to back, and what cannot
//     be done in that way (OpenReadWrite, WriteAt) is refused. Each opening of a log has a random salt, and counts its entries.
//  2. A file or an entry is opened under the key that it was written with, or refused: the header of a file and every entry
//     are authenticated. The bytes of a file are not; what is in them has checksums of its own, which find damage. This keeps
//     a disk that is lost or sold from telling anything; it does not stop somebody who can write to the disk of a running node.
//
// A crash leaves what the file system below leaves. A file whose header is missing or zero was never synced: it reads as empty.
package atrest
