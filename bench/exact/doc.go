// Package exact holds what two mail servers say of the same messages against each other: ours, and one that has answered clients for many years. It
// takes messages in by APPEND and LMTP, asks for every part of each by IMAP and POP3, and lists where the answers differ; which of those are as they
// should be, and why, is in docs/imap-exactness.md, and rules.go has the same as code. Servers are addresses to it.
//
// Two benchmarks use the same servers: BenchmarkBeside says how fast both answer, BenchmarkCrowd how soon a message reaches very many sessions.
//
// It keeps nothing, and works on accounts of its own. Only tests use it.
package exact
