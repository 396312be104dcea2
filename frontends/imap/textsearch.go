package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"hongyan/engine/message"
)

// searchBuffer is how much text is looked at at once.
const searchBuffer = 32 << 10

// matchText looks for a text in a message's text parts, and with header also in its header and those of the messages
// and parts inside. Texts are compared in UTF-8, regardless of case, without their encodings.
func (q *query) matchText(e *entry, text string, header bool) (bool, error) {
	needle := []byte(fold(text))
	if len(needle) == 0 {
		return true, nil
	}
	return q.matchPart(e, e.sum.Structure, needle, header)
}

// matchPart looks in a part and those inside of it. header says whether its own header counts.
func (q *query) matchPart(e *entry, p *message.Part, needle []byte, header bool) (bool, error) {
	if header && p.HeaderStart < p.BodyStart {
		raw, err := q.s.readRange(q.ctx, e, p.HeaderStart, min(p.BodyStart, p.HeaderStart+maxHeaderRead))
		if err != nil {
			return false, err
		}
		if matchHeaderBlock(raw, needle) {
			return true, nil
		}
	}
	switch {
	case len(p.Children) > 0:
		for _, c := range p.Children {
			// What is inside the message's body, headers of parts too, is text of the body.
			if ok, err := q.matchPart(e, c, needle, true); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case p.Type != "text" || p.BodyStart >= p.BodyEnd:
		return false, nil
	}
	r, err := q.s.openBytes(q.ctx, e, p.BodyStart, p.BodyEnd)
	if err != nil {
		return false, err
	}
	defer r.Close()
	ok, err := containsFolded(message.TextReader(p, r), needle)
	if err != nil {
		return false, fmt.Errorf("search message %d: %w", e.uid, err)
	}
	return ok, nil
}

// matchHeaderBlock looks in a header's fields, decoded and with their names.
func matchHeaderBlock(raw, needle []byte) bool {
	var field []byte
	found := func() bool {
		return len(field) > 0 && bytes.Contains([]byte(fold(message.DecodeHeader(string(field)))), needle)
	}
	for line := range bytes.Lines(raw) {
		text := bytes.TrimRight(line, "\r\n")
		if len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			field = append(field, text...)
			continue
		}
		if found() {
			return true
		}
		field = append(field[:0], text...)
	}
	return found()
}

// containsFolded says whether a stream of UTF-8 contains needle, which is folded, regardless of case. It keeps one
// buffer's worth: the end of each stays in front of the next, cut where a character starts.
func containsFolded(r io.Reader, needle []byte) (bool, error) {
	raw := make([]byte, searchBuffer)
	rest := 0 // bytes of an incomplete character at the start of raw
	var folded []byte
	for {
		n, err := r.Read(raw[rest:])
		n += rest
		whole := n
		if err == nil {
			whole = n - incomplete(raw[:n])
		}
		folded = append(folded, bytes.ToLower(raw[:whole])...)
		if bytes.Contains(folded, needle) {
			return true, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return false, err
		}
		if keep := len(needle) - 1; len(folded) > keep {
			folded = folded[:copy(folded, folded[len(folded)-keep:])]
		}
		rest = copy(raw, raw[whole:n])
	}
}

// incomplete is the length of a character at the end of b of which bytes are missing.
func incomplete(b []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-i:]) {
				return 0
			}
			return i
		}
	}
	return 0
}
