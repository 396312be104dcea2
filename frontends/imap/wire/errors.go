package wire

import (
	"errors"

	goimap "github.com/emersion/go-imap/v2"
)

// What ends a connection, because its bytes cannot be told apart any more, or there are too many. All other errors of a Decoder
// are those of its reader, or a *goimap.Error: how the command is to be answered.
var (
	ErrTooLong = errors.New("command or literal too long")
	ErrOctet   = errors.New("invalid octet in a command")
)

// Bad answers what does not follow the grammar.
func Bad(text string) error {
	return &goimap.Error{Type: goimap.StatusResponseTypeBad, Code: goimap.ResponseCodeClientBug, Text: text}
}

// No refuses what follows the grammar; code may be empty.
func No(code goimap.ResponseCode, text string) error {
	return &goimap.Error{Type: goimap.StatusResponseTypeNo, Code: code, Text: text}
}

// Limit refuses what is over a bound.
func Limit(text string) error { return No(goimap.ResponseCodeLimit, text) }
