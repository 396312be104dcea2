package message

import (
	"bytes"
	"strings"
)

// What is kept of one value.
const (
	maxText   = 2 << 10 // bytes of a subject, a description, …
	maxToken  = 127     // bytes of a type, subtype, disposition, encoding (RFC 6838 section 4.2)
	maxName   = 256     // bytes of a field name
	maxLangs  = 16      // entries of Content-Language
	maxRawRef = 8 << 10 // bytes of In-Reply-To
)

// field is the header field being read: its bytes as far as maxField, if anybody wants them.
type field struct {
	name   []byte // lower case; empty between fields and inside a line that is no field
	raw    []byte
	length int  // bytes of the whole field, as far as maxField+1
	wanted bool // raw is being kept
}

// fieldName returns the length of the name that a header line starts with and where its value starts, or 0, 0 when
// the line is no field. RFC 5322 section 3.6.8; white space before the colon is section 4.5's.
func fieldName(line []byte) (name, value int) {
	for i, c := range line[:min(len(line), maxName)] {
		switch {
		case c == ':':
			if name == 0 {
				name = i
			}
			if name == 0 {
				return 0, 0
			}
			return name, i + 1
		case c == ' ' || c == '\t':
			if i == 0 {
				return 0, 0
			}
			if name == 0 {
				name = i
			}
		case c <= ' ' || c >= 0x7f || name > 0:
			return 0, 0
		}
	}
	return 0, 0
}

// startsHeader says whether a header can start with a line: a field, or the line with which mbox files start.
func startsHeader(line []byte) bool {
	if n, _ := fieldName(line); n > 0 {
		return true
	}
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

// fieldLine adds a line to the current field, or ends that and starts the next.
func (s *Scanner) fieldLine(line []byte) {
	if c := line[0]; c != ' ' && c != '\t' {
		s.endField()
		n, _ := fieldName(line)
		if n == 0 {
			s.headers.skipLine(len(s.stack) == 1)
			return
		}
		s.field.name = appendLower(s.field.name, line[:n])
		s.field.wanted = s.wants(string(s.field.name))
	} else if len(s.field.name) == 0 {
		s.headers.skipLine(len(s.stack) == 1)
		return
	}
	s.field.length = min(s.field.length+int(min(s.held, maxField+1)), maxField+1)
	if room := maxField - len(s.field.raw); s.field.wanted && room > 0 {
		s.field.raw = append(s.field.raw, line[:min(len(line), room)]...)
	}
}

// wants says whether a field of the innermost entity is kept while it is read.
func (s *Scanner) wants(name string) bool {
	if strings.HasPrefix(name, "content-") {
		return true
	}
	if len(s.stack) == 1 && listed(name) {
		return true
	}
	return s.stack[len(s.stack)-1].env != nil && inEnvelope(name)
}

// inEnvelope says whether a field is part of the ENVELOPE.
func inEnvelope(name string) bool {
	switch name {
	case "date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to", "message-id":
		return true
	}
	return false
}

// endField takes from the field that ends here what the summary keeps of it.
func (s *Scanner) endField() {
	f := &s.field
	if len(f.name) == 0 {
		return
	}
	if len(s.stack) == 1 {
		s.headers.add(f)
	}
	if f.wanted {
		_, value := fieldName(f.raw)
		s.takeField(string(f.name), f.raw[value:])
	}
	f.name, f.raw, f.length, f.wanted = f.name[:0], f.raw[:0], 0, false
}

// takeField enters a field in the innermost entity. Of fields that may occur once the first counts; several address
// lists of recipients are one.
func (s *Scanner) takeField(name string, raw []byte) {
	f := &s.stack[len(s.stack)-1]
	if env := f.env; env != nil {
		switch name {
		case "date":
			s.takeText(env, BlankDate, &env.Date, raw, maxToken)
		case "subject":
			s.takeText(env, BlankSubject, &env.Subject, raw, maxText)
		case "from":
			s.takeAddresses(&env.From, raw, false)
		case "sender":
			s.takeAddresses(&env.Sender, raw, false)
		case "reply-to":
			s.takeAddresses(&env.ReplyTo, raw, false)
		case "to":
			s.takeAddresses(&env.To, raw, true)
		case "cc":
			s.takeAddresses(&env.Cc, raw, true)
		case "bcc":
			s.takeAddresses(&env.Bcc, raw, true)
		case "in-reply-to":
			s.takeText(env, BlankInReplyTo, &env.InReplyTo, raw, maxRawRef)
		case "message-id":
			s.takeText(env, BlankMessageID, &env.MessageID, raw, maxText)
		}
	}
	if rest, ok := strings.CutPrefix(name, "content-"); ok {
		s.takeContent(f, rest, raw)
	}
}

// takeContent enters a Content- field (RFC 2045, 2183, 3282, 2557, 1864).
func (s *Scanner) takeContent(f *frame, name string, raw []byte) {
	p := f.part
	switch name {
	case "type":
		s.takeType(f, raw)
	case "disposition":
		if p.Disposition == "" {
			p.Disposition, p.DispositionParams = parseValue(s.keep(raw, maxContent))
			p.Disposition = token(p.Disposition)
		}
	case "transfer-encoding":
		if p.Encoding == "" {
			if e := token(text(raw)); e != "7bit" {
				p.Encoding = e
			}
		}
	case "id":
		s.take(&p.ID, raw, maxText)
	case "description":
		s.take(&p.Description, raw, maxText)
	case "location":
		s.take(&p.Location, raw, maxText)
	case "md5":
		s.take(&p.MD5, raw, maxToken)
	case "language":
		if p.Language == nil {
			p.Language = parseLanguages(s.keep(raw, maxText))
		}
	}
}

// takeType enters a Content-Type. One that makes no sense means text/plain (RFC 2045 section 5.2); a subtype that is
// missing is the plain one of its type.
func (s *Scanner) takeType(f *frame, raw []byte) {
	if f.typed {
		return
	}
	f.typed = true
	p := f.part
	v := cut(text(raw), maxContent)
	kept := s.kept+len(v) <= maxKept
	var full string
	full, p.Params = parseValue(v)
	kind, sub, _ := strings.Cut(full, "/")
	p.Type, p.Subtype = token(kind), token(sub)
	switch {
	case p.Type == "":
		p.Type, p.Subtype = "text", "plain"
	case p.Subtype != "":
	case p.Type == "text":
		p.Subtype = "plain"
	case p.Type == "multipart":
		p.Subtype = "mixed"
	case p.Type == "message":
		p.Subtype = "rfc822"
	default:
		p.Type, p.Subtype = "text", "plain"
	}
	if p.Multipart() {
		b, ok := p.Params.Get("boundary")
		if !ok {
			b, _ = p.Params.Decoded("boundary")
		}
		if len(b) <= maxBoundary {
			f.boundary = strings.TrimRight(b, " \t")
		}
	}
	if !kept {
		p.Type, p.Subtype, p.Params = strings.Clone(p.Type), strings.Clone(p.Subtype), nil
		f.boundary = strings.Clone(f.boundary)
		return
	}
	s.kept += len(v)
}

// take sets a value that is not yet set.
func (s *Scanner) take(to *string, raw []byte, limit int) {
	if *to == "" {
		*to = s.keep(raw, limit)
	}
}

// takeText sets a text of an envelope that is not yet set, and notes if it is there and empty.
func (s *Scanner) takeText(env *Envelope, blank uint8, to *string, raw []byte, limit int) {
	s.take(to, raw, limit)
	if env.Blank &^= blank; *to == "" {
		env.Blank |= blank
	}
}

// takeAddresses sets an address list that is not yet set, or adds to it.
func (s *Scanner) takeAddresses(to *[]Address, raw []byte, more bool) {
	if len(*to) == 0 || more {
		*to = parseAddresses(*to, s.keep(raw, maxField))
	}
}

// keep returns a value's text, cut to limit, or nothing once maxKept bytes are kept.
func (s *Scanner) keep(raw []byte, limit int) string {
	v := cut(text(raw), limit)
	if s.kept+len(v) > maxKept {
		return ""
	}
	s.kept += len(v)
	return v
}

// text is a field's value unfolded (RFC 5322 section 2.2.3), trimmed, and without NUL bytes, which IMAP cannot send.
func text(raw []byte) string {
	raw = bytes.Trim(raw, " \t\r\n\x00")
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 && bytes.IndexByte(raw, 0) < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for _, c := range raw {
		if c != '\r' && c != '\n' && c != 0 {
			out = append(out, c)
		}
	}
	return string(out)
}

// cut shortens v to at most limit bytes, not inside a UTF-8 character.
func cut(v string, limit int) string {
	if len(v) <= limit {
		return v
	}
	for back := 0; back < 3 && limit > 0 && v[limit]&0xc0 == 0x80; back++ {
		limit--
	}
	return strings.Clone(v[:limit])
}

// token is the first token of v in lower case (RFC 2045 section 5.1, leniently): up to white space, a separator or
// anything that is not ASCII.
func token(v string) string {
	v = strings.Trim(v, "\" \t")
	for i := 0; i < len(v); i++ {
		if c := v[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?=", c) >= 0 {
			v = v[:i]
			break
		}
	}
	return strings.ToLower(v[:min(len(v), maxToken)])
}

// appendLower sets dst to b in ASCII lower case.
func appendLower(dst, b []byte) []byte {
	dst = dst[:0]
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
