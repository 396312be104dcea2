package index

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/volume"
)

// Limits on what one account, mailbox or change may hold. They bound keys, values, batches and memory;
// exceeding one is a *LimitError, the same on every replica.
const (
	MaxNameBytes     = 1000     // of a mailbox name
	MaxNameDepth     = 32       // components of a mailbox name
	MaxMailboxes     = 100_000  // per account
	MaxSubscriptions = 100_000  // per account
	MaxKeywords      = 256      // per mailbox, ever
	MaxKeywordBytes  = 64       // of one keyword
	MaxMessages      = 10 << 20 // per mailbox
	MaxChange        = 50_000   // messages that one call may add, flag, copy or expunge
	MaxCopyBytes     = 64 << 20 // of values that one CopyMessages may write
	MaxSummaryBytes  = 64 << 10 // of NewMessage.Summary
	MaxResultBytes   = 1 << 20  // of a remembered result
	MaxRecordBytes   = 4 << 20  // of a generic value
	MaxRecordKey     = 4 << 10  // of a generic key
)

// What a command may meet. They are part of its deterministic result: the Txn is unchanged and goes on.
// Any other error of a Txn's method breaks it: nothing but Discard works then.
var (
	ErrNoAccount   = errors.New("no such account")
	ErrNoMailbox   = errors.New("no such mailbox")
	ErrExists      = errors.New("mailbox exists")
	ErrInvalidName = errors.New("invalid name")
	ErrHasChildren = errors.New("mailbox has children and holds no messages itself")
	ErrCondemned   = errors.New("the message's bytes are in a volume that is being collected")
	ErrNoMessage   = errors.New("no such message")
)

// ErrReplaced is returned by a View whose shard was replaced by Load, or whose DB was closed: take a new one.
var ErrReplaced = errors.New("shard was replaced")

// LimitError says which limit a command would exceed.
type LimitError struct {
	What  string // of what there would be too much
	Limit uint64
}

func (e *LimitError) Error() string { return fmt.Sprintf("over the limit of %d %s", e.Limit, e.What) }

// CorruptError is a value that does not decode, or two that contradict each other. It is never part of a result.
type CorruptError struct {
	Shard  uint32
	Key    []byte // without the shard's prefix
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("index shard %d, key %x: %s", e.Shard, e.Key, e.Reason)
}

// System flags (RFC 9051 section 2.3.2), combined in Flags.System.
const (
	FlagSeen uint8 = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft

	flagsKnown = FlagSeen | FlagAnswered | FlagFlagged | FlagDeleted | FlagDraft
)

// Flags are a message's system flags and keywords. Keywords match regardless of ASCII case; the spelling that
// a mailbox saw first is kept.
type Flags struct {
	System   uint8    `cbor:"1,keyasint,omitempty"`
	Keywords []string `cbor:"2,keyasint,omitempty"`
}

// FlagOp says how SetFlags combines the given flags with a message's own.
type FlagOp uint8

// The three forms of STORE (RFC 9051 section 6.4.6).
const (
	OpSet FlagOp = iota
	OpAdd
	OpRemove
)

// Mailbox is a folder with its counts.
type Mailbox struct {
	ID            uint32   `cbor:"1,keyasint"` // per account, never used again
	Name          string   `cbor:"2,keyasint"`
	UIDValidity   uint32   `cbor:"3,keyasint"`
	UIDNext       uint32   `cbor:"4,keyasint"`
	HighestModSeq uint64   `cbor:"5,keyasint"`
	Messages      uint32   `cbor:"6,keyasint,omitempty"`
	Unseen        uint32   `cbor:"7,keyasint,omitempty"` // without \Seen
	Deleted       uint32   `cbor:"8,keyasint,omitempty"` // with \Deleted
	Size          uint64   `cbor:"9,keyasint,omitempty"` // of all messages
	SpecialUse    string   `cbor:"10,keyasint,omitempty"`
	Subscribed    bool     `cbor:"11,keyasint,omitempty"`
	Keywords      []string `cbor:"12,keyasint,omitempty"` // known to the mailbox, in the order they were first seen
	NoSelect      bool     `cbor:"13,keyasint,omitempty"` // a name that only has children
	Told          uint32   `cbor:"22,keyasint,omitempty"` // messages below this UID are not \Recent: a session was told of them (RFC 3501 section 2.3.2)
	Recent        uint32   `cbor:"23,keyasint,omitempty"` // messages from Told on; a View counts them
}

// Message is one entry of a mailbox without its bytes. A View fills in what its Want asked for.
type Message struct {
	UID      uint32     `cbor:"1,keyasint"`
	ModSeq   uint64     `cbor:"2,keyasint,omitempty"` // WantFlags
	Flags    Flags      `cbor:"3,keyasint,omitempty"` // WantFlags
	Date     int64      `cbor:"4,keyasint,omitempty"` // any Want but WantSummary: internal date, unix seconds
	Zone     int16      `cbor:"5,keyasint,omitempty"` // as Date: minutes east of UTC
	Size     uint64     `cbor:"6,keyasint,omitempty"` // as Date
	Ref      volume.Ref `cbor:"7,keyasint,omitempty"` // WantImmutable, WantSummary
	Summary  []byte     `cbor:"8,keyasint,omitempty"` // WantSummary: an encoded message.Summary
	SaveDate int64      `cbor:"9,keyasint,omitempty"` // WantImmutable: when it came into this account
	// CopyDate is when it was copied or moved into this mailbox (WantImmutable); 0: it came here first, or before copies were dated.
	CopyDate int64 `cbor:"14,keyasint,omitempty"`
}

// Saved is when a message came into its mailbox (RFC 8514), in unix seconds; of one that was copied before copies were dated, when it came into the account.
func (m *Message) Saved() int64 {
	if m.CopyDate != 0 {
		return m.CopyDate
	}
	return m.SaveDate
}

// NewMessage is a message about to get its UID.
type NewMessage struct {
	Flags    Flags      `cbor:"1,keyasint,omitempty"`
	Date     int64      `cbor:"2,keyasint,omitempty"`
	Zone     int16      `cbor:"3,keyasint,omitempty"`
	Ref      volume.Ref `cbor:"4,keyasint"`
	Size     uint64     `cbor:"5,keyasint,omitempty"`
	Summary  []byte     `cbor:"6,keyasint,omitempty"`
	SaveDate int64      `cbor:"7,keyasint,omitempty"`
}

// Want says which parts of a Message a reader needs. A message has a small row with ModSeq, Flags, Date, Zone and Size,
// and a large one with Ref, SaveDate and Summary; what lies in a row that is read anyway is filled in too. So for dates
// and sizes alone WantFlags is the cheap way.
type Want uint8

// Parts of a Message.
const (
	WantFlags     Want = 1 << iota // reads the small row
	WantImmutable                  // reads both
	WantSummary                    // reads the large row
)

// FlagChange is a message's flags after a change.
type FlagChange struct {
	UID    uint32 `cbor:"1,keyasint"`
	ModSeq uint64 `cbor:"2,keyasint"`
	Flags  Flags  `cbor:"3,keyasint,omitempty"`
}

// Changes is what happened to a mailbox after a modseq: messages that are new or changed, in the order of their
// latest modseq, and UIDs that vanished. It is complete up to HighestModSeq; when More is set, ask again since that.
type Changes struct {
	HighestModSeq uint64          `cbor:"1,keyasint"`
	UIDNext       uint32          `cbor:"2,keyasint"`
	Changed       []FlagChange    `cbor:"3,keyasint,omitempty"`
	Vanished      *roaring.Bitmap `cbor:"4,keyasint,omitempty"` // never nil
	More          bool            `cbor:"5,keyasint,omitempty"`
}
