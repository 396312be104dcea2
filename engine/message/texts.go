package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxHeaderText is how many bytes of a header are looked through for text.
const MaxHeaderText = 1 << 20

// Texts goes through what a message says, for those who search it and for those who index it: the two must see the same. Each function may
// end the walk.
type Texts struct {
	// Open gives the bytes [from, to) of the message.
	Open func(from, to uint64) (io.ReadCloser, error)
	// Field is given each header field with its name, unfolded and decoded, and the decoded names of files.
	Field func(text string) (done bool, err error)
	// Body is given each readable part's body in UTF-8, without its transfer encoding.
	Body func(text io.Reader) (done bool, err error)
}

// Walk goes through a part and those inside of it. header says whether header fields count, those of parts and of messages inside too (RFC 9051 section
// 6.4.4); names of files always do. done says that one of the functions ended it.
func (t *Texts) Walk(p *Part, header bool) (done bool, err error) {
	if header {
		if done, err := t.header(p); done || err != nil {
			return done, err
		}
	}
	for _, name := range p.FileNames() {
		if done, err := t.Field(name); done || err != nil {
			return done, err
		}
	}
	switch {
	case len(p.Children) > 0:
		for _, c := range p.Children {
			if done, err := t.Walk(c, header); done || err != nil {
				return done, err
			}
		}
		return false, nil
	case !p.Readable() || p.BodyStart >= p.BodyEnd:
		return false, nil
	}
	r, err := t.Open(p.BodyStart, p.BodyEnd)
	if err != nil {
		return false, err
	}
	done, err = t.Body(TextReader(p, r))
	return done, errors.Join(err, r.Close())
}

// Readable says whether a part's body is text for people: a text, or a kind of message that has no parts of its own, such as the report
// that says to whom mail could not be delivered.
func (p *Part) Readable() bool {
	return p.Type == "text" || p.Type == "message" && len(p.Children) == 0
}

// header goes through a part's fields.
func (t *Texts) header(p *Part) (done bool, err error) {
	if p.HeaderStart < p.BodyStart {
		r, err := t.Open(p.HeaderStart, min(p.BodyStart, p.HeaderStart+MaxHeaderText))
		if err != nil {
			return false, err
		}
		raw, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return false, fmt.Errorf("read a header: %w", err)
		}
		return t.fields(raw)
	}
	return false, nil
}

// fields unfolds a header.
func (t *Texts) fields(raw []byte) (done bool, err error) {
	var field []byte
	for line := range bytes.Lines(raw) {
		text := bytes.TrimRight(line, "\r\n")
		if len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			field = append(field, text...)
			continue
		}
		if len(field) > 0 {
			if done, err := t.Field(DecodeHeader(string(field))); done || err != nil {
				return done, err
			}
		}
		field = append(field[:0], text...)
	}
	if len(field) == 0 {
		return false, nil
	}
	return t.Field(DecodeHeader(string(field)))
}

// FileNames are the names that a part gives its file, decoded: Content-Disposition's and Content-Type's.
func (p *Part) FileNames() (names []string) {
	if name, ok := p.DispositionParams.Decoded("filename"); ok {
		names = append(names, name)
	}
	if name, ok := p.Params.Decoded("name"); ok && (len(names) == 0 || names[0] != name) {
		names = append(names, name)
	}
	return names
}
