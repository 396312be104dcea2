// Package recode takes base64 out of messages before they are compressed, and puts it back byte for byte.
//
// Most of the bytes of mail are attachments in base64. A compressor that sees the characters finds little of what repeats in the file
// behind them, since it comes at four alignments, and cannot get below 6 bits a character and the line ends. So runs of lines
// that are exactly what an encoder writes are replaced by the bytes that they mean. What is not exactly that (other alphabets, other line
// ends, stray characters, padding inside, bits set that padding leaves unused) stays as it is.
//
//	coded   = segment …
//	segment = literal length (u32) | literal bytes [ | n (u32) | width (u8) | n bytes ]
//
// Numbers are little endian. The bracketed part is absent at the end of the last segment only. It stands for the n bytes, n > 0, in
// standard base64 with padding (RFC 4648, section 4), in lines of width × 4 characters, the last one perhaps shorter, each with CR LF behind it.
//
// It keeps no state, and decoding trusts nothing: it gives exactly as many bytes as the caller says, or ErrMalformed.
package recode

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
)

// ErrMalformed is what Decode says of bytes that Encode did not make.
var ErrMalformed = errors.New("recoded bytes are malformed")

// What Encode looks for. Decode takes any width.
const (
	minWidth = 40 / 4 // of a line, in groups of four characters
	maxWidth = 255
	minLines = 4

	literalHead = 4
	runHead     = 5
)

// strict refuses what it would not write itself, but for line ends, which run keeps away from it.
var strict = base64.StdEncoding.Strict()

// Encode appends the coded form of raw to dst, unless raw has nothing to gain by it. What it appends is shorter than raw.
func Encode(dst, raw []byte) (coded []byte, ok bool) {
	coded = dst
	literal := 0 // where the bytes begin that are not coded yet
	for at := 0; at < len(raw); {
		line := bytes.IndexByte(raw[at:], '\n') + 1
		if line == 0 {
			break
		}
		width := (line - 2) / 4
		if !begins(raw[at:], line, width) {
			at += line
			continue
		}
		var taken int
		coded, taken = appendRun(appendLiteral(coded, raw[literal:at]), raw[at:], width)
		at += taken
		literal = at
	}
	if literal == 0 {
		return dst, false
	}
	return appendLiteral(coded, raw[literal:]), true
}

// begins says whether a run of several full lines begins here. It looks at line ends first: that is enough for most text.
func begins(raw []byte, line, width int) bool {
	if line != width*4+2 || width < minWidth || width > maxWidth || len(raw) < minLines*line {
		return false
	}
	for end := line; end <= minLines*line; end += line {
		if raw[end-2] != '\r' || raw[end-1] != '\n' {
			return false
		}
	}
	var scratch [maxWidth * 3]byte
	for at := 0; at < minLines*line; at += line {
		// Line ends inside are passed over by the decoder, which then gives fewer bytes.
		if n, err := strict.Decode(scratch[:], raw[at:at+width*4]); err != nil || n != width*3 {
			return false
		}
	}
	return true
}

func appendLiteral(dst, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// appendRun decodes lines from the beginning of raw as long as they are what an encoder writes, and says how much of raw they are.
func appendRun(dst, raw []byte, width int) (coded []byte, taken int) {
	head := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(width))
	for {
		line := width * 4 // without its CR LF
		if rest := raw[taken:]; len(rest) < line+2 || rest[line+1] != '\n' {
			line = bytes.IndexByte(rest[:min(line+2, len(rest))], '\n') - 1
		}
		if line <= 0 || line%4 != 0 || raw[taken+line] != '\r' {
			break
		}
		dst = slices.Grow(dst, line/4*3)
		n, err := strict.Decode(dst[len(dst):len(dst)+line/4*3], raw[taken:taken+line])
		if err != nil || (n+2)/3*4 != line { // the decoder passes over line ends
			break
		}
		dst = dst[:len(dst)+n]
		taken += line + 2
		if n < width*3 {
			break
		}
	}
	binary.LittleEndian.PutUint32(dst[head:], uint32(len(dst)-head-runHead))
	return dst, taken
}

// Decode appends the n bytes that coded stands for to dst.
func Decode(dst, coded []byte, n int) ([]byte, error) {
	end := len(dst) + n
	for len(coded) > 0 {
		if len(coded) < literalHead {
			return nil, ErrMalformed
		}
		size := int64(binary.LittleEndian.Uint32(coded))
		coded = coded[literalHead:]
		if size > int64(len(coded)) || size > int64(end-len(dst)) {
			return nil, ErrMalformed
		}
		dst, coded = append(dst, coded[:size]...), coded[size:]
		if len(coded) == 0 {
			break
		}
		var err error
		if dst, coded, err = decodeRun(dst, coded, end); err != nil {
			return nil, err
		}
	}
	if len(dst) != end {
		return nil, ErrMalformed
	}
	return dst, nil
}

// decodeRun writes the lines of the run that coded begins with, up to end at most, and returns what follows it.
func decodeRun(dst, coded []byte, end int) (out, rest []byte, err error) {
	if len(coded) < runHead {
		return nil, nil, ErrMalformed
	}
	size, width := int64(binary.LittleEndian.Uint32(coded)), int(coded[4])
	coded = coded[runHead:]
	if size == 0 || width == 0 || size > int64(len(coded)) {
		return nil, nil, ErrMalformed
	}
	lines := (size + int64(width)*3 - 1) / (int64(width) * 3)
	if (size+2)/3*4+lines*2 > int64(end-len(dst)) {
		return nil, nil, ErrMalformed
	}
	for run := coded[:size]; len(run) > 0; {
		line := run[:min(width*3, len(run))]
		dst = append(base64.StdEncoding.AppendEncode(dst, line), '\r', '\n')
		run = run[len(line):]
	}
	return dst, coded[size:], nil
}
