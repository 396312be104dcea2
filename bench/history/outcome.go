package history

import (
	"errors"

	goimap "github.com/emersion/go-imap/v2"
	gosmtp "github.com/emersion/go-smtp"
)

// SMTPOutcome says what the error of an SMTP or LMTP conversation proves about one recipient. sent means that the client has begun to send the
// message's end.
//
//   - Before that nothing may be stored, whatever happens: a connection that breaks is as good as RSET (RFC 5321 section 4.1.1.10).
//   - A 5xx to the message says that it was not taken (section 4.2.1). LMTP gives one for each recipient (RFC 2033 section 4.2).
//   - A 4xx says the same by the letter. But a server that keeps mail on several machines says it also when it could not
//     learn in time what became of a commit, and the sender, who tries again, is told to bear doubles (section 6.1). So it proves nothing.
func SMTPOutcome(err error, sent bool) Outcome {
	var answer *gosmtp.SMTPError
	switch {
	case err == nil:
		return OK
	case !sent:
		return Refused
	case errors.As(err, &answer) && answer.Code/100 == 5:
		return Refused
	}
	return Unknown
}

// IMAPOutcome says what the error of an IMAP command proves. BAD, and NO with a reason that lies in the request, mean that it was not done.
// NO with [UNAVAILABLE] (RFC 5530), with [EXPUNGEISSUED] (the other messages may have been changed) or without a code leaves it open.
func IMAPOutcome(err error) Outcome {
	if err == nil {
		return OK
	}
	var answer *goimap.Error
	if !errors.As(err, &answer) {
		return Unknown
	}
	if answer.Type == goimap.StatusResponseTypeBad {
		return Refused
	}
	switch answer.Code {
	case goimap.ResponseCodeTryCreate, goimap.ResponseCodeNonExistent, goimap.ResponseCodeTooBig, goimap.ResponseCodeOverQuota,
		goimap.ResponseCodeCannot, goimap.ResponseCodeNoPerm, goimap.ResponseCodeLimit, goimap.ResponseCodeAuthenticationFailed,
		goimap.ResponseCodeAuthorizationFailed, goimap.ResponseCodeClientBug:
		return Refused
	}
	return Unknown
}
