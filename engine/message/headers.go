package message

import (
	"bytes"
	"slices"
	"strings"
)

const (
	maxHeaderField = 8 << 10 // bytes of one captured field
	maxSkipped     = 256     // different names of fields that are not captured
)

// listed says whether a field is one that clients ask for when they list messages. The list may change at any time:
// what a summary does not hold, its Skipped names tell.
func listed(name string) bool {
	switch name {
	case "from", "to", "cc", "bcc", "reply-to", "sender", "subject", "date", "message-id", "in-reply-to",
		"references", "mime-version", "content-type", "content-transfer-encoding", "content-disposition",
		"content-language", "content-description", "content-id", "return-path", "delivered-to",
		"authentication-results", "auto-submitted", "precedence", "priority", "x-priority", "importance",
		"x-msmail-priority", "x-mailer", "user-agent", "newsgroups", "keywords", "x-keywords", "x-label",
		"thread-index", "thread-topic", "x-ms-has-attach", "disposition-notification-to",
		"x-uniform-type-identifier", "x-universally-unique-identifier", "x-mailing-list", "x-loop":
		return true
	}
	return strings.HasPrefix(name, "list-") || strings.HasPrefix(name, "x-spam-")
}

// capture collects the header fields of the message.
type capture struct {
	raw     []byte
	ends    []int // of each field in raw
	skipped []uint16
	partial bool // something was not captured
	unknown bool // and not all names of it are in skipped
}

// nameHash is the 16-bit hash by which a skipped name is remembered, FNV-1a folded; name is in lower case. It is part
// of the format.
func nameHash(name string) uint16 {
	v := uint32(2166136261)
	for i := 0; i < len(name); i++ {
		v = (v ^ uint32(name[i])) * 16777619
	}
	return uint16(v>>16) ^ uint16(v)
}

// add captures a field if it is listed and there is room.
func (c *capture) add(f *field) {
	fits := f.length == len(f.raw) && f.length <= maxHeaderField && len(c.raw)+f.length <= MaxHeaders
	if f.wanted && fits && listed(string(f.name)) {
		c.raw = append(c.raw, f.raw...)
		c.ends = append(c.ends, len(c.raw))
		return
	}
	c.partial = true
	h := nameHash(string(f.name))
	i, found := slices.BinarySearch(c.skipped, h)
	switch {
	case found:
	case len(c.skipped) >= maxSkipped:
		c.unknown = true
	default:
		c.skipped = slices.Insert(c.skipped, i, h)
	}
}

// skipLine notes a line of a header that is no field; root says whether it is the message's.
func (c *capture) skipLine(root bool) {
	if root {
		c.partial = true
	}
}

// finish enters what was captured in a summary.
func (c *capture) finish(s *Summary) {
	if len(c.ends) > 0 {
		s.Headers = make([]HeaderField, 0, len(c.ends))
	}
	start := 0
	for _, end := range c.ends {
		s.Headers = append(s.Headers, HeaderField(c.raw[start:end:end]))
		start = end
	}
	s.HeadersComplete = !c.partial
	s.HeadersUnknown = c.unknown
	if len(c.skipped) == 0 || c.unknown {
		return
	}
	s.Skipped = make([]byte, 0, 2*len(c.skipped))
	for _, h := range c.skipped {
		s.Skipped = append(s.Skipped, byte(h>>8), byte(h))
	}
}

// Name is the field's name as it is in the message.
func (f HeaderField) Name() string {
	n, _ := fieldName(f)
	return string(f[:n])
}

// Value is what follows the colon, unfolded and trimmed but not decoded.
func (f HeaderField) Value() string {
	_, v := fieldName(f)
	return text(f[v:])
}

// is says whether the field has a name, which is in lower case.
func (f HeaderField) is(name string) bool {
	n, _ := fieldName(f)
	return n == len(name) && strings.EqualFold(string(f[:n]), name)
}

// Fields answers BODY[HEADER.FIELDS (names)] (RFC 3501 section 6.4.5): all fields with one of the names, as they are
// in the message and in its order, and an empty line. It is false when the summary cannot tell them, which is when
// one of them was not captured (or has the hash of a name that was not); FilterHeader over the header's bytes does it then.
func (s *Summary) Fields(names []string) ([]byte, bool) {
	lower := lowerNames(names)
	if !s.HeadersComplete {
		if s.HeadersUnknown {
			return nil, false
		}
		for _, n := range lower {
			if s.skippedName(n) {
				return nil, false
			}
		}
	}
	var out []byte
	for _, f := range s.Headers {
		if slices.ContainsFunc(lower, f.is) {
			out = appendField(out, f)
		}
	}
	return append(out, '\r', '\n'), true
}

// skippedName says whether fields with a name may have been skipped.
func (s *Summary) skippedName(name string) bool {
	h := nameHash(name)
	for i := 0; i+1 < len(s.Skipped); i += 2 {
		if uint16(s.Skipped[i])<<8|uint16(s.Skipped[i+1]) == h {
			return true
		}
	}
	return false
}

// FilterHeader picks from the bytes of a header the fields with one of names, or with not all others, and adds an
// empty line, which the others get only if the header has one (RFC 9051 section 6.4.5): HEADER.FIELDS and HEADER.FIELDS.NOT for what Fields cannot answer. Lines that are no field are among the others.
func FilterHeader(header []byte, names []string, not bool) []byte {
	lower := lowerNames(names)
	var out []byte
	take, ended := false, !not
	for len(header) > 0 {
		n := bytes.IndexByte(header, '\n') + 1
		if n == 0 {
			n = len(header)
		}
		line := header[:n]
		header = header[n:]
		if isEmpty(line) {
			ended = true
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, _ := fieldName(line)
			take = (name > 0 && slices.ContainsFunc(lower, HeaderField(line).is)) != not
		}
		if take {
			out = append(out, line...)
		}
	}
	if out = endLine(out); ended {
		out = append(out, '\r', '\n')
	}
	return out
}

// appendField adds a field to a header that is being put together.
func appendField(out []byte, f HeaderField) []byte { return endLine(append(out, f...)) }

// endLine adds the line end that the last field of a cut message lacks.
func endLine(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return append(b, '\r', '\n')
	}
	return b
}

// lowerNames returns names in lower case.
func lowerNames(names []string) []string {
	lower := make([]string, len(names))
	for i, n := range names {
		lower[i] = strings.ToLower(n)
	}
	return lower
}
