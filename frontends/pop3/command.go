package pop3

import (
	"errors"
	"strconv"
	"strings"
)

var (
	errSyntax = errors.New("bad command")
	errNumber = errors.New("bad message number")
)

// parse takes a command line, without its line end, apart (RFC 1939 section 3): a keyword of three or
// four letters, in upper case in the result, and what follows one space. Of UTF8 (RFC 6856) the last is a digit.
func parse(line string) (verb, arg string, err error) {
	verb, arg, _ = strings.Cut(line, " ")
	if len(verb) < 3 || len(verb) > 4 {
		return "", "", errSyntax
	}
	for i := range len(verb) {
		if b := verb[i] | 0x20; (b < 'a' || b > 'z') && (i < 3 || b != '8') {
			return "", "", errSyntax
		}
	}
	for i := range len(arg) {
		if arg[i] < ' ' || arg[i] == 0x7f {
			return "", "", errSyntax
		}
	}
	return strings.ToUpper(verb), arg, nil
}

// number parses a decimal of at most 32 bits, without sign.
func number(s string) (uint32, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, errNumber
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errNumber
	}
	return uint32(n), nil
}

// numbers parses exactly n decimals.
func numbers(arg string, n int) ([]uint32, error) {
	fields := strings.Fields(arg)
	if len(fields) != n {
		return nil, errNumber
	}
	list := make([]uint32, n)
	for i, f := range fields {
		v, err := number(f)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}
