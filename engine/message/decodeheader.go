package message

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

const maxCharsetName = 64

// DecodeHeader turns a header value into valid UTF-8 for searching and showing: RFC 2047 encoded words, wherever they
// stand and however broken, and bytes over 127 that nobody announced. Characters that were cut between two words are joined.
func DecodeHeader(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		v = strings.NewReplacer("\r", "", "\n", "").Replace(v)
	}
	if !strings.Contains(v, "=?") {
		return plainText(v)
	}
	var d headerDecoder
	for v != "" {
		i := strings.Index(v, "=?")
		if i < 0 {
			break
		}
		if !d.openEnd && d.word(v[:i], v[i:]) {
			v = v[i+d.length:]
			continue
		}
		d.text(v[:i+2])
		v = v[i+2:]
	}
	d.text(v)
	d.flush()
	return d.out.String()
}

// headerDecoder joins the text and words of a header value.
type headerDecoder struct {
	out     strings.Builder
	literal []byte // text not yet written; empty while there is raw
	charset string // of raw
	raw     []byte // decoded words not yet converted
	length  int    // of the word that was read last
	openEnd bool   // a word without end was seen: no later one has an end either
}

// word reads the encoded word that v starts with, which before precedes; false when it is none.
func (d *headerDecoder) word(before, v string) bool {
	n := strings.IndexByte(v[2:min(len(v), maxCharsetName)], '?')
	if n <= 0 || len(v) < n+5 || v[n+4] != '?' || strings.ContainsAny(v[2:2+n], " =") {
		return false
	}
	charset, rest := strings.ToLower(v[2:2+n]), v[n+5:]
	decode := fromBase64
	switch v[n+3] {
	case 'b', 'B':
	case 'q', 'Q':
		decode = fromQ
	default:
		return false // before its end is looked for: many of these would be a search of all that follows each
	}
	end := strings.Index(rest, "?=")
	if end < 0 {
		d.openEnd = true
		return false
	}
	raw := decode(rest[:end])
	between := len(d.raw) > 0 && strings.TrimLeft(before, " \t") == ""
	switch {
	case !between:
		d.text(before)
	case d.charset != charset: // white space between two words is none (section 6.2)
		d.endWords()
	}
	d.endText()
	d.charset = charset
	d.raw = append(d.raw, raw...)
	d.length = n + 5 + end + 2
	return true
}

// text adds what is no word.
func (d *headerDecoder) text(v string) {
	if v != "" {
		d.endWords()
		d.literal = append(d.literal, v...)
	}
}

// endText writes the text that came before a word.
func (d *headerDecoder) endText() {
	d.out.WriteString(plainText(string(d.literal)))
	d.literal = d.literal[:0]
}

// endWords converts and writes the words that came before.
func (d *headerDecoder) endWords() {
	if len(d.raw) > 0 {
		d.out.WriteString(toUTF8(d.charset, d.raw))
		d.raw, d.charset = d.raw[:0], ""
	}
}

// flush writes all that is left.
func (d *headerDecoder) flush() {
	d.endWords()
	d.endText()
}

// plainText is text outside of encoded words as valid UTF-8.
func plainText(v string) string {
	if utf8.ValidString(v) {
		return v
	}
	return decodeBytes(guessCharset([]byte(v), false), []byte(v))
}

// fromBase64 decodes whatever of v is base64.
func fromBase64(v string) []byte {
	out, _, err := transform.Bytes(new(base64Decoder), []byte(v))
	if err != nil { // the decoder itself never fails
		return nil
	}
	return out
}

// fromQ decodes the Q encoding of RFC 2047 section 4.2; broken escapes stay.
func fromQ(v string) []byte {
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(v) && unhex(v[i+1]) < 16 && unhex(v[i+2]) < 16:
			out = append(out, unhex(v[i+1])<<4|unhex(v[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

// unhex is the value of a hexadecimal digit, or 16 or more.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
