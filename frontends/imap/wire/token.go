package wire

import (
	"bytes"
	"strconv"
	"strings"

	goimap "github.com/emersion/go-imap/v2"
)

const (
	maxTag   = 128
	maxDepth = 64 // of lists in lists
)

// IsAtomChar says whether c may stand in an atom. 8-bit octets may not.
func IsAtomChar(c byte) bool {
	if c <= ' ' || c >= 0x7f {
		return false
	}
	switch c {
	case '(', ')', '{', '%', '*', '"', '\\', ']':
		return false
	}
	return true
}

// IsAtom says whether s is an atom.
func IsAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if !IsAtomChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// rest is what is left of the line in front of a literal.
func (d *Decoder) rest() []byte {
	if d.lit.at >= 0 {
		return d.line[min(d.pos, d.lit.at):d.lit.at]
	}
	return d.line[d.pos:]
}

// Peek is the next octet, 0 at a literal and at the end.
func (d *Decoder) Peek() byte {
	if r := d.rest(); len(r) > 0 {
		return r[0]
	}
	return 0
}

// Try takes the octet c if it comes next.
func (d *Decoder) Try(c byte) bool {
	if d.Peek() != c || c == 0 {
		return false
	}
	d.pos++
	return true
}

// TryAll takes several octets if they come next.
func (d *Decoder) TryAll(s string) bool {
	if !strings.HasPrefix(string(d.rest()[:min(len(s), len(d.rest()))]), s) {
		return false
	}
	d.pos += len(s)
	return true
}

// Expect takes the octet c.
func (d *Decoder) Expect(c byte) error {
	if !d.Try(c) {
		return Bad("Expected " + strconv.QuoteRune(rune(c)))
	}
	return nil
}

// SP takes a space.
func (d *Decoder) SP() error {
	if !d.Try(' ') {
		return Bad("Expected another argument")
	}
	return nil
}

// End checks that the command is over. A space at the end of a line is forgiven.
func (d *Decoder) End() error {
	if d.lit.at >= 0 || len(bytes.TrimRight(d.rest(), " ")) > 0 {
		return Bad("Unexpected text at the end of the command")
	}
	d.pos = len(d.line)
	return nil
}

// AtEnd says whether the line is over.
func (d *Decoder) AtEnd() bool { return d.lit.at < 0 && d.pos >= len(d.line) }

// Take takes octets as long as they are wanted.
func (d *Decoder) Take(want func(byte) bool) []byte {
	r := d.rest()
	n := 0
	for n < len(r) && want(r[n]) {
		n++
	}
	d.pos += n
	return r[:n]
}

// Tag takes a command's tag, "" if there is none.
func (d *Decoder) Tag() string {
	start := d.pos
	tag := d.Take(func(c byte) bool { return IsAtomChar(c) && c != '+' || c == ']' })
	if len(tag) == 0 || len(tag) > maxTag || !d.AtEnd() && d.Peek() != ' ' {
		d.pos = start
		return ""
	}
	return string(tag)
}

// Atom takes an atom.
func (d *Decoder) Atom() (string, error) {
	if a := d.Take(IsAtomChar); len(a) > 0 {
		return string(a), nil
	}
	return "", Bad("Expected an atom")
}

// Word takes a word of the protocol's own, in upper case: letters, digits, "." and "-" and "=".
func (d *Decoder) Word() (string, error) {
	w := d.Take(func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '='
	})
	if len(w) == 0 {
		return "", Bad("Expected a word")
	}
	return strings.ToUpper(string(w)), nil
}

// TryWord takes a word if it is this one, which is in upper case.
func (d *Decoder) TryWord(word string) bool {
	start := d.pos
	if w, err := d.Word(); err == nil && w == word {
		return true
	}
	d.pos = start
	return false
}

// AString takes an atom or a string. It is valid until another literal is taken.
func (d *Decoder) AString() ([]byte, error) {
	if d.AtLiteral() || d.Peek() == '"' {
		return d.String()
	}
	if a := d.Take(func(c byte) bool { return IsAtomChar(c) || c == ']' }); len(a) > 0 {
		return a, nil
	}
	return nil, Bad("Expected an atom or a string")
}

// String takes a quoted string or a literal. It is valid until another literal is taken.
func (d *Decoder) String() ([]byte, error) {
	if d.AtLiteral() {
		data, err := d.keep()
		if err == nil && bytes.IndexByte(data, 0) >= 0 {
			err = Bad("NUL in a string")
		}
		return data, err
	}
	if !d.Try('"') {
		return nil, Bad("Expected a string")
	}
	r := d.rest()
	escaped := false
	for i := 0; i < len(r); i++ {
		switch r[i] {
		case '"':
			d.pos += i + 1
			if escaped {
				return unescape(r[:i]), nil
			}
			return r[:i], nil
		case '\\':
			if i++; i >= len(r) || r[i] != '"' && r[i] != '\\' {
				return nil, Bad("Bad escape in a quoted string")
			}
			escaped = true
		}
	}
	return nil, Bad("Quoted string without an end")
}

// unescape takes the escapes from the inside of a quoted string.
func unescape(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		out = append(out, s[i])
	}
	return out
}

// NString takes a string or NIL, for which ok is false.
func (d *Decoder) NString() (s []byte, ok bool, err error) {
	if d.TryWord("NIL") {
		return nil, false, nil
	}
	s, err = d.String()
	return s, err == nil, err
}

// Number takes a number of at most 63 bits.
func (d *Decoder) Number() (int64, error) {
	digits := d.Take(func(c byte) bool { return c >= '0' && c <= '9' })
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, Bad("Expected a number")
	}
	return n, nil
}

// List takes a list in parentheses with a space between its items, each of which one takes. It may be empty.
func (d *Decoder) List(one func() error) error {
	if err := d.Expect('('); err != nil {
		return err
	}
	if d.depth++; d.depth > maxDepth {
		return Limit("Nested too deep")
	}
	for first := true; !d.Try(')'); first = false {
		if !first {
			if err := d.SP(); err != nil {
				return err
			}
		}
		if err := one(); err != nil {
			return err
		}
	}
	d.depth--
	return nil
}

// Flag takes a flag or keyword.
func (d *Decoder) Flag() (goimap.Flag, error) {
	slash := ""
	if d.Try('\\') {
		slash = `\`
	}
	a, err := d.Atom()
	if err != nil {
		return "", Bad("Expected a flag")
	}
	return goimap.Flag(slash + a), nil
}

// Flags takes a list of flags in parentheses.
func (d *Decoder) Flags() (flags []goimap.Flag, err error) {
	err = d.List(func() error {
		f, err := d.Flag()
		flags = append(flags, f)
		return err
	})
	return flags, err
}
