package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hongyan/engine/codec"
)

// Code is the kind of a failure, the same on every node. Numbers are on the wire: never reuse one.
type Code uint16

// The kinds of failure that callers tell apart.
const (
	Internal    Code = 1  // a fault of the callee
	Unavailable Code = 2  // not now: the node is down, starting, or overloaded
	NotLeader   Code = 3  // ask the node named in Hint, or look for the leader when it is empty
	NotFound    Code = 4  // no such thing
	Exists      Code = 5  // there already
	Invalid     Code = 6  // the request makes no sense
	Limit       Code = 7  // over a limit
	Sealed      Code = 8  // the volume takes no more bytes
	Full        Code = 9  // the disk is full
	Denied      Code = 10 // not allowed
	Deadline    Code = 11 // the caller's time is up
	Canceled    Code = 12 // the caller has gone
	Overloaded  Code = 13 // more is waiting than will be done in time: to be told at once, not to be tried elsewhere
	Unsupported Code = 14 // the callee's program does not know the method: an older one, or a newer one that has given it up
	Damaged     Code = 15 // the callee's disk has not what it should have, or does not give it
)

// maxErrorText bounds the text of an error on the wire, in bytes.
const maxErrorText = 1024

// Error is a failure that keeps its kind across nodes.
type Error struct {
	Code    Code   `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint,omitempty"`
	Hint    string `cbor:"3,keyasint,omitempty"` // with NotLeader: the leader's node id, if known
}

// Sentinels for errors.Is, one for each kind.
var (
	ErrInternal    = &Error{Code: Internal}
	ErrUnavailable = &Error{Code: Unavailable}
	ErrNotLeader   = &Error{Code: NotLeader}
	ErrNotFound    = &Error{Code: NotFound}
	ErrExists      = &Error{Code: Exists}
	ErrInvalid     = &Error{Code: Invalid}
	ErrLimit       = &Error{Code: Limit}
	ErrSealed      = &Error{Code: Sealed}
	ErrFull        = &Error{Code: Full}
	ErrDenied      = &Error{Code: Denied}
	ErrDeadline    = &Error{Code: Deadline}
	ErrCanceled    = &Error{Code: Canceled}
	ErrOverloaded  = &Error{Code: Overloaded}
	ErrUnsupported = &Error{Code: Unsupported}
	ErrDamaged     = &Error{Code: Damaged}
)

// Errorf makes an error of a kind.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// String names the kind.
func (c Code) String() string {
	names := [...]string{"", "internal error", "unavailable", "not the leader", "not found", "exists", "invalid",
		"over a limit", "sealed", "full", "denied", "deadline exceeded", "canceled", "overloaded", "not known there", "damaged"}
	if int(c) < len(names) && c != 0 {
		return names[c]
	}
	return fmt.Sprintf("error code %d", uint16(c))
}

// NotKnown says that a call failed because the callee's program does not know its method: who called falls back to what it knows, or waits for an update.
// Programs up to feature level 1 answer Invalid and these words.
func NotKnown(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == Unsupported || e.Code == Invalid && (strings.Contains(e.Message, " has no call \"") || strings.Contains(e.Message, " has no stream \"")))
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Code.String()
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Hint != "" {
		text += " (try " + e.Hint + ")"
	}
	return text
}

// Is matches the sentinel of the same kind, and the context errors that two of the kinds stand for.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == Deadline
	case context.Canceled:
		return e.Code == Canceled
	}
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == "" && t.Hint == ""
}

// FromError finds the kind of any error: that of the Error it wraps, Deadline and Canceled for the
// errors of package context, else Internal. The text is the whole chain's. nil gives nil.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	out := &Error{Code: Internal, Message: err.Error()}
	var typed *Error
	switch {
	case errors.As(err, &typed):
		if err == error(typed) {
			return typed
		}
		out.Code, out.Hint = typed.Code, typed.Hint
	case errors.Is(err, context.DeadlineExceeded):
		out.Code = Deadline
	case errors.Is(err, context.Canceled):
		out.Code = Canceled
	}
	return out
}

// EncodeError gives an error's bytes on the wire.
func EncodeError(e *Error) []byte {
	short := *e
	if len(short.Message) > maxErrorText {
		short.Message = short.Message[:maxErrorText]
	}
	b, err := codec.Marshal(&short)
	if err != nil { // a struct of a number and two strings always has an encoding
		return nil
	}
	return b
}

// DecodeError reads what EncodeError wrote; what cannot be read is an Internal error itself.
func DecodeError(b []byte) *Error {
	var e Error
	if err := codec.Unmarshal(b, &e); err != nil {
		return Errorf(Internal, "unreadable error from peer: %v", err)
	}
	if e.Code == 0 {
		e.Code = Internal
	}
	return &e
}
