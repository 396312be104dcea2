package imap

import (
	"bytes"
	"strconv"
	"strings"
)

// searchFix rewrites the lines of a SEARCH before the library parses them: "SMALLER n" becomes "NOT LARGER n-1", which
// means the same. The library joins keys of one level in a structure in which a later date or LARGER key
// erases an earlier SMALLER; a NOT is kept apart. It follows the grammar of RFC 9051 section 6.4.4 just far enough to
// tell a key from another key's argument, also across literals.
type searchFix struct {
	started bool // tag and command are behind us
	args    int  // arguments of the last key still to come
	smaller bool // the argument to come is that of SMALLER
}

// fix returns the line with its keys rewritten. A nil receiver changes nothing.
func (f *searchFix) fix(line []byte) []byte {
	if f == nil {
		return line
	}
	out := make([]byte, 0, len(line)+8)
	pos := 0
	if !f.started {
		pos = keysStart(line)
		f.started = true
		out = append(out, line[:pos]...)
	}
	for pos < len(line) {
		n := tokenLength(line[pos:])
		token := line[pos : pos+n]
		pos += n
		out = f.token(out, token)
	}
	return out
}

// token appends one token as it is to be.
func (f *searchFix) token(out, token []byte) []byte {
	switch token[0] {
	case ' ', '(', ')', '\r', '\n':
		return append(out, token...)
	}
	if f.args > 0 {
		f.args--
		if f.smaller {
			f.smaller = false
			return appendNotLarger(out, token)
		}
		return append(out, token...)
	}
	switch strings.ToUpper(string(token)) {
	case "SMALLER":
		f.args, f.smaller = 1, true
		return append(out, "NOT "...) // the rest comes with the number
	case "BCC", "BEFORE", "BODY", "CC", "CHARSET", "FROM", "KEYWORD", "LARGER", "ON", "SENTBEFORE", "SENTON",
		"SENTSINCE", "SINCE", "SUBJECT", "TEXT", "TO", "UID", "UNKEYWORD", "OLDER", "YOUNGER", "MODSEQ":
		f.args = 1
	case "HEADER":
		f.args = 2
	}
	return append(out, token...)
}

// appendNotLarger completes "NOT " in out, which a space may follow, to what SMALLER n means.
func appendNotLarger(out, n []byte) []byte {
	out = append(bytes.TrimRight(out, " "), ' ')
	v, err := strconv.ParseInt(string(n), 10, 64)
	switch {
	case err != nil || v < 0:
		return append(append(out, "LARGER "...), n...) // the library will refuse it
	case v == 0:
		return append(out, "ALL"...)
	}
	return strconv.AppendInt(append(out, "LARGER "...), v-1, 10)
}

// keysStart is where the arguments of a SEARCH or UID SEARCH line begin.
func keysStart(line []byte) int {
	words := 2
	if _, name, _ := commandName(line); strings.HasPrefix(name, "UID ") {
		words = 3
	}
	pos := 0
	for ; words > 0; words-- {
		i := bytes.IndexByte(line[pos:], ' ')
		if i < 0 {
			return len(line)
		}
		pos += i + 1
	}
	return pos
}

// tokenLength is the length of the token that s starts with: a quoted string, a literal's announcement, a single
// special, or an atom.
func tokenLength(s []byte) int {
	switch s[0] {
	case '"':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(s)
	case ' ', '(', ')', '\r', '\n':
		return 1
	}
	for i, b := range s {
		switch b {
		case ' ', '(', ')', '\r', '\n', '"':
			return i
		}
	}
	return len(s)
}
