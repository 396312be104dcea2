package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/emersion/go-imap/v2"
)

// Class says what kind of failure an operation met.
type Class string

// Classes of failures. The first four are answers of the server, the last two are our own doing.
const (
	Temporary  Class = "4xx"        // SMTP, LMTP: try again later
	Permanent  Class = "5xx"        // SMTP, LMTP: never
	No         Class = "NO"         // IMAP NO, POP3 -ERR
	Bad        Class = "BAD"        // IMAP BAD, or an answer that follows no rule
	Timeout    Class = "timeout"    // no answer in time
	Connection Class = "connection" // refused, reset, closed, TLS
	Other      Class = "other"
	Refused    Class = "refused"    // never tried: all workers that the run may have were busy
	Unfinished Class = "unfinished" // the run ended first
)

// Classes are all of them, in the order they are shown.
func Classes() []Class {
	return []Class{Temporary, Permanent, No, Bad, Timeout, Connection, Other, Refused, Unfinished}
}

// Classified is an error that knows its class.
type Classified interface {
	error
	Class() Class
}

// Classify gives the class of an operation's error.
func Classify(err error) Class {
	if c, ok := errors.AsType[Classified](err); ok {
		return c.Class()
	}
	if c, ok := errors.AsType[*imap.Error](err); ok {
		if c.Type == imap.StatusResponseTypeBad {
			return Bad
		}
		return No
	}
	switch n, isNet := errors.AsType[net.Error](err); {
	case errors.Is(err, context.Canceled):
		return Unfinished
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isNet && n.Timeout():
		return Timeout
	case isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE),
		errors.Is(err, syscall.ECONNRESET), isTLS(err):
		return Connection
	}
	return Other
}

func isTLS(err error) bool {
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return cert || record
}
