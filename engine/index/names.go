package index

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	inbox     = "INBOX"
	inboxID   = 1
	separator = "/"
)

// defaultMailboxes are made with an account, with their special uses (RFC 6154 section 2).
func defaultMailboxes() []Mailbox {
	return []Mailbox{
		{Name: inbox},
		{Name: "Drafts", SpecialUse: `\Drafts`},
		{Name: "Sent", SpecialUse: `\Sent`},
		{Name: "Junk", SpecialUse: `\Junk`},
		{Name: "Trash", SpecialUse: `\Trash`},
		{Name: "Archive", SpecialUse: `\Archive`},
	}
}

// checkSpecialUse knows the attributes of RFC 6154 and \Important of RFC 8457.
func checkSpecialUse(use string) error {
	switch use {
	case "", `\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Important`, `\Junk`, `\Sent`, `\Trash`:
		return nil
	}
	return fmt.Errorf("%w: special use %q", ErrInvalidName, use)
}

// canonicalName checks a mailbox name and gives the one spelling under which it is stored. INBOX matches in any
// case (RFC 9051 section 5.1), also as the first component of a longer name. Everything else is text: "..", "~", "%" mean nothing here.
func canonicalName(name string) (string, error) {
	switch {
	case len(name) > MaxNameBytes:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrInvalidName, MaxNameBytes)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: not UTF-8", ErrInvalidName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", fmt.Errorf("%w: control character", ErrInvalidName)
	}
	parts := strings.Split(name, separator)
	if len(parts) > MaxNameDepth {
		return "", fmt.Errorf("%w: deeper than %d levels", ErrInvalidName, MaxNameDepth)
	}
	for _, part := range parts {
		if part == "" {
			return "", fmt.Errorf("%w: empty component", ErrInvalidName)
		}
	}
	if strings.EqualFold(parts[0], inbox) {
		name = inbox + name[len(parts[0]):]
	}
	return name, nil
}

// parents of "a/b/c" are "a" and "a/b".
func parents(name string) []string {
	var out []string
	for i := range len(name) {
		if name[i:i+1] == separator {
			out = append(out, name[:i])
		}
	}
	return out
}
