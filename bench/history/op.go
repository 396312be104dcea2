package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what an operation does.
type Kind string

// Kinds.
const (
	Deliver Kind = "deliver" // by SMTP or LMTP
	Append  Kind = "append"
	Store   Kind = "store"
	Expunge Kind = "expunge" // of UID, if it has \Deleted
	Copy    Kind = "copy"
	Move    Kind = "move"
	Read    Kind = "read" // a fresh SELECT of the mailbox and a FETCH of all that is in it
	Base    Kind = "base" // the same, of what was there before the history began
)

// Outcome is what the client knows of an operation's effect.
type Outcome string

// Outcomes.
const (
	OK      Outcome = "ok"      // it took effect before the answer
	Refused Outcome = "refused" // it never will
	Unknown Outcome = "unknown" // it may take effect at any time after the call, or never
)

// Change says what a Store does with its flags.
type Change string

// Changes.
const (
	Add     Change = "+"
	Remove  Change = "-"
	Replace Change = "="
)

// Op is one operation of one client. A message for several recipients is one operation for each of their mailboxes, and a command on several
// messages one for each of them, all with the same interval.
type Op struct {
	Client  string        `json:"client,omitempty"`
	Node    string        `json:"node,omitempty"`
	Kind    Kind          `json:"kind"`
	Mailbox string        `json:"mailbox"`
	To      string        `json:"to,omitempty"` // destination of Copy and Move
	Call    time.Duration `json:"call"`         // since the history began, in nanoseconds
	Return  time.Duration `json:"return"`
	Outcome Outcome       `json:"outcome"`
	Answer  string        `json:"answer,omitempty"`  // if it was not OK
	Message string        `json:"message,omitempty"` // Message-ID with its brackets; of all but Read and Base
	Hash    Hash          `json:"hash,omitzero"`     // Deliver, Append
	Change  Change        `json:"change,omitempty"`  // Store
	Flags   Flags         `json:"flags,omitempty"`   // Append, Store
	UID     uint32        `json:"uid,omitempty"`     // of the message in Mailbox: Store, Expunge, Copy, Move
	NewUID  uint32        `json:"new_uid,omitempty"` // where the server told: Append in Mailbox; Copy, Move in To
	Reading *Reading      `json:"reading,omitempty"` // Read, Base
}

// Reading is what a mailbox shows, in the order in which it was served.
type Reading struct {
	UIDValidity   uint32 `json:"uid_validity,omitempty"`
	UIDNext       uint32 `json:"uid_next,omitempty"`       // 0: not told
	HighestModSeq uint64 `json:"highest_modseq,omitempty"` // 0: not told
	Messages      []Seen `json:"messages,omitempty"`
	NoUIDs        bool   `json:"no_uids,omitempty"` // by POP3: which messages are there, how often, and nothing else
	Others        int    `json:"others,omitempty"`  // how many were left out, in a Violation
}

// Seen is one message of a reading.
type Seen struct {
	ID     string `json:"id"`
	UID    uint32 `json:"uid"`
	Flags  Flags  `json:"flags,omitempty"`
	ModSeq uint64 `json:"modseq,omitempty"` // 0: not told
	Hash   Hash   `json:"hash,omitzero"`    // zero: the bytes were not read
}

// Hash tells messages apart by their bytes: half of a SHA-256.
type Hash [16]byte

// Sum is the hash of a message below its trace header.
func Sum(raw []byte) Hash {
	sum := sha256.Sum256(WithoutTrace(raw))
	return Hash(sum[:16])
}

// MarshalText gives hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads them.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("a hash of %d digits, expected %d", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Flags is a set of flags and keywords in one spelling: sorted, separated by spaces, without \Recent. Case does not count.
type Flags string

// NewFlags makes a set.
func NewFlags(names ...string) Flags {
	list := make([]string, 0, len(names))
	for _, n := range names {
		n = strings.ToLower(n)
		if n == `\recent` || n == "" {
			continue
		}
		if n[0] == '\\' && len(n) > 1 {
			n = n[:1] + strings.ToUpper(n[1:2]) + n[2:]
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return Flags(strings.Join(slices.Compact(list), " "))
}

// List gives the names.
func (f Flags) List() []string { return strings.Fields(string(f)) }

// deleted is the flag that has EXPUNGE take a message.
const deleted = `\Deleted`

// MailboxName names a user's folder in a history.
func MailboxName(address, folder string) string { return address + "/" + folder }

// SplitMailbox takes such a name apart.
func SplitMailbox(name string) (address, folder string) {
	address, folder, _ = strings.Cut(name, "/")
	return address, folder
}

// cut bounds what is kept of an answer.
func cut(s string) string {
	const most = 160
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// WithoutTrace drops the fields that servers put in front of a message as they take it.
func WithoutTrace(raw []byte) []byte {
	for {
		name, _, ok := bytes.Cut(raw, []byte(":"))
		if !ok || !strings.EqualFold(string(name), "Received") && !strings.EqualFold(string(name), "Return-Path") &&
			!strings.EqualFold(string(name), "Delivered-To") {
			return raw
		}
		end := fieldEnd(raw)
		raw = raw[end:]
	}
}

// fieldEnd is the length of the first header field with its folded lines.
func fieldEnd(raw []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(raw[i:], '\n')
		if n < 0 {
			return len(raw)
		}
		i += n + 1
		if i == len(raw) || raw[i] != ' ' && raw[i] != '\t' {
			return i
		}
	}
}
