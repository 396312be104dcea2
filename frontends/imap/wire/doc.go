// Package wire reads and writes the grammar of IMAP (RFC 9051 section 9, RFC 3501, RFC 7888).
//
// A Decoder frames what a client sends into commands: lines, and the literals that lines end in. It hands out tokens of one
// command and knows nothing of what they mean. An Encoder gathers responses and sends them in large writes.
//
//	a APPEND x {11}\r\n      a line; it ends in a literal, so the command goes on
//	hello world \r\n         the literal's 11 bytes, then a line again; it ends the command
//
// Invariants of the Decoder:
//
//  1. Every byte belongs to exactly one line or literal, whatever becomes of the command: Finish skips what a refused
//     command leaves, and no byte of a literal is ever taken for a command.
//  2. A literal of a client that waits to be asked is asked for only when somebody wants its bytes.
//  3. Lines, the literals of a command that are kept, their number, and what is skipped are bounded by Limits; nesting by
//     maxDepth. What is over a bound of a line ends the connection, since nobody can say where its command ends.
//  4. No input makes it panic.
//
// Buffers of both come from pools and go back while a connection waits (Release), for most connections wait most of the time.
package wire
