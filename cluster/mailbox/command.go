// Package mailbox is the logic of a mailbox shard: the commands that change folders and messages, the state
// machine that applies them to the index, and the queries that a replica answers.
//
// Commands and their results are part of the Raft log and of the window of remembered requests; they
// are encoded by package codec, and a field's number is never used again. Everything that a
// command needs is in it: the state machine looks at no clock, disk or peer but the index.
package mailbox

import (
	"fmt"

	"hongyan/cluster/feature"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Command is one change to a shard. Exactly one field is set.
type Command struct {
	Ensure    *Ensure    `cbor:"1,keyasint,omitempty"`
	Deliver   *Deliver   `cbor:"2,keyasint,omitempty"`
	Append    *Append    `cbor:"3,keyasint,omitempty"`
	Store     *Store     `cbor:"4,keyasint,omitempty"`
	Copy      *Copy      `cbor:"5,keyasint,omitempty"`
	Expunge   *Expunge   `cbor:"6,keyasint,omitempty"`
	Create    *Create    `cbor:"7,keyasint,omitempty"`
	Delete    *Delete    `cbor:"8,keyasint,omitempty"`
	Rename    *Rename    `cbor:"9,keyasint,omitempty"`
	Subscribe *Subscribe `cbor:"10,keyasint,omitempty"`
	Condemn   *Condemn   `cbor:"11,keyasint,omitempty"`
	Rebind    *Rebind    `cbor:"12,keyasint,omitempty"`
	Settle    *Settle    `cbor:"13,keyasint,omitempty"`

	Move       *Move       `cbor:"20,keyasint,omitempty"`
	Import     *Import     `cbor:"21,keyasint,omitempty"`
	Revalidate *Revalidate `cbor:"30,keyasint,omitempty"`
	Amend      *Amend      `cbor:"31,keyasint,omitempty"`
	Recount    *Recount    `cbor:"32,keyasint,omitempty"`

	As     *As     `cbor:"40,keyasint,omitempty"`
	Grant  *Grant  `cbor:"41,keyasint,omitempty"`
	Sharer *Sharer `cbor:"42,keyasint,omitempty"`

	AppendAll *AppendAll `cbor:"50,keyasint,omitempty"`
	Replace   *Replace   `cbor:"51,keyasint,omitempty"`
	Annotate  *Annotate  `cbor:"52,keyasint,omitempty"`

	Told *Told `cbor:"60,keyasint,omitempty"`
}

// Level is the feature level of programs that can apply the command. What moves accounts is of feature.Moves; the package relocate says so itself.
func (c *Command) Level() feature.Level {
	switch {
	case c.As != nil, c.Grant != nil, c.Sharer != nil, c.AppendAll != nil, c.Replace != nil, c.Annotate != nil, c.Copy != nil && c.Copy.Dated, c.Told != nil, c.onTerms():
		return feature.Sharing
	case c.Amend != nil, c.Recount != nil:
		return feature.Moves
	}
	return feature.Base
}

// onTerms says whether the command's meaning is not the one that it always had.
func (c *Command) onTerms() bool {
	switch {
	case c.Deliver != nil:
		return len(c.Deliver.Terms) > 0
	case c.Rebind != nil:
		return len(c.Rebind.Terms) > 0
	case c.Append != nil:
		return c.Append.Limits != nil
	case c.Copy != nil:
		return c.Copy.Limits != nil
	}
	return false
}

// Terms are what a delivery to one account goes by. Limits stand in the directory and come with the command, as its proposer knows them then (a change is
// known everywhere within a second): so they have one place, no shard has to be told of a domain's new default, and what a replica decides
// follows from the log alone. What the account holds is the shard's own count, so the decision is exact.
type Terms struct {
	Limits *index.Limits `cbor:"1,keyasint,omitempty"`
	// Detail of the address (RFC 5233): the folder that is meant, if there is such a one, else INBOX.
	Detail string `cbor:"2,keyasint,omitempty"`
}

// Plain says that the terms are those of every delivery.
func (t *Terms) Plain() bool { return t.Limits == nil && t.Detail == "" }

// termsOf are those of the account with number i, of a list that may be empty.
func termsOf(list []Terms, i int) Terms {
	if i < len(list) {
		return list[i]
	}
	return Terms{}
}

// Amend corrects an entry that contradicts its message's record (package reconcile), if it still is as it was seen.
type Amend struct {
	Account uint64          `cbor:"1,keyasint"`
	Mailbox uint32          `cbor:"2,keyasint"`
	Entry   index.Amendment `cbor:"3,keyasint"`
}

// Recount makes a folder's counts and lists follow from its messages again.
type Recount struct {
	Account uint64 `cbor:"1,keyasint"`
	Mailbox uint32 `cbor:"2,keyasint"`
}

// Told notes of folders of many accounts which messages a session was told of, so that later ones do not show them as \Recent. A mark whose folder or
// account is not here, or on its way, is dropped: its messages are \Recent once more.
type Told struct {
	Marks []Mark `cbor:"1,keyasint"`
}

// Mark says that a session was told of a folder's messages below a UID.
type Mark struct {
	Account uint64 `cbor:"1,keyasint"`
	Mailbox uint32 `cbor:"2,keyasint"`
	Below   uint32 `cbor:"3,keyasint"`
}

// Revalidate gives every folder of some accounts a new UIDVALIDITY: the shard was recovered from a replica that may lack what clients have seen.
type Revalidate struct {
	Accounts []uint64 `cbor:"1,keyasint"`
}

// Message is what enters a folder: where its bytes are and what lists show of it.
type Message struct {
	Ref      volume.Ref `cbor:"1,keyasint"`
	Summary  []byte     `cbor:"2,keyasint"` // encoded message.Summary
	Date     int64      `cbor:"3,keyasint"` // internal date, unix seconds
	Zone     int16      `cbor:"4,keyasint,omitempty"`
	System   uint8      `cbor:"5,keyasint,omitempty"` // index.Flag… bits
	Keywords []string   `cbor:"6,keyasint,omitempty"`
}

// Ensure gives an account its first folders, if it has none.
type Ensure struct {
	Account uint64 `cbor:"1,keyasint"`
}

// Deliver enters one message in the INBOX of each account.
type Deliver struct {
	Accounts []uint64 `cbor:"1,keyasint"`
	Message  Message  `cbor:"2,keyasint"`
	Early    bool     `cbor:"3,keyasint,omitempty"` // the bytes are durable on their volume's primary, and elsewhere perhaps not yet
	Terms    []Terms  `cbor:"4,keyasint,omitempty"` // of each account, or none
}

// Add enters an account, whose terms need not be plain.
func (d *Deliver) Add(account uint64, terms Terms) {
	d.Accounts = append(d.Accounts, account)
	d.Terms = appendTerms(d.Terms, len(d.Accounts), terms)
}

// appendTerms enters the terms of the last of n accounts in a list, which stays empty while all are plain.
func appendTerms(list []Terms, n int, terms Terms) []Terms {
	if len(list) == 0 && terms.Plain() {
		return nil
	}
	for len(list) < n-1 {
		list = append(list, Terms{})
	}
	return append(list, terms)
}

// Append enters one message in a folder.
type Append struct {
	Account uint64  `cbor:"1,keyasint"`
	Mailbox string  `cbor:"2,keyasint"`
	Message Message `cbor:"3,keyasint"`
	Early   bool    `cbor:"4,keyasint,omitempty"` // as in Deliver

	Limits *index.Limits `cbor:"5,keyasint,omitempty"` // as in Terms
}

// Store changes flags of messages.
type Store struct {
	Account        uint64   `cbor:"1,keyasint"`
	Mailbox        uint32   `cbor:"2,keyasint"`
	UIDs           []byte   `cbor:"3,keyasint"` // roaring bitmap
	Op             uint8    `cbor:"4,keyasint"`
	System         uint8    `cbor:"5,keyasint,omitempty"`
	Keywords       []string `cbor:"6,keyasint,omitempty"`
	UnchangedSince uint64   `cbor:"7,keyasint,omitempty"`
}

// Copy copies or moves messages to a folder of the same account.
type Copy struct {
	Account uint64 `cbor:"1,keyasint"`
	Mailbox uint32 `cbor:"2,keyasint"`
	UIDs    []byte `cbor:"3,keyasint"`
	To      string `cbor:"4,keyasint"`
	Move    bool   `cbor:"5,keyasint,omitempty"`
	Dated   bool   `cbor:"10,keyasint,omitempty"` // the copies are saved now (RFC 8514); before feature.Sharing they kept the date of what was copied

	Limits *index.Limits `cbor:"6,keyasint,omitempty"` // as in Terms; a move needs none
}

// Expunge removes messages.
type Expunge struct {
	Account     uint64 `cbor:"1,keyasint"`
	Mailbox     uint32 `cbor:"2,keyasint"`
	UIDs        []byte `cbor:"3,keyasint"`
	OnlyDeleted bool   `cbor:"5,keyasint,omitempty"`
}

// Create makes a folder.
type Create struct {
	Account    uint64 `cbor:"1,keyasint"`
	Name       string `cbor:"2,keyasint"`
	SpecialUse string `cbor:"3,keyasint,omitempty"`
}

// Delete removes a folder.
type Delete struct {
	Account uint64 `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
}

// Rename renames a folder and its children.
type Rename struct {
	Account uint64 `cbor:"1,keyasint"`
	From    string `cbor:"2,keyasint"`
	To      string `cbor:"3,keyasint"`
}

// Subscribe sets or clears a subscription.
type Subscribe struct {
	Account uint64 `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	On      bool   `cbor:"3,keyasint,omitempty"`
}

// Condemn has the shard take no message any more whose bytes were put in a volume; see package collect.
type Condemn struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint"` // that the volume is to get
}

// Rebind gives a message that was entered early, and whose bytes did not get to the other copies in time, the place where they have been put
// since. Accounts that have the message neither there nor there get it now.
type Rebind struct {
	Accounts []uint64   `cbor:"1,keyasint"`
	Mailbox  string     `cbor:"2,keyasint"` // where the message is entered if it has to be
	Old      volume.Ref `cbor:"3,keyasint"`
	Message  Message    `cbor:"4,keyasint"`
	Terms    []Terms    `cbor:"5,keyasint,omitempty"` // as in Deliver
}

// Settle ends what early entries left open of a volume that is sealed: those of records behind Last are removed.
type Settle struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Last   uint64    `cbor:"2,keyasint,omitempty"` // record within the sealed length; 0 if there is none
}

// Code says how a command or query ended. It is stored and sent: numbers are fixed.
type Code uint8

// Codes.
const (
	OK          Code = 0
	NoMailbox   Code = 1
	Exists      Code = 2
	InvalidName Code = 3
	Limit       Code = 4
	Invalid     Code = 5
	HasChildren Code = 6
	Condemned   Code = 7 // the volume of the message's bytes is being collected: put them in another
	Moved       Code = 8 // the account is in another shard, or on its way: see Shard and At
	Fenced      Code = 9
	Here        Code = 10
	Swept       Code = 11
	NoMessage   Code = 20

	OverQuota Code = 40
	NoRight   Code = 41 // the user may know of the mailbox, and not do this
)

// Refusal is one account that could not take a delivery.
type Refusal struct {
	Account uint64 `cbor:"1,keyasint"`
	Code    Code   `cbor:"2,keyasint"`
	Message string `cbor:"3,keyasint,omitempty"`
	Shard   uint32 `cbor:"4,keyasint,omitempty"` // as in Result
	At      uint64 `cbor:"5,keyasint,omitempty"`
}

// Result is what a command gave, the same on every replica.
type Result struct {
	Code        Code               `cbor:"1,keyasint,omitempty"`
	Message     string             `cbor:"2,keyasint,omitempty"`
	UIDValidity uint32             `cbor:"3,keyasint,omitempty"`
	FirstUID    uint32             `cbor:"4,keyasint,omitempty"`  // of the new messages, numbered without gaps
	UIDs        []byte             `cbor:"5,keyasint,omitempty"`  // Copy: sources; Expunge: gone; Store: changed
	Failed      []byte             `cbor:"6,keyasint,omitempty"`  // Store: changed since, so left alone
	Changed     []index.FlagChange `cbor:"7,keyasint,omitempty"`  // Store: when they are few and short, else UIDs
	Mailbox     *index.Mailbox     `cbor:"8,keyasint,omitempty"`  // Create
	Refused     []Refusal          `cbor:"9,keyasint,omitempty"`  // Deliver: the others have it
	Shard       uint32             `cbor:"10,keyasint,omitempty"` // Moved: where the account is, 0 if it is on its way
	At          uint64             `cbor:"11,keyasint,omitempty"` // Moved: since this entry of that shard
	Next        uint32             `cbor:"12,keyasint,omitempty"` // MoveDrop: go on here
	Done        bool               `cbor:"13,keyasint,omitempty"` // Amend, Recount: something was otherwise

	Entry uint64 `cbor:"-"` // of the shard's log, by which a door had this answer
}

// What a result carries of changed flags at most: results are remembered for a while, and one over index.MaxResultBytes
// could not be.
const (
	maxChanged      = 256
	maxChangedBytes = 64 << 10 // of keywords
)

// Encode lays a command out for the log.
func (c *Command) Encode() ([]byte, error) { return codec.Marshal(c) }

// RefusedError is a command that the shard did not take, the same on every replica.
type RefusedError struct {
	Code    Code
	Message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused with code %d: %s", e.Code, e.Message)
}

// Commit has propose commit the command, and reads what became of it: *RefusedError if the shard did not take it. at is the entry of the shard's log.
func (c *Command) Commit(propose func(body []byte) (result []byte, at uint64, err error)) (r *Result, at uint64, err error) {
	body, err := c.Encode()
	if err != nil {
		return nil, 0, err
	}
	b, at, err := propose(body)
	if err != nil {
		return nil, at, err
	}
	r, err = DecodeResult(b)
	if err == nil && r.Code != OK {
		err = &RefusedError{Code: r.Code, Message: r.Message}
	}
	return r, at, err
}

// DecodeResult reads a state machine's answer.
func DecodeResult(b []byte) (*Result, error) {
	r := new(Result)
	if err := codec.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("result of a mailbox command: %w", err)
	}
	return r, nil
}
