// Package order puts messages in the orders that clients ask for by SORT and THREAD (RFC 5256, RFC 5957): base subjects, the comparison
// of texts, keys and their sorting, and threads.
//
// It knows no mailbox and no wire: values of header fields go in, UIDs come out. What holds:
//
//  1. Every message that was added comes out once, whatever its header says: threads have no loops, and none swallows a message.
//  2. Texts are equal or in order as i;unicode-casemap has it (RFC 5051); messages that are otherwise equal are in the order of their UIDs.
//  3. Base subjects and message ids are found in linear time. A thread costs the same for each message, up to a depth.
//  4. A message keeps a key of some dozen bytes, or a node, never its texts. Sorter.Size and Threads.Size say how much that is by now,
//     so that the caller can stop.
//
// The package keeps nothing on disk: a crash leaves nothing behind.
package order
