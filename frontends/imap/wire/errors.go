package wire

import "errors"

// What ends a connection, because its bytes cannot be told apart any more, or there are too many.
var (
	ErrTooLong = errors.New("command or literal too long")
	ErrOctet   = errors.New("invalid octet in a command")
)

// SyntaxError says what of a command does not follow the grammar. The command is answered with BAD, the connection goes on.
type SyntaxError struct{ Text string }

func (e *SyntaxError) Error() string { return e.Text }

// LimitError says which bound a command that follows the grammar is over. It is answered with NO.
type LimitError struct{ Text string }

func (e *LimitError) Error() string { return e.Text }

func syntax(text string) error { return &SyntaxError{text} }
