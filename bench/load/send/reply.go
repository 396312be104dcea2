package send

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"

	"hongyan/bench/load"
)

// Bounds of a reply. RFC 5321 section 4.5.3.1.5 allows lines of 512 bytes; servers send longer ones.
const (
	maxReplyLine  = 4096
	maxReplyLines = 100
)

// Error is a server's refusal, or an answer that is none.
type Error struct {
	Command string // that it answers, such as RCPT TO:<u0001@example.test>
	Code    int    // of RFC 5321 section 4.2; 0 when it was not to be read
	Text    string
}

func (e *Error) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("%s: %s", e.Command, e.Text)
	}
	return fmt.Sprintf("%s: %d %s", e.Command, e.Code, e.Text)
}

// Class tells temporary from permanent refusals.
func (e *Error) Class() load.Class {
	switch e.Code / 100 {
	case 4:
		return load.Temporary
	case 5:
		return load.Permanent
	}
	return load.Bad
}

// reply is a server's answer. The lines are kept only where somebody will read them: of refusals, and on request.
type reply struct {
	code  int
	lines []string
}

func (r reply) positive() bool { return r.code/100 == 2 }

// refusal makes an error of a reply that is not positive.
func (r reply) refusal(command string) *Error {
	e := &Error{Command: command, Code: r.code}
	for i, l := range r.lines {
		if i > 0 {
			e.Text += " / "
		}
		e.Text += l
	}
	return e
}

// errUnreadable means that the server and we no longer agree where a reply begins.
var errUnreadable = errors.New("answer that follows no rule")

// readReply reads one reply, of one line or several (RFC 5321 section 4.2.1). The reader's buffer must hold maxReplyLine bytes.
func readReply(br *bufio.Reader, keep bool) (reply, error) {
	var r reply
	for range maxReplyLines {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return r, unreadable("line of more than %d bytes", br.Size())
		}
		if err != nil {
			return r, err
		}
		code, last, text, err := parseLine(line)
		if err != nil {
			return r, err
		}
		if r.code != 0 && r.code != code {
			return r, unreadable("code %d inside a reply of code %d", code, r.code)
		}
		r.code = code
		if keep || code >= 400 {
			r.lines = append(r.lines, string(text))
		}
		if last {
			return r, nil
		}
	}
	return r, unreadable("more than %d lines", maxReplyLines)
}

// parseLine takes a reply's line apart. The text is part of the line.
func parseLine(line []byte) (code int, last bool, text []byte, err error) {
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) < 3 {
		return 0, false, nil, unreadable("%q", line)
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, nil, unreadable("%q", line)
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, nil, unreadable("code %d", code)
	}
	if len(line) == 3 {
		return code, true, nil, nil
	}
	switch line[3] {
	case ' ':
		return code, true, line[4:], nil
	case '-':
		return code, false, line[4:], nil
	}
	return 0, false, nil, unreadable("%q", line)
}

func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUnreadable, &Error{Command: "reply", Text: fmt.Sprintf(format, args...)})
}
