package index

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// keywordTable numbers the keywords of a mailbox in the order it first saw them. It only grows, so a stored
// number never changes its meaning. Tables are not changed in place: extend gives a new one.
type keywordTable struct {
	names  []string
	number map[string]uint8 // by foldASCII
}

// foldASCII is for comparing: keywords match regardless of ASCII case (RFC 9051 section 2.3.2).
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// checkKeyword wants an IMAP flag-keyword: an atom (RFC 9051 section 9).
func checkKeyword(s string) error {
	if len(s) > MaxKeywordBytes {
		return &LimitError{What: "bytes in a keyword", Limit: MaxKeywordBytes}
	}
	if s == "" {
		return fmt.Errorf("%w: empty keyword", ErrInvalidName)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return fmt.Errorf("%w: keyword %q", ErrInvalidName, s)
		}
	}
	return nil
}

// extend returns a table that also has list, or t itself if it has them all.
func (t *keywordTable) extend(list []string) (*keywordTable, error) {
	out := t
	for _, name := range list {
		if err := checkKeyword(name); err != nil {
			return nil, err
		}
		folded := foldASCII(name)
		if _, ok := out.number[folded]; ok {
			continue
		}
		if len(out.names) == MaxKeywords {
			return nil, &LimitError{What: "keywords in a mailbox", Limit: MaxKeywords}
		}
		if out == t {
			out = newKeywordTable(t.names)
		}
		out.add(name, folded)
	}
	return out, nil
}

func newKeywordTable(names []string) *keywordTable {
	t := &keywordTable{number: make(map[string]uint8, len(names)+1)}
	for _, name := range names {
		t.add(name, foldASCII(name))
	}
	return t
}

func (t *keywordTable) add(name, folded string) {
	t.number[folded] = uint8(len(t.names))
	t.names = append(t.names, name)
}

// numbers gives the known ones of list, ascending and without repetition.
func (t *keywordTable) numbers(list []string) []byte {
	if len(list) == 0 {
		return nil
	}
	out := make([]byte, 0, len(list))
	for _, name := range list {
		if n, ok := t.number[foldASCII(name)]; ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// flags gives a row's flags their names.
func (t *keywordTable) flags(row *hotRow) (Flags, error) {
	f := Flags{System: row.system}
	if len(row.keywords) == 0 {
		return f, nil
	}
	f.Keywords = make([]string, 0, len(row.keywords))
	for _, n := range row.keywords {
		if int(n) >= len(t.names) {
			return Flags{}, errRange
		}
		f.Keywords = append(f.Keywords, t.names[n])
	}
	return f, nil
}

func (t *keywordTable) encode() []byte {
	b := binary.AppendUvarint([]byte{valueVersion}, uint64(len(t.names)))
	for _, name := range t.names {
		b = appendText(b, name)
	}
	return b
}

func decodeKeywords(b []byte) (*keywordTable, error) {
	p := parse(b)
	n := p.uvarint(MaxKeywords)
	t := newKeywordTable(nil)
	for range n {
		name := p.text(MaxKeywordBytes)
		folded := foldASCII(name)
		if _, repeated := t.number[folded]; repeated && p.err == nil {
			p.err = errRange
		}
		t.add(name, folded)
	}
	return t, p.end()
}

// union and without work on ascending keyword numbers.
func union(a, b []byte) []byte {
	out := append(append(make([]byte, 0, len(a)+len(b)), a...), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

func without(a, b []byte) []byte {
	out := make([]byte, 0, len(a))
	for _, n := range a {
		if _, found := slices.BinarySearch(b, n); !found {
			out = append(out, n)
		}
	}
	return out
}
