package client

import (
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// The values that pass through the door. Frontends name them by these aliases and never reach below.
type (
	// Mailbox is a folder with its counts, as SELECT and STATUS need them.
	Mailbox = index.Mailbox
	// Message is one entry of a mailbox without its bytes.
	Message = index.Message
	// Flags are a message's system flags and keywords.
	Flags = index.Flags
	// FlagOp says how StoreFlags combines the given flags with a message's own.
	FlagOp = index.FlagOp
	// Want says which parts of a Message a caller needs.
	Want = index.Want
	// Changes is what happened to a mailbox since a modseq.
	Changes = index.Changes
	// FlagChange is a message's flags after a change.
	FlagChange = index.FlagChange
	// Ref names a message's bytes.
	Ref = volume.Ref
	// Summary is what was learned of a message when it was taken in.
	Summary = message.Summary
)

// Account is a local mailbox owner.
type Account struct {
	ID      uint64 `cbor:"1,keyasint"`
	Address string `cbor:"2,keyasint"` // canonical: lower case, with its domain
	Shard   uint32 `cbor:"3,keyasint"` // the shard that holds its mailboxes
	Home    string `cbor:"4,keyasint"` // home region
}

// CopyResult pairs the UIDs of copied or moved messages (RFC 4315, COPYUID).
type CopyResult struct {
	UIDValidity uint32   // of the destination
	Source      []uint32 // ascending
	Dest        []uint32 // same length, in the order of Source
}
