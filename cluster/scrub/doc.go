// Package scrub proves that this node's copies of sealed volumes are whole, again and again, and mends them from the other
// copies: every byte of every copy is read from the disk once in a period, at a bounded rate.
//
// Steps, named by number in the code:
//
//  1. Presence. Every few seconds the file of each copy is looked at: is it there, is it the one that is open, is it as long as
//     it should be? One that is not is handed to the repairer (package replica), which fills it from another copy.
//  2. Damage that a read of mail met. The record is mended before anything else, and the rest of its volume is verified next:
//     damage seldom comes alone.
//  3. The copy that was verified longest ago, once its period is over: volume.Verify reads it and mends in place what
//     is wrong, part by part, with bytes of other copies that verify.
//  4. Comparison. A copy without damage has a digest. The other copies' nodes are asked for theirs, which each keeps from its own
//     turn, so that comparing costs no reading. When two whole copies of the same generation differ, both are read again,
//     range by range, to find out where, and the messages there are read whole: the copy whose content is not what its hash says takes
//     the other's. If both are sound by that too, nobody can tell, and it is only reported.
//
// Invariants:
//
//   - A byte is overwritten only if it does not verify here, or its message is not what its hash says, by bytes that verify in
//     its place.
//   - Damage that no copy can mend changes nothing: it is reported, and looked at again later.
//   - Reading for scrubbing never exceeds the rate, whoever asks for it.
//
// What a crash leaves behind: a part that was being overwritten is still wrong, or right. The state file (what was verified when,
// what was found) is replaced by a rename; without it everything is verified anew, earliest first.
package scrub
