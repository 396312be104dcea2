package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrMalformed is returned for a SASL response that is none.
var ErrMalformed = errors.New("malformed SASL response")

// ParsePlain takes apart the base64 form of a SASL PLAIN response (RFC 4616 section 2):
// [authzid] NUL authcid NUL passwd. Acting for somebody else is not offered: an authzid must be
// empty or equal the authcid.
func ParsePlain(response string) (user, password string, err error) {
	b, err := base64.StdEncoding.DecodeString(response)
	if err != nil {
		return "", "", ErrMalformed
	}
	parts := bytes.Split(b, []byte{0})
	if len(parts) != 3 || !utf8.Valid(b) {
		return "", "", ErrMalformed
	}
	authzid, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if user == "" || (authzid != "" && !strings.EqualFold(authzid, user)) {
		return "", "", ErrMalformed
	}
	return user, password, nil
}
