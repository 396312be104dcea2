package read

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hongyan/bench/load"
)

// Bounds of what a server may send.
const (
	maxPOP3Line  = 4096 // of a status or a listing
	maxPOP3Text  = 1 << 30
	maxPOP3Lines = 10_000_000 // of a listing
)

// unreadable is an answer that follows no rule.
type unreadable struct{ what string }

func (u *unreadable) Error() string     { return "answer that follows no rule: " + u.what }
func (u *unreadable) Class() load.Class { return load.Bad }

// readStatus reads one status line and gives the text after +OK. A -ERR is a Refused.
func readStatus(br *bufio.Reader) (string, error) {
	line, err := readLine(br)
	if err != nil {
		return "", err
	}
	status, text, _ := strings.Cut(string(line), " ")
	switch {
	case strings.EqualFold(status, "+OK"):
		return text, nil
	case strings.EqualFold(status, "-ERR"):
		return "", &Refused{Text: text}
	}
	return "", &unreadable{fmt.Sprintf("%.80q", line)}
}

// readLine reads a line of bounded length, without its end. It holds until the next read.
func readLine(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, &unreadable{fmt.Sprintf("a line of more than %d bytes", br.Size())}
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
}

// readLines reads a listing up to the lone dot.
func readLines(br *bufio.Reader, each func([]byte) error) error {
	for range maxPOP3Lines {
		line, err := readLine(br)
		if err != nil {
			return err
		}
		if string(line) == "." {
			return nil
		}
		if err := each(bytes.TrimPrefix(line, []byte("."))); err != nil {
			return err
		}
	}
	return &unreadable{fmt.Sprintf("a listing of more than %d lines", maxPOP3Lines)}
}

// readText reads a message up to the lone dot and takes the stuffed dots away (RFC 1939 section 3).
func readText(br *bufio.Reader) ([]byte, error) {
	var raw []byte
	begin := true // of a line; one may come in pieces
	for {
		piece, err := br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		whole := err == nil
		if begin && len(piece) > 0 && piece[0] == '.' {
			if whole && (string(piece) == ".\r\n" || string(piece) == ".\n") {
				return raw, nil
			}
			piece = piece[1:]
		}
		if len(raw)+len(piece) > maxPOP3Text {
			return nil, &unreadable{fmt.Sprintf("a message of more than %d bytes", maxPOP3Text)}
		}
		raw = append(raw, piece...)
		begin = whole
	}
}

// parseStat takes "messages bytes" apart. More may follow.
func parseStat(text string) (messages int, size int64, err error) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return 0, 0, &unreadable{fmt.Sprintf("%.80q", text)}
	}
	m, errM := strconv.ParseUint(fields[0], 10, 31)
	b, errB := strconv.ParseUint(fields[1], 10, 63)
	if errM != nil || errB != nil {
		return 0, 0, &unreadable{fmt.Sprintf("%.80q", text)}
	}
	return int(m), int64(b), nil
}

// parseUIDL takes "number identifier" apart; numbers are from 1.
func parseUIDL(line []byte) (n int, uid string, err error) {
	number, uid, ok := strings.Cut(string(line), " ")
	v, err := strconv.ParseUint(number, 10, 31)
	if !ok || err != nil || v < 1 || v > maxPOP3Lines || uid == "" {
		return 0, "", &unreadable{fmt.Sprintf("%.80q", line)}
	}
	return int(v), strings.TrimSpace(uid), nil
}
