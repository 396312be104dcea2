// Package reconcile mends mailboxes that contradict the volumes: an entry whose bytes are not where it says, or that says of them what they are not, and counts
// that do not follow from the entries. Bytes that are there but are not what their checksums say are package scrub's, a copy that is missing is package replica's.
//
// A contradiction is met when a message is read or a folder is opened (package client asks then), or when an operator has an account checked. Steps:
//
//  1. Once. One message of one folder is looked into once at a time, at most one on a node, and what came out is remembered for a while: a client that asks again
//     and again causes no second search.
//  2. Look anew. The entry is read at the state of the shard's leader, the volume's entry at that of the directory's. Every node with a copy is asked what it has. Only if all
//     answer, none of their copies is behind or damaged, and they agree, the contradiction is proved (judge.go); so it is if none has anything of an ended volume. Everything else passes.
//  3. In its place. If the record there has another length or hash than the entry says, it may be the entry that is wrong: if the record names the account as a recipient, and
//     its date and the summary of its bytes are those of the entry, then the entry is corrected.
//  4. Search. All storage nodes look through their volumes for a record with the length and SHA-256 that the entry says, which names the account as a recipient.
//  5. Copy. What is found is put once more, as by a client, in a volume that is open. So the garbage collector's rule holds that a volume which is being
//     collected gets no new references: the record found is one that nobody refers to, and may be about to go.
//  6. Enter. A command makes the entry refer to the new place, if it still refers to the old one.
//
// Invariants:
//
//   - No entry ever refers to bytes that were not delivered or appended to its account: the proof is the content's SHA-256, or all of its summary and date, together with the
//     recipients that the record names. Never a size, a place or a time alone.
//   - Nothing is removed here. (Package settle does remove what refers, in a volume of early entries, behind the record that it was sealed with: that such an
//     entry is a wrong one and not one that was never acknowledged cannot be told. Until the seal it is mended like any other.) A message that is nowhere keeps its entry; who asks for it hears that it is lost, once every volume that can hold it was read.
//   - Each change is one command of the shard's log which holds what it does or finds it from the shard's own state, and does nothing if what was seen has changed:
//     two who mend at once mend once, and a message that was expunged, moved or given to another shard meanwhile is left alone.
//
// What a crash leaves behind: perhaps bytes that no entry names, as a delivery does. The idea of mending a mailbox when it is found wrong is that of Dovecot's dbox, which rebuilds
// its index from the files, and Cyrus' reconstruct; unlike these nothing is taken for expunged because it was not found.
package reconcile
