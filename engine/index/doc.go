// Package index is the mailbox index of one node: the part of its state machines that says which
// messages a mailbox holds, with which UIDs, flags and modseqs. It keeps no message bytes.
//
// One pebble database holds all shards of the node, each in its own key range (keys.go; drawn in
// docs/formats/index.md). Pebble's own log is off: the Raft log of a shard is its log.
//
// Invariants:
//
//  1. A Txn is atomic with its applied index. After a crash a shard stands at some applied index a, holds
//     exactly the effects of the log entries 1 to a, and a is at least what Flushed reported before.
//  2. The same log gives the same keys and values, byte for byte, on every replica, however its
//     entries were grouped into Txns, and whether it came by applying or by Save and Load. No clock, random number or
//     map order reaches a key or a value.
//  3. UIDs and modseqs of a mailbox only grow. A UIDVALIDITY or mailbox id is given once per account.
//  4. Counts and summary blocks of a mailbox agree with its rows, and each message has one
//     reference key for its volume record. The references of a deleted mailbox are swept
//     a bounded number per log entry, so they may outlive it for a while; they never die early.
//  5. Once a volume is condemned in a shard (floor.go), no reference to it enters from outside any more: those that are there
//     only get fewer.
//  6. A reader of one shard never sees a key of another; Load replaces one shard and no other.
//
// What a crash leaves behind: a database that lacks the latest Txns of each shard (they are in the Raft log), and
// perhaps files of an unfinished Load in the directory "incoming", which Open removes.
package index
