// Package load makes the work of many mail users against any server that speaks SMTP, LMTP, IMAP or POP3, ours or another, and
// records how long each piece took.
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
	ID, Region                            string
	SMTP, LMTP, IMAP, IMAPS, POP3, POP3S string // host:port
}

// Account is somebody who gets mail and can log in.
type Account struct {
	Address  string
	Password string
}
