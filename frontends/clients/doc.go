// Package clients holds tests alone: mail programs that people use, against a real cluster (hongyan dev), over TLS with the cluster's own authority.
//
// Each program reads messages of the shared corpus, malformed ones among them, and what it keeps is compared with what was stored, byte for byte
// where the program keeps bytes. What programs change themselves is undone in the comparison, and said there.
//
// `make clients` runs them. A program that is not installed is skipped by name; without `make clients` all are.
package clients
