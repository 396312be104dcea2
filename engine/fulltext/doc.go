// Package fulltext finds the messages of a mailbox that may contain a text. It gives candidates: every message that it has indexed and
// that contains the text is among them, and some that do not; who asked looks into those. So what is in here decides how long a search takes and
// never what it finds, and all of it can be thrown away at any time and made anew from the messages.
//
// Terms (term.go). A text is folded as searches fold it and cut where letters end: runs of letters and digits are words; scripts that are written
// without spaces, Chinese, Japanese, Korean, Thai and others, give overlapping pairs of characters. A search is cut at the same places: in
// "llo wor", "llo" ends a word and "wor" begins one. A text that is found at some place has there what the search is cut into, so a message
// without one of the pieces cannot match. Long words are indexed as overlapping windows.
//
// Segments. The messages of a batch make a segment: a sorted list of terms in blocks, and for each the messages that have it. Eight segments of
// about one size become one of the next (as in Lucene, and Bentley and Saxe before it), so a message is written once per power of eight that its mailbox has grown by.
// A piece in the middle of a word is looked for by going through all terms, which lie next to each other, with a search for bytes (Zoekt and
// codesearch index trigrams for that: every message has thousands, and hundreds of words). A search has a bound on its work; beyond it, it leaves a piece out, or a segment undecided: all messages of it are candidates.
//
// Invariants:
//
//  1. Messages of a mailbox are indexed by ascending UID. A mailbox's entry says up to which one (Through) and of which UIDVALIDITY; the segments
//     it names hold every message up to there that was not expunged before it was indexed.
//  2. A message of which not all text is indexed, because it is too long or cannot be read, is a candidate of every search.
//  3. The entry and the segments that it names change in one batch.
//
// The database is pebble's without its log: what a crash leaves behind is the state of a moment ago (its memory tables reach the disk in
// order), from where indexing goes on; and perhaps blocks of a merged segment that no entry names, which the entry says are pending and the next Tend removes. A
// database that is damaged, or of another format, is removed and begun anew.
package fulltext
