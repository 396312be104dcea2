package imap

import (
	"strconv"
	"strings"
)

// The little of the protocol's grammar (RFC 9051 section 9) that the guard needs to know.

// commandName finds a line's tag and command.
func commandName(line []byte) (tag, name string, ok bool) {
	fields := strings.SplitN(string(trimEnd(line)), " ", 4)
	tag = fields[0]
	if !isTag(tag) {
		return "", "", false
	}
	if len(fields) < 2 || !isAtom(fields[1]) {
		return tag, "", false
	}
	name = strings.ToUpper(fields[1])
	if name == "UID" {
		if len(fields) < 3 || !isAtom(fields[2]) {
			return tag, "", false
		}
		name += " " + strings.ToUpper(fields[2])
	}
	return tag, name, true
}

const maxTag = 128

func isTag(s string) bool { return len(s) <= maxTag && isAtom(s) && !strings.Contains(s, "+") }

// isAtom says whether s is an atom (RFC 9051 section 9). 8-bit octets are no part of it.
func isAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// announced finds the literal that a line ends in. The library allows a space before the line end, so must we.
func announced(line []byte) *literal {
	s := strings.TrimSuffix(string(trimEnd(line[max(0, len(line)-32):])), " ")
	if !strings.HasSuffix(s, "}") {
		return nil
	}
	open := strings.LastIndexByte(s, '{')
	if open < 0 {
		return nil
	}
	digits, nonSync := strings.CutSuffix(s[open+1:len(s)-1], "+")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		size = 1 << 62 // too large for any limit
	}
	return &literal{size: size, nonSync: nonSync}
}

// syncLiteral takes the plus from the literal that a line ends in.
func syncLiteral(line []byte) []byte {
	if i := strings.LastIndex(string(line), "+}"); i >= 0 {
		return append(line[:i], line[i+1:]...)
	}
	return line
}

// trimEnd takes the line end from a line.
func trimEnd(line []byte) []byte {
	s := line
	if n := len(s); n > 0 && s[n-1] == '\n' {
		s = s[:n-1]
	}
	if n := len(s); n > 0 && s[n-1] == '\r' {
		s = s[:n-1]
	}
	return s
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
