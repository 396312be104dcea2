// Package preview makes the line of text by which a list of messages shows what a message is about (RFC 8970).
//
// The text is a stranger's: reading it is bounded, what comes out is one line of valid UTF-8 of at most 200 characters, and nothing fails
// on what the text says. The package keeps no state and touches no files: a crash leaves nothing behind.
package preview

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"hongyan/engine/message"
)

const (
	maxChars  = 200
	maxRead   = 256 << 10 // bytes of a part that are looked at
	maxMarkup = 64 << 10  // bytes of one tag or text of HTML
)

// Part is the part of a message that a preview is made of, nil if there is none: the first text that is not attached, and of several
// forms of the same the plain one.
func Part(p *message.Part) *message.Part {
	switch {
	case p.Disposition == "attachment":
		return nil
	case len(p.Children) == 0:
		if p.Type == "text" && p.BodyStart < p.BodyEnd {
			return p
		}
		return nil
	}
	var first *message.Part
	for _, c := range p.Children {
		found := Part(c)
		if found == nil {
			continue
		}
		if p.Subtype != "alternative" || found.Subtype == "plain" {
			return found
		}
		if first == nil {
			first = found
		}
	}
	return first
}

// Range is the bytes of a part that Text looks at, as offsets in the message.
func Range(p *message.Part) (start, end uint64) {
	return p.BodyStart, min(p.BodyEnd, p.BodyStart+maxRead)
}

// Text makes the preview of a part from its raw bytes. Errors are those of body.
func Text(p *message.Part, body io.Reader) (string, error) {
	body = &failing{r: body}
	text := message.TextReader(p, body)
	l := new(line)
	if p.Subtype == "html" {
		l.html(text)
	} else {
		l.plain(text)
	}
	if err := body.(*failing).err; err != nil {
		return "", fmt.Errorf("preview: %w", err)
	}
	return l.b.String(), nil
}

// failing notes the error that a reader ended in.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// line is a preview in the making.
type line struct {
	b     strings.Builder
	chars int
	gap   bool // white space came since the last character
}

// add adds a character, and says whether there is room for more.
func (l *line) add(r rune) bool {
	switch {
	case unicode.IsSpace(r), unicode.IsControl(r):
		l.gap = true
		return true
	case r == unicode.ReplacementChar, unicode.Is(unicode.Cf, r) && r != '\u200d', r == '\u034f': // what senders pad previews with
		return true
	}
	if l.gap && l.chars > 0 {
		if l.chars++; l.chars >= maxChars {
			return false
		}
		l.b.WriteByte(' ')
	}
	l.gap = false
	l.b.WriteRune(r)
	l.chars++
	return l.chars < maxChars
}

func (l *line) plain(text io.Reader) {
	r := bufio.NewReader(text)
	for {
		c, _, err := r.ReadRune()
		if err != nil || !l.add(c) {
			return
		}
	}
}

// html takes the text of HTML without what a reader does not see.
func (l *line) html(text io.Reader) {
	z := html.NewTokenizer(text)
	z.SetMaxBuf(maxMarkup)
	hidden := "" // the element that is being passed over
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.TextToken:
			if hidden == "" && !l.all(z.Text()) {
				return
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			if hidden == "" && unseen(string(name)) {
				hidden = string(name)
			}
			l.gap = l.gap || !inline(string(name))
		case html.EndTagToken:
			name, _ := z.TagName()
			if string(name) == hidden {
				hidden = ""
			}
			l.gap = l.gap || !inline(string(name))
		case html.SelfClosingTagToken:
			l.gap = true
		}
	}
}

func (l *line) all(text []byte) bool {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if text = text[n:]; !l.add(r) {
			return false
		}
	}
	return true
}

func unseen(element string) bool {
	switch element {
	case "head", "style", "script", "title", "noscript", "template":
		return true
	}
	return false
}

// inline says whether an element may begin or end within a word.
func inline(element string) bool {
	switch element {
	case "a", "abbr", "b", "em", "font", "i", "mark", "s", "small", "span", "strong", "sub", "sup", "u", "wbr":
		return true
	}
	return false
}
