package smtp

import (
	"strings"
	"unicode/utf8"

	"hongyan/cluster/client"
)

// Bounds on the parts of an address. RFC 5321 section 4.5.3.1 asks for 64 octets of local part at least; senders that
// encode recipients into bounce addresses need more.
const (
	maxLocal  = 256
	maxDomain = 255
)

// split takes apart an address as go-smtp's parser leaves it: any quoting of the local part undone.
// It reports whether both parts are ones that we accept, and whether there is more than ASCII in them.
func split(address string) (local, domain string, ascii, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return "", "", false, false
	}
	local, domain = address[:at], address[at+1:]
	if len(local) > maxLocal || !utf8.ValidString(address) || strings.ContainsFunc(local, isControl) || !client.ValidDomain(domain) {
		return "", "", false, false
	}
	ascii = !strings.ContainsFunc(address, func(r rune) bool { return r >= utf8.RuneSelf })
	return local, domain, ascii, true
}

// isControl finds what must not get into a header field or a log, C1 controls included.
func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r < 0xa0) }

// path writes an address as it must stand in a trace header, quoted again where it needs that (RFC 5321 section 4.1.2).
func path(address string) string {
	local, domain, _, ok := split(address)
	if !ok {
		return "<>"
	}
	if isDotString(local) {
		return "<" + local + "@" + domain + ">"
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local)
	return `<"` + quoted + `"@` + domain + ">"
}

func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, notInAtom) {
			return false
		}
	}
	return true
}

// notInAtom is the complement of atext (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
func notInAtom(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	default:
		return r < 0xa0 && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
	}
}
