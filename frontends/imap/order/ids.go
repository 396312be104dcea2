package order

import "strings"

// ids calls fn with each message id in a field's value, as it compares: without its brackets, quotes and white space
// (RFC 5256 section 3). What is no id, between them, is passed over. It ends when fn returns false.
func ids(value string, fn func(id []byte) bool) {
	var buf []byte
	for {
		_, after, ok := strings.Cut(value, "<")
		if !ok {
			return
		}
		id, rest, ok := oneID(buf[:0], after)
		if ok && !fn(id) {
			return
		}
		buf, value = id, rest
	}
}

// oneID takes an id up to its ">". Where another "<" comes first, that begins the next.
func oneID(buf []byte, s string) (id []byte, rest string, ok bool) {
	quoted, at := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
			continue
		case c == '\\' && quoted && i+1 < len(s):
			i++
			buf = append(buf, s[i])
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			continue
		case c == '<' && !quoted:
			return buf, s[i:], false
		case c == '>' && !quoted:
			return buf, s[i+1:], at
		case c == '@' && !quoted:
			at = true
		}
		buf = append(buf, s[i])
	}
	return buf, "", false
}
