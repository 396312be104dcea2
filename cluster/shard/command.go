package shard

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// commandVersion is the first byte of every log entry of ours.
const commandVersion = 1

// commandHeader is version (1), request id (16), proposal time (8).
const commandHeader = 1 + 16 + 8

// RequestID names one request for good. A retry carries the same id and is applied once.
type RequestID [16]byte

// NewRequestID draws an id that nobody else draws.
func NewRequestID() RequestID {
	var id RequestID
	rand.Read(id[:]) // never fails (crypto/rand since Go 1.24)
	return id
}

// Command is what a log entry holds.
//
//	version u8 | request id 16 bytes | now i64, unix seconds, big endian | body
//
// Now is the proposer's clock: the only time that a state machine may look at, the same on every replica.
type Command struct {
	ID   RequestID
	Now  int64
	Body []byte
}

// Encode lays the command out for the log.
func (c Command) Encode() []byte {
	b := make([]byte, 0, commandHeader+len(c.Body))
	b = append(b, commandVersion)
	b = append(b, c.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Now))
	return append(b, c.Body...)
}

// DecodeCommand reads a log entry. The body aliases b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < commandHeader {
		return Command{}, fmt.Errorf("decode command: %d bytes are fewer than a header", len(b))
	}
	if b[0] != commandVersion {
		return Command{}, fmt.Errorf("decode command: version %d, this node knows %d", b[0], commandVersion)
	}
	c := Command{Now: int64(binary.BigEndian.Uint64(b[17:])), Body: b[commandHeader:]}
	copy(c.ID[:], b[1:])
	return c, nil
}
