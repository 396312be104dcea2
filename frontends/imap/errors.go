package imap

import (
	"context"
	"errors"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/wire"
)

// no and bad make the answers that a command can end in.
func no(code goimap.ResponseCode, text string) error { return wire.No(code, text) }

func bad(text string) error { return wire.Bad(text) }

const codeExpungeIssued goimap.ResponseCode = "EXPUNGEISSUED" // RFC 5530 section 3

// expungeIssued answers a command some of whose sequence numbers belong to vanished messages.
func expungeIssued() error {
	return no(codeExpungeIssued, "Some of the messages no longer exist")
}

// answer turns an error of the cluster into the answer to a command; doing says what failed, for the log.
func (s *session) answer(doing string, err error) error {
	var ready *goimap.Error
	var over *client.QuotaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ready):
		return err
	case s.c.isClosed(), s.out.Err() != nil:
		return err // the client is gone: nobody is there to answer
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.srv.stats.unavailable.Add(1)
		s.log.Warn("IMAP command found the mailbox unavailable", "doing", doing, "error", err)
		return no(goimap.ResponseCodeUnavailable, "Temporarily unavailable, try again")
	case errors.Is(err, client.ErrAmended):
		return no(goimap.ResponseCodeUnavailable, "The message's entry has just been corrected, try again")
	case errors.Is(err, client.ErrLost):
		s.log.Error("IMAP command found a message lost", "doing", doing, "error", err)
		return no(goimap.ResponseCodeCorruption, "The content of some of the messages is lost; the server's log says more")
	case errors.Is(err, client.ErrNoRight):
		return noRight()
	case errors.Is(err, client.ErrNoMailbox):
		return no(goimap.ResponseCodeNonExistent, "No such mailbox")
	case errors.Is(err, client.ErrExists):
		return no(goimap.ResponseCodeAlreadyExists, "Mailbox already exists")
	case errors.Is(err, client.ErrHasChildren):
		return no(goimap.ResponseCodeHasChildren, "Mailbox has children and holds no messages itself")
	case errors.Is(err, client.ErrInvalidName):
		return no(goimap.ResponseCodeCannot, "Not possible with a mailbox of this name")
	case errors.As(err, &over):
		return no(codeOverQuota, "The account has no room for it")
	case errors.Is(err, client.ErrLimit):
		return no(goimap.ResponseCodeLimit, "Over a limit")
	case errors.Is(err, client.ErrNoMessage):
		return expungeIssued()
	}
	s.srv.stats.internalFailures.Add(1)
	s.log.Error("IMAP command failed", "doing", doing, "error", err)
	return no(goimap.ResponseCodeServerBug, "Failed; the server's log says why")
}

// answerInto is answer for commands with a destination mailbox, which the client may create and try again
// (RFC 9051 section 6.4.7).
func (s *session) answerInto(doing string, err error) error {
	if errors.Is(err, client.ErrNoMailbox) {
		return no(goimap.ResponseCodeTryCreate, "No such mailbox")
	}
	return s.answer(doing, err)
}
