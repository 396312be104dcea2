package smtp

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"time"
)

const dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700" // RFC 5322 section 3.3

// trace is what the header fields that we put in front of a message tell.
type trace struct {
	from       string // envelope sender, "" for none
	helo       string
	remote     netip.Addr
	by         string
	protocol   string
	tls        *tls.ConnectionState
	id         string
	recipients []string
	date       time.Time
}

// protocolName is the "with" clause (RFC 3848, RFC 6531 section 4.3). go-smtp does not say whether a
// client said HELO or EHLO; ESMTP is what it was offered.
func protocolName(lmtp, secure, utf8 bool) string {
	name := "ESMTP"
	switch {
	case lmtp && utf8:
		name = "UTF8LMTP"
	case lmtp:
		name = "LMTP"
	case utf8:
		name = "UTF8SMTP"
	}
	if secure {
		name += "S"
	}
	return name
}

// header is Return-Path and Received (RFC 5321 section 4.4). A recipient is named only when there is no other,
// so that nobody learns of a blind copy.
func (t *trace) header() []byte {
	var b strings.Builder
	b.WriteString("Return-Path: ")
	if t.from == "" {
		b.WriteString("<>")
	} else {
		b.WriteString(path(t.from))
	}
	b.WriteString("\r\nReceived: from " + clean(t.helo) + " (" + literal(t.remote) + ")\r\n\tby " + clean(t.by) +
		" with " + t.protocol)
	if t.tls != nil { // RFC 8314 section 4.3
		b.WriteString(" tls " + clean(tls.CipherSuiteName(t.tls.CipherSuite)))
	}
	b.WriteString("\r\n\tid " + t.id)
	if len(t.recipients) == 1 {
		b.WriteString("\r\n\tfor " + path(t.recipients[0]))
	}
	b.WriteString(";\r\n\t" + t.date.Format(dateFormat) + "\r\n")
	return []byte(b.String())
}

// literal is an address in the form of RFC 5321 section 4.1.3.
func literal(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "unknown"
	case a.Is6():
		return "[IPv6:" + a.WithZone("").String() + "]"
	default:
		return "[" + a.String() + "]"
	}
}

// clean makes what a client said of itself fit for a header: no blanks, comments or controls, and not too long.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || isControl(r) || r == '\uFFFD' || strings.ContainsRune(`()<>;\"`, r) {
			return '?'
		}
		return r
	}, s[:min(len(s), maxDomain)])
	if s == "" {
		return "unknown"
	}
	return s
}
