// Package index is the mailbox index of one node: the part of its state machines that says which
// messages a mailbox holds, with which UIDs, flags and modseqs. It keeps no message bytes.
package index
