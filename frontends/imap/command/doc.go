// Package command parses the arguments of IMAP's commands (RFC 9051 section 6 and extensions) into values.
//
// Each function takes a decoder that stands behind the command's name and reads up to the command's end; Append is the
// exception, since its messages are streams. What a function returns is complete and keeps nothing of the decoder's. Types
// of go-imap are used where they say all that a client can; FETCH, STATUS and SEARCH have their own, in which items keep their order and
// keys are not joined.
//
// An error that is a *goimap.Error is the answer to the command: BAD for what is none, NO for one that is too complex. Others end the
// connection. Whether what is asked for makes sense, and is allowed, is for the caller to say.
package command
