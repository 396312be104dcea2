package directory

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"hongyan/cluster/wire"
)

const maxDNSLabel = 63 // bytes of one label of a domain name (RFC 1035 section 2.3.4)

// ValidDomain accepts names of labels of letters, digits, hyphens and underscores (seen in practice), anything beyond
// ASCII (RFC 6531), and address literals. Mail comes for no other.
func ValidDomain(d string) bool {
	if d == "" || len(d) > maxDomain || !utf8.ValidString(d) {
		return false
	}
	if d[0] == '[' {
		return d[len(d)-1] == ']' && len(d) > 2 && strings.Trim(d[1:len(d)-1], literalBytes) == ""
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > maxDNSLabel || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return true
}

const literalBytes = "0123456789abcdefABCDEFIPvipV.:-gG"

func notInLabel(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		return false
	default:
		return r < 0xa0 // beyond the C1 controls it is somebody's alphabet
	}
}

// notInLocal finds what a new account's local part may not have: what SMTP would have to quote (RFC 5321 section 4.1.2), what cannot be seen, and the slash, behind which IMAP
// clients would look for a folder of "Other Users/<address>".
func notInLocal(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) || strings.ContainsRune(`/()<>[]:;@\,"`, r)
}

// mayBeNew refuses an address that no new account may have. Those that have one keep it, and get new passwords.
func (s *Service) mayBeNew(ctx context.Context, address string) error {
	canonical, err := Canonical(address)
	if err != nil {
		return nil // which the directory says better
	}
	local, _, _ := cutLast(canonical)
	if !strings.ContainsFunc(local, notInLocal) {
		return nil
	}
	switch _, err := s.Lookup(ctx, canonical); {
	case errors.Is(err, ErrNoAccount), errors.Is(err, ErrNotLocal):
		return wire.Errorf(wire.Invalid, `%q: an account's local part has no / ( ) < > [ ] : ; @ \ , " and nothing that cannot be seen`, address)
	default:
		return err
	}
}
