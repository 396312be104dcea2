// Package rebuild makes the indexes of a cluster anew from its volumes alone, when no replica of them is left: first
// from the shards' checkpoints (package checkpoint), then from the messages that arrived after these, each with its Origin.
//
// Steps, for a cluster that is stopped:
//
//  1. Survey. All records of all volumes are looked through for parts of checkpoints.
//  2. The newest checkpoint of the directory, and of each mailbox shard, that is whole is loaded; an older one if its
//     bytes turn out to be damaged.
//  3. Messages that arrived after a shard's checkpoint was taken, or less than a day before (clocks differ, and commands take time), are
//     entered in the order of their arrival as the machine of the shard would have. It is decided for each account, since one may come from another shard's
//     checkpoint than those whom the same message was for. Those are left out that the account refers to, and those whose request is
//     remembered where it was: they were entered, and expunged, before. What remembers no more than the last 2^18
//     requests may bring back mail that was expunged in the day before, and so may an account that left a shard since, of mail that others had there
//     too (memory.go); it never leaves out what was not entered.
//  4. Messages whose bytes are in no volume, or whose keys were destroyed, are found. Those that another record names as its own former place, or that one has which
//     is remembered to have been entered, were put again after the checkpoint, and are entered there. The others may be dropped: they were expunged after it, and
//     collected since.
//  5. Every mailbox gets a new UIDVALIDITY, for clients may have seen a later state than this one. Log entries begin
//     again so far ahead that no modseq or token of before is met again.
//  6. The directory's table of volumes is brought up to date with the files; numbers of accounts and volumes begin behind all that were seen.
//
// What comes back: folders, flags, moves, UIDs and subscriptions as of the checkpoints, accounts as of the directory's, and every message that was
// acknowledged later, in the folder that it was delivered or appended to. What does not: flags, moves, expunges and new
// accounts after the checkpoint.
//
// The work is done in an empty index; nothing of it counts before it is whole, and a crash leaves an index that nobody founded groups on.
package rebuild
