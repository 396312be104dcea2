// Package collect takes back the space of records that no message refers to any more, and destroys their keys.
//
// What is live is known from the shards alone. A reference to a volume's record enters a shard in three ways: with a message whose bytes
// were put in the volume while it was open, as a copy of a reference that the same shard has, or with an account that another shard gives
// away and has counted until then (errMoved). So for a sealed volume:
//
//  1. Begin. The directory gives the attempt a number, which is to be the volume's next generation. An earlier attempt can
//     no longer be entered, whoever still works at it.
//  2. Condemn. Each shard is told, through its log, to take no message with bytes in this volume any more. A client whose message
//     comes too late is refused, and puts the bytes, which it still has, in another volume. The directory, which refers to checkpoints,
//     has been told by step 1.
//  3. Ask. From that log entry on a shard's references to the volume only get fewer. Whatever replica answers, and whatever later state it
//     has: if it has applied the entry, what it does not refer to is dead for good in that shard. A majority of a shard's voters are asked and
//     their answers united, so that one damaged index cannot make mail die.
//  4. Erase. Records that are in nobody's answer have their keys destroyed on every copy; only then they may leave the file.
//  5. Prepare. If enough of the file is dead, every copy's node makes the next generation's file: the records that stay, grouped by account and mailbox.
//     All must come out equal. If nothing is live there is nothing to make.
//  6. Enter. The directory makes the attempt the volume's generation; then each node switches by one rename (package replica).
//
// Invariants:
//
//   - A record that a shard refers to at its latest state is in every answer of that shard (3), hence stays (4, 5).
//   - Record numbers do not change, so no index row does.
//   - Nothing is undone by whoever begins again: floors only rise, answers only shrink, and a number of step 1 is used once.
//   - A shard that may refer to the volume in vain (package settle) counts as one that cannot be asked. Condemned, it gets no further such references.
//   - No account went from one shard to another between the first question and the last answer, and every answer is of a state that holds
//     what was acknowledged before the question; so of an account that has moved one of the two shards answers.
//   - A shard that cannot be asked stops the collection of a volume; it never stops mail.
//
// What a crash leaves behind: an attempt that nobody goes on with, and perhaps prepared files. The next round begins another; the files
// go once the directory says that they cannot be entered. No node is special: of the nodes with a copy the first that is up does the work, and two at
// once do no harm.
package collect
