package message

import (
	"bytes"
	"strings"
)

const (
	maxAddresses   = 2000 // entries of one list
	maxWord        = 512  // bytes of a name, mailbox or host that are kept
	maxEncodedWord = 256  // bytes of an encoded word
)

// addressParser reads an address list (RFC 5322 section 3.4) for what it was meant to be. It walks through v once; buf
// collects the words of the entry at hand, which is a name until an angle bracket, a group's name until a colon, and
// an address if neither comes.
type addressParser struct {
	v    string
	list []Address

	buf     []byte
	start   int    // where its first word is in v
	space   bool   // white space came since the last word
	at      int    // where the last @ outside of quotes is in buf, or -1
	comment string // the last comment of this entry
	group   bool   // inside a group
	angle   bool   // an angle address of this entry was added already

	openQuote, openComment bool // a quote or comment without end was seen: there is no end further on either
}

// parseAddresses adds the addresses of v to list.
func parseAddresses(list []Address, v string) []Address {
	if v == "" {
		return list
	}
	if list == nil {
		list = make([]Address, 0, min(1+strings.Count(v, ","), maxAddresses))
	}
	p := addressParser{v: v, list: list, at: -1}
	for i := 0; i < len(v) && len(p.list) < maxAddresses; {
		i = p.step(i)
	}
	p.endEntry()
	if p.group {
		p.list = append(p.list, Address{})
	}
	if len(p.list) == 0 {
		return nil
	}
	return p.list
}

// step reads one character, quoted string, comment, encoded word or angle address at i; it returns where the next starts.
func (p *addressParser) step(i int) int {
	switch c := p.v[i]; c {
	case ' ', '\t':
		p.space = true
	case ',':
		p.endEntry()
	case ';':
		p.endEntry()
		if p.group {
			p.list = append(p.list, Address{})
			p.group = false
		}
	case ':':
		if p.at >= 0 || p.group || len(p.buf) == 0 {
			p.word(":", i)
			return i + 1
		}
		p.list = append(p.list, Address{Mailbox: p.name()})
		p.group = true
		p.reset()
	case '"':
		return p.quote(i)
	case '(':
		return p.skipComment(i)
	case '<':
		return p.angleAddress(i + 1)
	case '>':
	case '@':
		p.word("@", i)
		p.at = len(p.buf) - 1
	case '[':
		if end := strings.IndexByte(p.v[i:min(len(p.v), i+maxWord)], ']'); end > 0 && p.at >= 0 {
			p.word(p.v[i:i+end+1], i)
			return i + end + 1
		}
		p.word("[", i)
	case '=':
		n := encodedWordLength(p.v[i:])
		p.word(p.v[i:i+max(n, 1)], i)
		return i + max(n, 1)
	default:
		n := strings.IndexAny(p.v[i:min(len(p.v), i+maxWord)], " \t,;:\"(<>@[=")
		if n < 0 {
			n = min(len(p.v)-i, maxWord)
		}
		p.word(p.v[i:i+n], i)
		return i + n
	}
	return i + 1
}

// word adds what was read at i to the entry, with a space if there was any before it.
func (p *addressParser) word(w string, i int) {
	if len(p.buf) == 0 {
		p.start = i
	} else if p.space {
		p.buf = append(p.buf, ' ')
	}
	p.space = false
	p.buf = append(p.buf, w...)
}

// entry returns what was collected: the bytes of v itself if nothing was undone or left out.
func (p *addressParser) entry() string {
	if as := p.v[p.start:]; len(as) >= len(p.buf) && as[:len(p.buf)] == string(p.buf) {
		return as[:len(p.buf)]
	}
	return string(p.buf)
}

// name returns what was collected as a name.
func (p *addressParser) name() string { return cut(strings.TrimSpace(p.entry()), maxWord) }

// reset starts the next entry.
func (p *addressParser) reset() {
	p.buf, p.space, p.at, p.comment, p.angle = p.buf[:0], false, -1, "", false
}

// endEntry adds what was collected as an address. Words after an angle address are junk unless they hold an @.
func (p *addressParser) endEntry() {
	if len(p.buf) > 0 && (p.at >= 0 || !p.angle) {
		if p.at < 0 { // one that stands in quotes as a whole
			p.at = bytes.LastIndexByte(p.buf, '@')
		}
		p.add(p.comment, p.entry(), p.at)
	}
	p.reset()
}

// add splits an address at its last @, which is at position at or missing.
func (p *addressParser) add(name, address string, at int) {
	a := Address{Name: name, Mailbox: address}
	if at >= 0 {
		a.Mailbox, a.Host = address[:at], address[at+1:]
	}
	a.Mailbox = cut(strings.TrimSpace(a.Mailbox), maxWord)
	a.Host = cut(closeDots(strings.TrimSpace(a.Host)), maxWord)
	if a.Mailbox == "" {
		a.Mailbox = MissingMailbox
	}
	if a.Host == "" {
		a.Host = MissingHost
	}
	p.list = append(p.list, a)
}

// closeDots takes out the white space that may stand around the dots of a domain (RFC 5322 section 4.4).
func closeDots(host string) string {
	if !strings.Contains(host, " ") {
		return host
	}
	return strings.ReplaceAll(strings.ReplaceAll(host, " .", "."), ". ", ".")
}

// quote reads a quoted string; a quote without end is skipped.
func (p *addressParser) quote(i int) int {
	if p.openQuote {
		return i + 1
	}
	v, n, ok := unquote(p.v[i:])
	if !ok {
		p.openQuote = true
		return i + 1
	}
	p.word(v, i+1)
	return i + n
}

// skipComment reads a comment, which may hold others, and keeps its text: before there were names, they stood there.
func (p *addressParser) skipComment(i int) int {
	if p.openComment {
		p.word("(", i)
		return i + 1
	}
	depth := 0
	for j := i; j < len(p.v); j++ {
		switch p.v[j] {
		case '\\':
			j++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.comment = cut(strings.TrimSpace(p.v[i+1:j]), maxWord)
				p.nameLast()
				p.space = true
				return j + 1
			}
		}
	}
	p.openComment = true
	p.word("(", i)
	return i + 1
}

// nameLast gives a comment that follows an angle address without a name to that.
func (p *addressParser) nameLast() {
	if p.angle && len(p.buf) == 0 && p.list[len(p.list)-1].Name == "" {
		p.list[len(p.list)-1].Name = p.comment
	}
}

// angleAddress reads an address from after its "<" to its ">" (or to the comma before which it was forgotten), with
// the route that it may have (RFC 5322 section 4.4). What was collected is its name.
func (p *addressParser) angleAddress(i int) int {
	name := p.name()
	if name == "" {
		name = p.comment
	}
	p.reset()
	for i < len(p.v) && (p.v[i] == '<' || p.v[i] == ' ') {
		i++
	}
	route := ""
	if i < len(p.v) && p.v[i] == '@' {
		if end := strings.IndexAny(p.v[i:min(len(p.v), i+maxWord)], ":>"); end >= 0 && p.v[i+end] == ':' {
			route = p.v[i : i+end]
			i += end + 1
		}
	}
loop:
	for i < len(p.v) {
		switch p.v[i] {
		case '>', ',', ';', '<':
			break loop
		case '"':
			i = p.quote(i)
		case '(':
			i = p.skipComment(i)
			p.space, p.comment = false, ""
		case '@':
			p.word("@", i)
			p.at = len(p.buf) - 1
			i++
		default:
			p.word(p.v[i:i+1], i)
			i++
		}
	}
	address, at := p.entry(), p.at
	p.reset()
	if address != "" || name != "" {
		p.add(name, address, at)
		p.list[len(p.list)-1].Route = route
		p.angle = true
	}
	if i < len(p.v) && p.v[i] == '>' {
		i++
	}
	return i
}

// encodedWordLength returns the length of the encoded word that v starts with, or 0. Its text may hold what a phrase
// must not, commas for one (RFC 2047 section 5 rule 3 is often broken).
func encodedWordLength(v string) int {
	v = v[:min(len(v), maxEncodedWord)]
	if !strings.HasPrefix(v, "=?") {
		return 0
	}
	charset := strings.IndexAny(v[2:], "? \t=")
	if charset <= 0 || v[2+charset] != '?' || len(v) < charset+6 || v[charset+4] != '?' {
		return 0
	}
	start := charset + 5
	end := strings.Index(v[start:], "?=")
	if end < 0 || strings.ContainsAny(v[start:start+end], " \t") {
		return 0
	}
	return start + end + 2
}
