// Package imap serves mailboxes by IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051), through cluster/client only.
//
// Three layers, each of which knows only the next:
//
//	conn     a TLS connection with a guard on each direction: it frames the client's input into lines and
//	         literals before the protocol library sees them, and gathers the output into whole TLS records
//	go-imap  the library's server: parses commands, encodes responses
//	session  ours: a client's view of its mailbox, updates, fetching, searching, storing
//
// A connection on the plain port speaks with us alone until STARTTLS is done (plain.go): the library never sees
// clear text, so nothing sent before the handshake can be taken for a command after it.
//
// What the guard holds against (the library's own behaviour is noted where it matters):
//
//  1. Every byte belongs to exactly one line or literal, as the client meant it: a literal whose command was
//     refused is skipped, never run as commands. A non-synchronising literal over 4096 bytes closes the connection.
//  2. A command's lines and literals are bounded, before they are parsed; the message of an APPEND is streamed.
//  3. Waits are bounded by progress, not by size: an idle client, a slow sender and a slow reader each have a limit,
//     a 100 MB message on a slow line has none as long as it moves.
//
// What the session holds:
//
//  1. Sequence numbers are positions in the view, a bitmap of UIDs. It changes only when the client is told: by
//     EXPUNGE, where the command allows that, and by EXISTS. A command acts on UIDs that were looked up in the view once,
//     so that whatever others do meanwhile, it never acts on a message that the client did not mean.
//  2. A message that vanished is skipped by commands with UIDs and reported as NO [EXPUNGEISSUED] by those with
//     sequence numbers, until its EXPUNGE could be sent.
//  3. Everything between the session's modseq and the mailbox's is asked for after a wake-up, so that a wake-up
//     that stands for a hundred changes, or for none, does no harm, and a change is never lost.
//  4. Memory is bounded for any mailbox: the view is a compressed bitmap, all else goes in chunks.
//
// The package keeps nothing on disk: a crash loses connections, whose clients come back.
package imap
