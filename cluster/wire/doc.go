// Package wire owns what nodes say to each other: typed errors, frames, the link that carries
// frames over one connection, and the encodings of Raft's requests and replies.
//
// Invariants:
//
//  1. A frame is at most one piece of MaxPiece bytes, so that a large payload never keeps a small
//     one waiting: pieces of different payloads take turns. The pieces of one payload arrive in order.
//  2. Every length that arrives is checked against a limit before memory is taken for it.
//  3. Whatever bytes a decoder is given, it returns a value or an error that wraps ErrMalformed; it never panics.
//  4. A link dies whole: after the first error in either direction nothing is sent or received.
//
// Nothing here touches a disk; a crash leaves nothing behind. The formats are drawn in docs/formats/wire.md.
package wire
