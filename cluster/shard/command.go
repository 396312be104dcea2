package shard

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"hongyan/cluster/feature"
)

// commandHeader is level (1), request id (16), proposal time (8).
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
//	level u8 | request id 16 bytes | now i64, unix seconds, big endian | body
//
// Level is the feature level that a program needs to apply the body; 0 is the first. A program that does not know it stops before the entry: to refuse
// what other replicas apply would make it differ from them for good.
//
// Now is the proposer's clock: the only time that a state machine may look at, the same on every replica.
type Command struct {
	Level feature.Level
	ID    RequestID
	Now   int64
	Body  []byte
}

// Encode lays the command out for the log.
func (c Command) Encode() []byte {
	b := make([]byte, 0, commandHeader+len(c.Body))
	b = append(b, byte(max(c.Level, feature.Base)))
	b = append(b, c.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Now))
	return append(b, c.Body...)
}

// DecodeCommand reads a log entry. The body aliases b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < commandHeader {
		return Command{}, fmt.Errorf("decode command: %d bytes are fewer than a header", len(b))
	}
	level := feature.Level(b[0])
	if level < feature.Base || level > feature.Newest() {
		return Command{}, fmt.Errorf("decode command: it is of feature level %v, this node's program knows %v at most: update it", level, feature.Newest())
	}
	c := Command{Level: level, Now: int64(binary.BigEndian.Uint64(b[17:])), Body: b[commandHeader:]}
	copy(c.ID[:], b[1:])
	return c, nil
}
