package order

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// AppendCasemap appends a text as i;unicode-casemap compares it, byte by byte (RFC 5051 section 2): each character in title case, then
// decomposed. Hangul syllables have no decomposition in the Unicode data file, which the RFC goes by, and stay.
func AppendCasemap(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 'a' && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		start := len(dst)
		dst = utf8.AppendRune(dst, unicode.ToTitle(r))
		if whole := norm.NFKD.Properties(dst[start:]).Decomposition(); whole != nil {
			dst = append(dst[:start], whole...)
		}
	}
	return dst
}
