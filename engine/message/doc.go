// Package message learns from a message's bytes, once and as they pass, all that is needed to list it later: a
// Summary of its envelope, its body structure with the byte offset of every part, and the header fields that clients
// ask for. It also decodes header values and text parts for searching.
//
// A message is whatever bytes a stranger sent. Nothing here fails on them: what cannot be understood is kept as an
// ordinary text or as opaque bytes, and the Summary is always one that IMAP can express. What holds for every input:
//
//  1. The Summary depends on the bytes only, never on how they were cut into writes.
//  2. Offsets nest: a part's header, body and all its children lie inside its parent's body, siblings in order.
//  3. Time is linear in the input, memory is bounded by constants (see limits below), and nothing panics.
//  4. A Summary that Decode returns has the same guarantees, whatever bytes it was given.
//
// Where a message breaks the rules, the reading that loses nothing of it to the reader is taken: a multipart in which
// no part can be found has its whole body as one text part, a header is read up to the first empty line even across
// lines that are no fields, and an entity whose first line is no field has no header at all.
//
// The package keeps no state and touches no files: a crash leaves nothing behind. The encoding of a Summary is
// described in docs/formats/summary.md.
package message
