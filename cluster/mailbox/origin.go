package mailbox

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// Origin is the metadata inside a message's record: with it the mailbox indexes can be rebuilt from volumes
// alone. Later changes, such as flags and moves, are not in it.
type Origin struct {
	Delivery [16]byte `cbor:"1,keyasint"` // names the delivery, so that a record found twice is entered once
	From     string   `cbor:"2,keyasint,omitempty"`
	Date     int64    `cbor:"3,keyasint"` // internal date, unix seconds
	Zone     int16    `cbor:"4,keyasint,omitempty"`
	System   uint8    `cbor:"5,keyasint,omitempty"`
	Keywords []string `cbor:"6,keyasint,omitempty"`
	Targets  []Target `cbor:"7,keyasint"`
	Arrived  int64    `cbor:"8,keyasint,omitempty"` // unix seconds, when the bytes were about to be stored
	// Before are the records that had these bytes before they were put again (package rehouse), the latest last: an older checkpoint may refer to them.
	Before []Former `cbor:"9,keyasint,omitempty"`
}

// Former is a record of a volume.
type Former struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Record uint64    `cbor:"2,keyasint"`
}

// Request is the id under which a shard's command for the delivery is proposed. A rebuild computes it again, and finds out
// from the requests that the shard remembers whether a message that is in no folder was entered and expunged, or not yet entered.
func Request(delivery [16]byte, shard uint32) (id [16]byte) {
	b := append([]byte("hongyan delivery\x00"), delivery[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b, shard))
	copy(id[:], sum[:])
	return id
}

// Target is a folder that the message was for.
type Target struct {
	Account uint64 `cbor:"1,keyasint"`
	Mailbox string `cbor:"2,keyasint"`
	Detail  string `cbor:"3,keyasint,omitempty"` // of a delivery: as in Terms
}

// ErrHash is of a message whose bytes are not those of its record.
var ErrHash = errors.New("its hash differs")

// Message computes what the index keeps of a message, as the frontend that took it in did. ref has the place and length, and of a record that is not
// sealed the hash that the bytes must have; copy writes these.
func (o *Origin) Message(ref volume.Ref, sealed bool, copy func(w io.Writer) error) (*Message, error) {
	scanner, sum := message.NewScanner(), sha256.New()
	if err := copy(io.MultiWriter(scanner, sum)); err != nil {
		return nil, err
	}
	summary, err := scanner.Finish().Encode()
	if err != nil {
		return nil, err
	}
	said := ref.Hash
	sum.Sum(ref.Hash[:0])
	if !sealed && ref.Hash != said {
		return nil, ErrHash
	}
	return &Message{Ref: ref, Summary: summary, Date: o.Date, Zone: o.Zone, System: o.System, Keywords: o.Keywords}, nil
}
