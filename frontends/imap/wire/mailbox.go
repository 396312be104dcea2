package wire

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	goimap "github.com/emersion/go-imap/v2"
)

// Mailbox takes a mailbox name, and gives it in UTF-8.
func (d *Decoder) Mailbox() (string, error) {
	name, err := d.AString()
	if err != nil {
		return "", err
	}
	return d.name(name)
}

// Pattern takes a mailbox name that may hold the wildcards of LIST. What cannot be a name is taken as it stands: it matches none.
func (d *Decoder) Pattern() (string, error) {
	var text []byte
	if d.AtLiteral() || d.Peek() == '"' {
		var err error
		if text, err = d.String(); err != nil {
			return "", err
		}
	} else if text = d.Take(func(c byte) bool { return IsAtomChar(c) || c == ']' || c == '%' || c == '*' }); len(text) == 0 {
		return "", Bad("Expected a mailbox name or pattern")
	}
	if name, err := d.name(text); err == nil {
		return name, nil
	}
	return string(text), nil
}

func (d *Decoder) name(raw []byte) (string, error) {
	name := string(raw)
	if !d.utf8 {
		var err error
		if name, err = decodeUTF7(name); err != nil {
			return "", No(goimap.ResponseCodeCannot, "Bad mailbox name: "+err.Error())
		}
	}
	if !utf8.ValidString(name) {
		return "", No(goimap.ResponseCodeCannot, "Bad mailbox name: neither UTF-8 nor modified UTF-7")
	}
	return name, nil
}

var (
	errUTF7Open  = errors.New("no end of an encoded piece")
	errUTF7Piece = errors.New("bad modified UTF-7")
)

func utf7Encoding() *base64.Encoding {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"
	return base64.NewEncoding(alphabet).WithPadding(base64.NoPadding).Strict()
}

// decodeUTF7 undoes the modified UTF-7 of RFC 3501 section 5.1.3. Every name has one spelling in it: others are refused, but for
// UTF-8 in clear, which some clients send.
func decodeUTF7(s string) (string, error) {
	if !strings.Contains(s, "&") {
		return s, nil
	}
	var out strings.Builder
	for s != "" {
		plain, rest, found := strings.Cut(s, "&")
		out.WriteString(plain)
		if !found {
			break
		}
		piece, after, closed := strings.Cut(rest, "-")
		if !closed {
			return "", errUTF7Open
		}
		if piece == "" {
			out.WriteByte('&')
		} else if err := decodePiece(&out, piece); err != nil {
			return "", err
		} else if strings.HasPrefix(after, "&") && !strings.HasPrefix(after, "&-") {
			return "", errUTF7Piece // two pieces that should be one
		}
		s = after
	}
	return out.String(), nil
}

// decodePiece writes what stands between "&" and "-".
func decodePiece(out *strings.Builder, piece string) error {
	raw, err := utf7Encoding().DecodeString(piece)
	if err != nil || len(raw)%2 != 0 {
		return errUTF7Piece
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(binary.BigEndian.Uint16(raw[i:]))
		if utf16.IsSurrogate(r) {
			if i += 2; i >= len(raw) {
				return errUTF7Piece
			}
			r = utf16.DecodeRune(r, rune(binary.BigEndian.Uint16(raw[i:])))
			if r == utf8.RuneError {
				return errUTF7Piece
			}
		} else if r >= 0x20 && r <= 0x7e {
			return errUTF7Piece // it stands for itself
		}
		out.WriteRune(r)
	}
	return nil
}

// encodeUTF7 writes a name in modified UTF-7.
func encodeUTF7(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '&' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var out strings.Builder
	var piece []byte
	flush := func() {
		if len(piece) > 0 {
			out.WriteString("&" + utf7Encoding().EncodeToString(piece) + "-")
			piece = piece[:0]
		}
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			out.WriteString("&-")
		case r >= 0x20 && r <= 0x7e:
			flush()
			out.WriteRune(r)
		default:
			for _, u := range utf16.AppendRune(nil, r) {
				piece = binary.BigEndian.AppendUint16(piece, u)
			}
		}
	}
	flush()
	return out.String()
}
