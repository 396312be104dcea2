package smtp

import (
	"errors"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
)

func reply(code int, enhanced gosmtp.EnhancedCode, text string) *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// What the server says when it says no. go-smtp takes replies only as bare *SMTPError, never wrapped.
var (
	errNestedMail    = reply(503, gosmtp.EnhancedCode{5, 5, 1}, "a mail transaction is already open, say RSET first")
	errNoTransaction = reply(503, gosmtp.EnhancedCode{5, 5, 1}, "no mail transaction is open")
	errBusy          = reply(451, gosmtp.EnhancedCode{4, 3, 2}, "too many mail transactions at once, try later")
	errStrikes       = reply(421, gosmtp.EnhancedCode{4, 7, 0}, "too many errors or transactions without a message")
	errNoUser        = reply(550, gosmtp.EnhancedCode{5, 1, 1}, "no such user here")
	errRelay         = reply(550, gosmtp.EnhancedCode{5, 7, 1}, "relaying denied")
	errFull          = reply(452, gosmtp.EnhancedCode{4, 2, 2}, "mailbox is full")
	errFullForGood   = reply(552, gosmtp.EnhancedCode{5, 2, 2}, "mailbox is full")
	errLater         = reply(451, gosmtp.EnhancedCode{4, 3, 0}, "temporarily unavailable, try later")
	errBadSender     = reply(501, gosmtp.EnhancedCode{5, 1, 7}, "bad sender address")
	errBadRecipient  = reply(501, gosmtp.EnhancedCode{5, 1, 3}, "bad recipient address")
	errNeedsUTF8     = reply(553, gosmtp.EnhancedCode{5, 6, 7}, "address needs SMTPUTF8")
	errTooBig        = reply(552, gosmtp.EnhancedCode{5, 3, 4}, "message is too big")
	errLoop          = reply(554, gosmtp.EnhancedCode{5, 4, 6}, "message has passed too many hops")
	errSlow          = reply(451, gosmtp.EnhancedCode{4, 4, 2}, "message took too long to arrive")
	errCut           = reply(451, gosmtp.EnhancedCode{4, 4, 2}, "message was cut off")
	errBroken        = reply(421, gosmtp.EnhancedCode{4, 3, 0}, "a message was broken off between its chunks; connect again for more")
	errStops         = reply(421, gosmtp.EnhancedCode{4, 3, 2}, "this server stops; connect again, others take mail meanwhile")
	errReconnect     = reply(421, gosmtp.EnhancedCode{4, 3, 0}, "that message ended behind a line with CR CR LF; connect again for more")
)

// replyFor says what an error of the cluster means to a sender. What we do not understand is for later:
// mail is never refused for good because of trouble of our own.
func replyFor(err error) *gosmtp.SMTPError {
	var over *client.QuotaError
	switch {
	case errors.As(err, &over) && over.Permanent:
		return errFullForGood
	case errors.As(err, &over):
		return errFull
	case errors.Is(err, client.ErrNoUser):
		return errNoUser
	case errors.Is(err, client.ErrNotLocal):
		return errRelay
	case errors.Is(err, client.ErrInvalidName):
		return errBadRecipient
	case errors.Is(err, client.ErrLimit):
		return errFull
	default:
		return errLater
	}
}

// merge is SMTP's one reply for all recipients: positive if all are, for good if all are refused for good,
// else "later" for all.
func merge(results []*gosmtp.SMTPError) *gosmtp.SMTPError {
	if len(results) == 0 {
		return errNoTransaction
	}
	for _, r := range results[1:] {
		if r.Code/100 != results[0].Code/100 {
			return errLater
		}
	}
	return results[0]
}
