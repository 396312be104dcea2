package mailbox

import (
	"errors"
	"fmt"

	"hongyan/engine/index"
)

// QueryKind says what is asked. Numbers are fixed: they travel.
type QueryKind uint8

// Kinds of queries.
const (
	QueryMailboxes     QueryKind = 1
	QuerySubscriptions QueryKind = 2
	QueryStatus        QueryKind = 3
	QuerySelect        QueryKind = 4
	QueryMessages      QueryKind = 5
	QueryFlagged       QueryKind = 6
	QueryChanges       QueryKind = 7
	QueryAnnotations   QueryKind = 50 // of the folder Name, of the account itself without one
	QueryNotes         QueryKind = 51 // of all folders, without values

	QueryUsage   QueryKind = 40
	QueryGrants  QueryKind = 41 // of the folder Name
	QueryRights  QueryKind = 42 // of the user on the folder Name
	QuerySharers QueryKind = 43
)

// Query is a question about one account, answered from one consistent view of a replica.
type Query struct {
	Shard   uint32    `cbor:"1,keyasint"`
	Min     uint64    `cbor:"2,keyasint,omitempty"` // the replica must have applied this entry
	Kind    QueryKind `cbor:"3,keyasint"`
	Account uint64    `cbor:"4,keyasint"`
	Mailbox uint32    `cbor:"5,keyasint,omitempty"`
	Name    string    `cbor:"6,keyasint,omitempty"`
	UIDs    []byte    `cbor:"7,keyasint,omitempty"`
	Want    uint8     `cbor:"8,keyasint,omitempty"`
	Flag    uint8     `cbor:"9,keyasint,omitempty"`
	Since   uint64    `cbor:"10,keyasint,omitempty"`
	But     []uint64  `cbor:"11,keyasint,omitempty"` // Changes: modseqs that need not be told; a node that does not know of them tells all
	User    uint64    `cbor:"40,keyasint,omitempty"` // on whose behalf, if that is not the account itself
}

// Frame is a part of an answer. A query for folders, names, messages or changes gives any number of them, the others one.
type Frame struct {
	Code      Code               `cbor:"1,keyasint,omitempty"` // not OK: the last frame
	Message   string             `cbor:"2,keyasint,omitempty"`
	Mailboxes []index.Mailbox    `cbor:"3,keyasint,omitempty"`
	Names     []string           `cbor:"4,keyasint,omitempty"`
	UIDs      []byte             `cbor:"5,keyasint,omitempty"` // Select: all; Flagged; Changes: vanished
	Unseen    []byte             `cbor:"6,keyasint,omitempty"`
	Messages  []index.Message    `cbor:"7,keyasint,omitempty"`
	Changed   []index.FlagChange `cbor:"8,keyasint,omitempty"`
	ModSeq    uint64             `cbor:"9,keyasint,omitempty"`
	UIDNext   uint32             `cbor:"10,keyasint,omitempty"`
	More      bool               `cbor:"11,keyasint,omitempty"`
	Applied   uint64             `cbor:"12,keyasint,omitempty"` // entry that the answer stands at
	Shard     uint32             `cbor:"13,keyasint,omitempty"` // Moved: as in Result
	At        uint64             `cbor:"14,keyasint,omitempty"`
	Odd       bool               `cbor:"15,keyasint,omitempty"` // Select: the folder's counts contradict its messages
	Usage     *index.Usage       `cbor:"16,keyasint,omitempty"`

	Annotations []index.Annotation `cbor:"20,keyasint,omitempty"`

	Grants  []index.Grant  `cbor:"40,keyasint,omitempty"` // QueryGrants; to a guest, what he may do with the folders
	Sharers []index.Sharer `cbor:"41,keyasint,omitempty"`
}

// A frame of messages holds at most so many, and any frame about so many bytes; an answer about changes so many messages.
const (
	frameMessages = 128
	frameBytes    = 256 << 10
	frameChanges  = 10_000
)

// Answer runs q on a view and passes the frames to emit. A refusal is a frame with a Code; an error means
// that the store or emit failed.
func Answer(v *index.View, q *Query, emit func(*Frame) error) error {
	applied, err := v.Applied()
	if err != nil {
		return err
	}
	stamped := func(f *Frame) error {
		f.Applied = applied
		return emit(f)
	}
	if err = v.Readable(q.Account); err == nil {
		err = answer(v, q, stamped)
	}
	if code, refused := refusal(err); err != nil && refused {
		f := &Frame{Code: code, Message: err.Error()}
		f.Shard, f.At = whither(err)
		return stamped(f)
	}
	return err
}

// inParts passes runs of list that are about frameBytes long to emit, at least one.
func inParts[T any](list []T, size func(*T) int, emit func(part []T) error) error {
	start, bytes := 0, 0
	for i := range list {
		if bytes += size(&list[i]); bytes >= frameBytes && i+1 < len(list) {
			if err := emit(list[start : i+1]); err != nil {
				return err
			}
			start, bytes = i+1, 0
		}
	}
	return emit(list[start:])
}

// textSize is what names take in a frame, with their overhead.
func textSize(names []string) int {
	n := 16
	for _, s := range names {
		n += len(s) + 3
	}
	return n
}

// mailboxSize is what a folder takes in a frame.
func mailboxSize(b *index.Mailbox) int { return 64 + len(b.Name) + textSize(b.Keywords) }

func answer(v *index.View, q *Query, emit func(*Frame) error) error {
	if q.User != 0 {
		return answerGuest(v, q, emit)
	}
	switch q.Kind {
	case QueryMailboxes:
		boxes, err := v.Mailboxes(q.Account)
		if err != nil {
			return err
		}
		return inParts(boxes, mailboxSize, func(part []index.Mailbox) error { return emit(&Frame{Mailboxes: part}) })
	case QuerySubscriptions:
		names, err := v.Subscriptions(q.Account)
		if err != nil {
			return err
		}
		size := func(s *string) int { return len(*s) + 3 }
		return inParts(names, size, func(part []string) error { return emit(&Frame{Names: part}) })
	case QueryStatus:
		box, err := v.MailboxByName(q.Account, q.Name)
		if err != nil {
			return err
		}
		return emit(&Frame{Mailboxes: []index.Mailbox{box}})
	case QuerySelect:
		return answerSelect(v, q, emit)
	case QueryMessages:
		return answerMessages(v, q, emit)
	case QueryFlagged:
		set, err := v.Flagged(q.Account, q.Mailbox, q.Flag)
		if err != nil {
			return err
		}
		f := &Frame{}
		if f.UIDs, err = EncodeUIDs(set); err != nil {
			return err
		}
		return emit(f)
	case QueryChanges:
		return answerChanges(v, q, emit)
	case QueryAnnotations, QueryNotes:
		return answerAnnotations(v, q, emit)
	case QueryUsage:
		u, err := v.Usage(q.Account)
		if err != nil {
			return err
		}
		return emit(&Frame{Usage: &u})
	case QueryGrants:
		return answerGrants(v, q, emit)
	case QuerySharers:
		return answerSharers(v, q, emit)
	}
	return fmt.Errorf("%w: query kind %d", errInvalid, q.Kind)
}

func answerSelect(v *index.View, q *Query, emit func(*Frame) error) error {
	box, err := v.MailboxByName(q.Account, q.Name)
	if err != nil {
		return err
	}
	all, err := v.UIDs(q.Account, box.ID)
	if err != nil {
		return err
	}
	unseen, err := v.Flagged(q.Account, box.ID, index.FlagSeen)
	if err != nil {
		return err
	}
	unseen.Xor(all) // those of all that are not seen
	behind, err := v.Behind(q.Account, box)
	if err != nil {
		return err
	}
	f := &Frame{Mailboxes: []index.Mailbox{box}}
	f.Odd = behind || all.GetCardinality() != uint64(box.Messages) || unseen.GetCardinality() != uint64(box.Unseen)
	var errAll, errUnseen error
	f.UIDs, errAll = EncodeUIDs(all)
	f.Unseen, errUnseen = EncodeUIDs(unseen)
	if err := errors.Join(errAll, errUnseen); err != nil {
		return err
	}
	return emit(f)
}

func answerMessages(v *index.View, q *Query, emit func(*Frame) error) error {
	uids, err := DecodeUIDs(q.UIDs)
	if err != nil {
		return err
	}
	frame, size := &Frame{}, 0
	err = v.Messages(q.Account, q.Mailbox, uids, index.Want(q.Want), func(m *index.Message) error {
		kept := *m
		kept.Summary = append([]byte(nil), m.Summary...)
		frame.Messages = append(frame.Messages, kept)
		size += len(kept.Summary)
		if len(frame.Messages) < frameMessages && size < frameBytes {
			return nil
		}
		full := frame
		frame, size = &Frame{}, 0
		return emit(full)
	})
	if err != nil {
		return err
	}
	return emit(frame)
}

func answerChanges(v *index.View, q *Query, emit func(*Frame) error) error {
	ch, err := v.Changes(q.Account, q.Mailbox, q.Since, frameChanges, q.But...)
	if err != nil {
		return err
	}
	vanished, err := EncodeUIDs(ch.Vanished)
	if err != nil {
		return err
	}
	size := func(c *index.FlagChange) int { return 16 + textSize(c.Flags.Keywords) }
	return inParts(ch.Changed, size, func(part []index.FlagChange) error {
		f := &Frame{ModSeq: ch.HighestModSeq, UIDNext: ch.UIDNext, UIDs: vanished, Changed: part, More: ch.More}
		vanished = nil // once is enough
		return emit(f)
	})
}
