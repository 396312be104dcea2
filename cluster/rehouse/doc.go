// Package rehouse brings stored mail under the policy that its domain has now.
//
// A volume keeps its policy for life, so a message that lies under another one is put once more. Each node does it for the shards that it leads, one volume at a
// time, in small steps:
//
//  1. Find. The shard's references to a volume are gone through, and those kept whose account's domain wants another policy. Volumes that the shard may refer to
//     in vain (package settle) wait until they have ended.
//  2. Put. A node with the volume's bytes, whole or cold, appends the record again under the wanted policy, with the metadata that it had and the place where it
//     was. References of one record to the same policy share the new one.
//  3. Enter. The shard changes each entry to the new place by a command that does nothing if the entry is not what was seen. UID, flags, dates stay; the
//     message gets a new modseq.
//
// Then nobody refers to the old record, and package collect destroys its key and takes its space back, as of expunged mail.
//
// Invariants:
//
//   - An entry is changed only after the bytes are durable under the new policy, and only to bytes of the same length and hash.
//   - Nothing is removed here.
//   - A cluster that is rebuilt from a checkpoint of before step 3 finds the new record by the old place, which it names (mailbox.Origin, Before), once the old
//     one has been erased.
//
// What a crash leaves behind: a record that nobody refers to. Nothing is remembered on disk: whoever leads the shard next goes through it again.
package rehouse
