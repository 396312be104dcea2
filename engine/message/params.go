package message

import (
	"net/url"
	"strconv"
	"strings"
)

const (
	maxContent    = 16 << 10 // bytes of a field with parameters that are parsed
	maxTries      = 256      // parameters looked at
	maxParams     = 64       // parameters of one field
	maxParamName  = 128      // bytes of a parameter's name
	maxParamValue = 2 << 10  // bytes of its value
)

// Get returns a parameter's value as it is in the message; name is in lower case.
func (p Params) Get(name string) (string, bool) {
	for i := range p {
		if p[i].Name == name {
			return p[i].Value, true
		}
	}
	return "", false
}

// Decoded returns a parameter's value with the pieces and the encoding of RFC 2231 undone, and with the encoded words
// that many programs write there instead.
func (p Params) Decoded(name string) (string, bool) {
	if v, ok := p.Get(name); ok {
		return DecodeHeader(v), true
	}
	if v, ok := p.Get(name + "*"); ok {
		charset, text := splitExtended(v)
		return toUTF8(charset, text), true
	}
	var raw []byte
	charset := ""
	for i := 0; i < maxParams; i++ {
		key := name + "*" + strconv.Itoa(i)
		v, ok := p.Get(key)
		if !ok {
			if v, ok = p.Get(key + "*"); !ok {
				break
			}
			var piece []byte
			if i == 0 {
				charset, piece = splitExtended(v)
			} else {
				piece = unescape(v)
			}
			raw = append(raw, piece...)
			continue
		}
		raw = append(raw, v...)
	}
	if raw == nil {
		return "", false
	}
	return toUTF8(charset, raw), true
}

// splitExtended splits charset'language'text of RFC 2231 section 4.
func splitExtended(v string) (charset string, text []byte) {
	charset, rest, ok := strings.Cut(v, "'")
	if !ok {
		return "", unescape(v)
	}
	if _, text, ok := strings.Cut(rest, "'"); ok {
		return charset, unescape(text)
	}
	return charset, unescape(rest)
}

// unescape undoes %XX, leaving a broken one as it is.
func unescape(v string) []byte {
	if s, err := url.PathUnescape(v); err == nil {
		return []byte(s)
	}
	return []byte(v)
}

// toUTF8 converts a value in a charset; bytes that make no sense in it become U+FFFD.
func toUTF8(charset string, raw []byte) string {
	enc, known := lookupCharset(charset)
	if !known {
		enc = guessCharset(raw, false)
	}
	return decodeBytes(enc, raw)
}

// parseValue splits a field like `text/plain; charset=x (comment)` into what stands before the parameters and those
// (RFC 2045 section 5.1), taking quotes that never end, values with spaces, and missing semicolons for what was meant.
func parseValue(v string) (first string, params Params) {
	end := strings.IndexByte(v, ';')
	if end < 0 {
		return strings.TrimSpace(v), nil
	}
	first = strings.TrimSpace(v[:end])
	p := paramParser{rest: v[end:]}
	for tries := 0; tries < maxTries && len(params) < maxParams && p.next(); tries++ {
		if _, twice := params.Get(p.name); twice || p.name == "" || len(p.name) > maxParamName {
			continue
		}
		if params == nil {
			params = make(Params, 0, 2)
		}
		params = append(params, Param{Name: p.name, Value: cut(p.value, maxParamValue)})
	}
	return first, params
}

// paramParser walks through the parameters in rest.
type paramParser struct {
	rest        string
	name, value string
}

// next reads a parameter; false at the end. An empty name is a parameter to ignore.
func (p *paramParser) next() bool {
	p.rest = strings.TrimLeft(p.rest, "; \t")
	for strings.HasPrefix(p.rest, "(") {
		end := strings.IndexByte(p.rest, ')')
		if end < 0 {
			return false
		}
		p.rest = strings.TrimLeft(p.rest[end+1:], "; \t")
	}
	if p.rest == "" {
		return false
	}
	p.name, p.value = "", ""
	end := strings.IndexAny(p.rest, "=;")
	if end < 0 {
		p.rest = ""
		return false
	}
	if p.rest[end] == ';' {
		p.rest = p.rest[end:]
		return true
	}
	p.name = strings.ToLower(strings.TrimSpace(p.rest[:end]))
	p.rest = strings.TrimLeft(p.rest[end+1:], " \t")
	if strings.HasPrefix(p.rest, `"`) {
		p.quoted()
	} else {
		p.bare()
	}
	return true
}

// quoted reads a quoted string. Without an end it goes to the next semicolon.
func (p *paramParser) quoted() {
	v, n, ok := unquote(p.rest)
	if !ok {
		v = strings.TrimPrefix(p.rest, `"`)
		n = strings.IndexByte(v, ';') + 1
		if n == 0 {
			n = len(p.rest)
		} else {
			v = v[:n-1]
		}
		v = strings.TrimSpace(v)
	}
	p.value = v
	p.rest = p.rest[n:]
}

// bare reads a value without quotes, up to the semicolon. A comment ends it too, except in a file name, and so does
// white space that is followed by another parameter.
func (p *paramParser) bare() {
	end := strings.IndexByte(p.rest, ';')
	if end < 0 {
		end = len(p.rest)
	}
	v := p.rest[:end]
	if !strings.HasSuffix(p.name, "name") {
		if i := strings.Index(v, " ("); i >= 0 {
			v = v[:i]
		}
		if i := strings.IndexAny(v, " \t"); i >= 0 && strings.IndexByte(v[i:], '=') >= 0 {
			v, end = v[:i], i
		}
	}
	p.rest = p.rest[end:]
	p.value = strings.TrimSpace(v)
}

// unquote reads the quoted string that v starts with: its value and its length with the quotes; false without an end.
func unquote(v string) (value string, n int, ok bool) {
	end := 1
	for end < len(v) && v[end] != '"' && v[end] != '\\' {
		end++
	}
	if end >= len(v) {
		return "", 0, false
	}
	if v[end] == '"' {
		return v[1:end], end + 1, true
	}
	var b strings.Builder
	for i := 1; i < len(v); i++ {
		switch {
		case v[i] == '"':
			return b.String(), i + 1, true
		case v[i] == '\\' && i+1 < len(v):
			i++
		}
		b.WriteByte(v[i])
	}
	return "", 0, false
}

// parseLanguages splits a Content-Language (RFC 3282).
func parseLanguages(v string) []string {
	var list []string
	for len(list) < maxLangs && v != "" {
		var tag string
		tag, v, _ = strings.Cut(v, ",")
		if i := strings.IndexByte(tag, '('); i >= 0 {
			tag = tag[:i]
		}
		if tag = strings.TrimSpace(tag); tag != "" {
			list = append(list, cut(tag, maxToken))
		}
	}
	return list
}
