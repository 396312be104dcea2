// Package checkpoint saves the state of shards into volumes, so that mailboxes can be rebuilt when every index is lost: folders,
// flags and moves are nowhere else but in the shards' replicas, while a message's record says only where it was delivered to.
//
// A checkpoint is a shard's saved state (index.Save), cut into parts, each a record of kind 2 with a Meta. The shard's leader writes
// it from a view of its state, so mail goes on meanwhile; last it is entered in the directory, which keeps the last two
// and thereby keeps their records alive. A shard is saved when it has changed and one of these holds:
//
//   - the last checkpoint is older than the interval (the directory's: a minute, for accounts that are lost are worst), or
//   - so many entries have been applied since then;
//
// but never sooner than the size of the last one allows at the given rate: large shards are saved less often, so that
// the work is a bounded part of what the disks do.
//
// Invariants: a checkpoint in the directory is whole and durable on all copies of its records; a newer one never holds an older
// state. What a crash leaves behind: parts that no entry refers to. They are garbage like any other, which compaction drops;
// a rebuild passes over checkpoints that lack a part.
package checkpoint
