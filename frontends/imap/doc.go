// Package imap serves mailboxes by IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051), through cluster/client only.
//
// Its layers, each of which knows only the next; docs/imap.md lists what clients may use:
//
//	conn      a connection, in clear text, TLS or compressed: deadlines, when output leaves, how it ends
//	wire      bytes to tokens and back: lines, literals, bounds (package wire)
//	command   tokens to the arguments of a command (package command)
//	dispatch  which command when, its answer, capabilities
//	session   a client's view of its mailbox, updates, fetching, searching, storing
//
// Three packages know nothing of IMAP's state: order, which sorts and threads (SORT, THREAD), columns, which remembers what messages are searched and sorted by, and
// preview, which says what a message is about.
//
// What the connection holds:
//
//  1. Every byte belongs to one line or literal of one command: see package wire. Nothing sent before a TLS handshake can be
//     taken for a command after it.
//  2. Waits are bounded by progress, not by size: an idle client, a slow sender and a slow reader each have a limit,
//     a 100 MB message on a slow line has none as long as it moves.
//  3. A connection that waits, in IDLE too, keeps one goroutine and no buffer. A panic ends the connection that it came up in.
//
// What the session holds:
//
//  1. Sequence numbers are positions in the view, a bitmap of UIDs. It changes only when the client is told: by
//     EXPUNGE, where the command allows that, and by EXISTS. A command acts on UIDs that were looked up in the view once,
//     so that whatever others do meanwhile, it never acts on a message that the client did not mean.
//  2. A message that vanished is skipped by commands with UIDs and reported as [EXPUNGEISSUED] by those with
//     sequence numbers, until its EXPUNGE could be sent: FETCH, COPY and MOVE end in NO then.
//  3. Everything between the session's modseq and the mailbox's is asked for after a wake-up, so that a wake-up
//     that stands for a hundred changes, or for none, does no harm, and a change is never lost.
//  4. What a client may take for its state (HIGHESTMODSEQ) is never ahead of what it was told: see condstore.go.
//  5. Searches that are kept up to date (RFC 5267) are held against what changed, when the client is told of that: see contexts.go.
//  6. Memory is bounded for any mailbox: the view is a compressed bitmap, all else goes in chunks. What is remembered for others (recall.go) has a bound of its own.
//  7. A mailbox carries its account, which may be another user's (places.go): what the session does there the owner's shard allows or refuses, each time.
//
// A new command is an entry in commands (dispatch.go), a parser in package command, and a method of session that writes its untagged
// responses to out and returns how it ended; a new FETCH item is a kind in command.Item and a case in fetching.value.
//
// The package keeps nothing on disk: a crash loses connections, whose clients come back.
package imap
