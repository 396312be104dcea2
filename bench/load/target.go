// Package load makes the work of many mail users against any server that speaks SMTP, LMTP, IMAP or POP3, ours or another, and
// records how long each piece took.
//
// It has what all protocols share: the Target, the Recorder of one kind of operation, the two ways to pace operations (Open, Closed),
// the Corpus of prepared messages, the Skew of their recipients, and the Picker of nodes. The conversations themselves are in
// load/send (SMTP, LMTP) and load/read (IMAP, POP3); load/people has simulated users.
//
// Rules that the figures rest on:
//
//   - A latency runs from the time an operation was scheduled, not from when a worker came round to it. A server that stands still for
//     a second delays everything that was due in that second, and the percentiles say so; a client that politely waits before
//     it asks again would count one slow answer (coordinated omission: the term and the cure are Gil Tene's, see his wrk2).
//   - An operation that was scheduled is in the figures: as a success, as a failure of some Class, as refused where our own
//     limit of workers kept it from being tried, or as unfinished when the run ended before it did. None is dropped.
//   - Latencies are of successes only. A rate counts successes only.
//   - Memory is bounded, whatever the length of the run: a recorder has about 300 kB and 64 bytes for each of at most 20,000 slices.
//
// Nothing is kept on disk; a crash loses the figures.
package load

import "crypto/tls"

// Target is a mail system under test.
type Target struct {
	Name     string // such as "hongyan" or "dovecot"
	Nodes    []Node // at least one
	Accounts []Account
	TLS      *tls.Config // for implicit TLS and STARTTLS; nil: a server without TLS
}

// Node is one machine of a target. An address that is empty is not served there.
type Node struct {
	ID, Region                           string
	SMTP, LMTP, IMAP, IMAPS, POP3, POP3S string // host:port
}

// Account is somebody who gets mail and can log in.
type Account struct {
	Address  string
	Password string
}
