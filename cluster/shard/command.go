package shard

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"hongyan/cluster/feature"
)

// commandHeader is level (1), request id (16), proposal time (8).
const commandHeader = 1 + 16 + 8

// bundled is the bit of a command's level that says that its body is a list.
const bundled = 0x80

// Limits of commands.
const (
	// MaxCommand bounds a command's body in the log, so that the entries of one AppendEntries always fit in a message between nodes: a
	// follower could never be sent more.
	MaxCommand = 256 << 10
	// MaxBundle is how many bodies a command has at most; each costs BundleHeader bytes of MaxCommand.
	MaxBundle    = 256
	BundleHeader = 4
)

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
//
// From feature.Bundles on, with the level's highest bit set, there are several bodies, each behind its length (u32, big endian). They are applied one behind
// the other as commands of their own, and their results make a list of the same form. As the entry is one, so is its modseq: no two of them may be about the same mailbox.
type Command struct {
	Level  feature.Level
	ID     RequestID
	Now    int64
	Body   []byte   // of one
	Bodies [][]byte // of several, instead
}

// Encode lays the command out for the log.
func (c Command) Encode() []byte {
	level, body := byte(max(c.Level, feature.Base)), c.Body
	if c.Bodies != nil {
		level, body = level|bundled, encodeList(c.Bodies)
	}
	b := make([]byte, 0, commandHeader+len(body))
	b = append(b, level)
	b = append(b, c.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Now))
	return append(b, body...)
}

// DecodeCommand reads a log entry. The bodies alias b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < commandHeader {
		return Command{}, fmt.Errorf("decode command: %d bytes are fewer than a header", len(b))
	}
	level := feature.Level(b[0] &^ bundled)
	if level < feature.Base || level > feature.Newest() {
		return Command{}, fmt.Errorf("decode command: it is of feature level %v, this node's program knows %v at most: update it", level, feature.Newest())
	}
	c := Command{Level: level, Now: int64(binary.BigEndian.Uint64(b[17:]))}
	copy(c.ID[:], b[1:])
	if b[0]&bundled == 0 {
		c.Body = b[commandHeader:]
		return c, nil
	}
	if level < feature.Bundles {
		return Command{}, fmt.Errorf("decode command: several in one of feature level %v", level)
	}
	var err error
	if c.Bodies, err = decodeList(b[commandHeader:]); err == nil && (len(c.Bodies) == 0 || len(c.Bodies) > MaxBundle) {
		err = fmt.Errorf("decode command: %d in one", len(c.Bodies))
	}
	return c, err
}

// size is that of the body in the log.
func (c *Command) size() int {
	n := len(c.Body)
	for _, b := range c.Bodies {
		n += BundleHeader + len(b)
	}
	return n
}

func encodeList(list [][]byte) []byte {
	var b []byte
	for _, one := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(len(one)))
		b = append(b, one...)
	}
	return b
}

var errList = errors.New("a list of commands or results is cut short")

// decodeList gives parts of b.
func decodeList(b []byte) (list [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < BundleHeader {
			return nil, errList
		}
		n := binary.BigEndian.Uint32(b)
		if b = b[BundleHeader:]; uint64(n) > uint64(len(b)) {
			return nil, errList
		}
		list, b = append(list, b[:n:n]), b[n:]
	}
	return list, nil
}
