// Package textsearch keeps a node's full-text index (engine/fulltext) of the mailboxes near it, and asks such indexes which messages may contain a text.
//
// Who indexes. A shard is indexed by those of its replicas that are in its home region, where its accounts' mail has a copy: bytes are read inside the region, once for each
// such replica, and never across regions. Where the home region has no replica, all voters index. So the death of a node leaves another one's
// index where there are two; that of a region leaves none, and searches read messages until it is back.
//
// How. A state machine tells of mailboxes that changed (Publish); half a second later what is new in them is read and indexed. What is not told, or forgotten in a
// crash, or new here because the shard is, is found by a sweep through the shard's mailboxes: when it begins to be indexed here, when its state was replaced, and each hour,
// which also drops what is gone. Mail that was just delivered and what a sweep found are indexed by two goroutines, so that neither waits for the other; both give way when
// the processor is busy, when the disk is nearly full, and beyond a rate. A third one merges.
//
// Invariants:
//
//  1. What a search finds does not depend on this package. An answer says up to which UID it counts and under which UIDVALIDITY; an index that is late, damaged, being
//     rebuilt or not there answers up to less.
//  2. Nothing that takes, stores or gives mail waits for it.
//  3. A message counts as gone only if its mailbox has given a higher UID and has it no more: after a crash a replica's state may be older than the index.
//
// What a crash leaves behind is the index as it was flushed last; the sweep at the start finds the rest.
package textsearch
