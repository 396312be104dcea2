package mailbox

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/index"
)

// MaxAppends is how many messages one AppendAll enters at most.
const MaxAppends = 100

// AppendAll enters several messages in a folder, in their order: all of them, or none (RFC 3502). Their bytes are on every copy of some volume before.
type AppendAll struct {
	Account uint64     `cbor:"1,keyasint"`
	Mailbox string     `cbor:"2,keyasint"`
	List    []Entering `cbor:"3,keyasint"`

	Limits *index.Limits `cbor:"4,keyasint,omitempty"` // as in Terms, of all together
}

// Entering is one of several messages that one command enters.
type Entering struct {
	Message Message `cbor:"1,keyasint"`
	// Request is the one that a command for this message alone would have had: the shard remembers it too, so that a rebuild from
	// volumes knows of each message whether it was entered.
	Request [16]byte `cbor:"2,keyasint"`
}

// Replace enters a message in a folder and removes another in the same step (RFC 8508). If that is gone, nothing is entered.
type Replace struct {
	Account uint64  `cbor:"1,keyasint"`
	Mailbox string  `cbor:"2,keyasint"` // of the new message
	Message Message `cbor:"3,keyasint"`
	From    uint32  `cbor:"4,keyasint"` // folder of the old one
	UID     uint32  `cbor:"5,keyasint"`

	Limits *index.Limits `cbor:"6,keyasint,omitempty"` // as in Terms, of what the new message is larger
}

func (m *Machine) appendAll(t *index.Txn, now int64, c *AppendAll) (*Result, error) {
	if len(c.List) == 0 || len(c.List) > MaxAppends {
		return nil, fmt.Errorf("%w: %d messages to append", errInvalid, len(c.List))
	}
	entries := make([]index.NewMessage, len(c.List))
	for i := range c.List {
		entries[i] = c.List[i].Message.entry(now)
	}
	box, first, err := m.add(t, now, c.Account, c.Mailbox, Terms{Limits: c.Limits}, entries...)
	if err != nil {
		return nil, err
	}
	for i := range c.List {
		if err := t.Remember(c.List[i].Request, nil); err != nil {
			return nil, err
		}
	}
	m.note(c.Account, box.ID)
	return &Result{UIDValidity: box.UIDValidity, FirstUID: first}, nil
}

func (m *Machine) replace(t *index.Txn, now int64, c *Replace) (*Result, error) {
	if err := t.Changeable(c.Account); err != nil {
		return nil, err
	}
	to, err := t.MailboxByName(c.Account, c.Mailbox)
	if err != nil {
		return nil, err
	}
	if c.Limits != nil {
		old, err := t.Weigh(c.Account, c.From, roaring.BitmapOf(c.UID))
		if err == nil {
			err = t.Allow(c.Account, *c.Limits, index.Usage{Bytes: c.Message.Ref.Length - min(old.Bytes, c.Message.Ref.Length)})
		}
		if err != nil {
			return nil, err
		}
	}
	uid, validity, err := t.Replace(c.Account, c.From, c.UID, to.ID, c.Message.entry(now))
	if err != nil {
		return nil, err
	}
	m.note(c.Account, to.ID)
	m.note(c.Account, c.From)
	return &Result{UIDValidity: validity, FirstUID: uid}, nil
}
