package message

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// lookupCharset finds the encoding that a charset's name means; known is false for names that say nothing about bytes
// over 127, or nothing at all. Names are those of the web (WHATWG), which are what programs mean by them, such as GBK
// for gb2312, and a few that only mail knows.
func lookupCharset(name string) (enc encoding.Encoding, known bool) {
	name, _, _ = strings.Cut(name, "*") // the language of RFC 2231 section 5
	name = strings.ToLower(strings.Trim(name, " \t\"'"))
	switch name {
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "iso-646-us", "8bit", "7bit", "binary", "unknown-8bit", "x-unknown", "default", "default_charset":
		return nil, false
	case "utf-8", "utf8":
		return unicode.UTF8, true
	case "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), true
	case "hz-gb-2312", "hz":
		return simplifiedchinese.HZGB2312, true
	case "cp936", "ms936", "windows-936", "x-gb2312", "gb18030-2000", "gb18030-2022", "gb_18030", "gb2312-80", "euc-cn":
		return simplifiedchinese.GB18030, true
	case "cp932", "ms932", "sjis-win":
		name = "shift_jis"
	case "cp949", "ms949", "uhc":
		name = "euc-kr"
	case "cp950", "ms950", "big5-eten":
		name = "big5"
	case "latin-1", "iso8859_1":
		name = "iso-8859-1"
	}
	enc, err := htmlindex.Get(name)
	if err != nil || enc == encoding.Replacement {
		return nil, false
	}
	return enc, true
}

// guessCharset says what bytes without a charset are: UTF-8 if they can be, else GB18030 if they can be, else Western.
// more says that the sample is the start of a longer text, so that its last character may be cut.
func guessCharset(sample []byte, more bool) encoding.Encoding {
	whole := sample
	if more {
		whole = sample[:len(sample)-cutRune(sample)]
	}
	if utf8.Valid(whole) {
		return unicode.UTF8
	}
	out, err := simplifiedchinese.GB18030.NewDecoder().Bytes(sample)
	if more {
		out = bytes.TrimSuffix(out, []byte("\uFFFD"))
	}
	if err == nil && !bytes.Contains(out, []byte("\uFFFD")) {
		return simplifiedchinese.GB18030
	}
	return charmap.Windows1252
}

// cutRune returns the length of the UTF-8 character at the end of b of which a part is missing, or 0.
func cutRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// decodeBytes converts to valid UTF-8.
func decodeBytes(enc encoding.Encoding, raw []byte) string {
	if enc == unicode.UTF8 && utf8.Valid(raw) {
		return string(raw)
	}
	out, err := enc.NewDecoder().Bytes(raw)
	if err != nil {
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return string(out)
}
