package message

// Section is which bytes of a part are asked for (RFC 3501 section 6.4.5).
type Section uint8

const (
	Body   Section = iota // BODY[] of the whole message, BODY[1.2] of a part
	Header                // BODY[HEADER], BODY[1.2.HEADER]: of a message
	Text                  // BODY[TEXT], BODY[1.2.TEXT]: of a message
	MIME                  // BODY[1.2.MIME]: of a part
)

// Part finds a part by its section numbers; the empty path is the message itself. A message that is no multipart is
// its own part 1, and the parts of a message inside are numbered under its message/rfc822.
func (s *Summary) Part(path []int) (*Part, bool) {
	p := s.Structure
	for depth, n := range path {
		root := depth == 0
		if !root && p.Message() {
			p, root = p.Children[0], true
		}
		switch {
		case n < 1:
			return nil, false
		case p.Multipart() && n <= len(p.Children):
			p = p.Children[n-1]
		case p.Multipart() || !root || n != 1:
			return nil, false
		}
	}
	return p, true
}

// Range gives the bytes of a section as offsets in the message. It is false when there is no such part, and for a Header or
// Text of a part that is no message.
func (s *Summary) Range(path []int, section Section) (start, end uint64, ok bool) {
	p, ok := s.Part(path)
	if !ok {
		return 0, 0, false
	}
	switch {
	case len(path) == 0 && section == Body:
		return 0, s.Size, true
	case section == Body:
		return p.BodyStart, p.BodyEnd, true
	case section == MIME:
		return p.HeaderStart, p.BodyStart, len(path) > 0
	case len(path) > 0 && !p.Message():
		return 0, 0, false
	case len(path) > 0:
		p = p.Children[0]
	}
	if section == Header {
		return p.HeaderStart, p.BodyStart, true
	}
	return p.BodyStart, p.BodyEnd, true
}
