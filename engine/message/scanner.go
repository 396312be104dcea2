package message

import "bytes"

// What the scanner holds at most, beside the parts.
const (
	maxField    = 64 << 10  // bytes of a header field that are looked at
	maxLineHead = 512       // bytes of a body line that are kept to find a boundary
	maxBoundary = 250       // bytes of a boundary; RFC 2046 section 5.1.1 allows 70
	maxKept     = 256 << 10 // bytes of all values that end up in the Summary, apart from captured fields
)

var (
	newline   = []byte{'\n'}
	candidate = []byte("\n--")
)

// Scanner reads a message as it is written to it and makes its Summary. The zero value is not usable; see NewScanner.
//
// It works by lines. off is where the current line starts and held how much of it has been consumed; head is its
// beginning, kept only while a line comes in several writes. The entities that are open, the message itself first, are
// on the stack; the last of them owns the current line. Outside of multiparts nothing ends an entity but the end of
// the message, so there lines are only counted.
type Scanner struct {
	off   uint64 // where the current line starts
	lines uint64 // line feeds before off
	eol   uint64 // length of the line end before off
	held  uint64 // bytes of the current line consumed
	last  byte   // the last of them
	head  []byte // the first of them

	stack    []frame
	bounded  int // multiparts on the stack that are not closed
	parts    int // entities made, or promised to a multipart
	inHeader bool
	first    bool // the current header line is the first of its entity
	kept     int  // bytes of values kept

	field   field
	headers capture
	root    *Part
	sum     *Summary
}

// frame is an entity that is open.
type frame struct {
	part     *Part
	env      *Envelope // where envelope fields go; nil for parts that are no message
	lines    uint64    // line feeds before the body
	boundary string    // what separates the children; "" when not a multipart or already closed
	promised bool      // one more child may be made although the limit is reached
	digest   bool      // child of a multipart/digest (RFC 2046 section 5.1.5)
	typed    bool      // has a Content-Type
}

// NewScanner returns a Scanner at the start of a message.
func NewScanner() *Scanner {
	s := &Scanner{sum: &Summary{Version: Version}, stack: make([]frame, 0, 4), parts: 1}
	s.field.raw = make([]byte, 0, 1<<10)
	s.field.name = make([]byte, 0, 64)
	s.headers.raw = make([]byte, 0, 2<<10)
	s.headers.ends = make([]int, 0, 24)
	s.headers.skipped = make([]uint16, 0, 24)
	s.push(0, &s.sum.Envelope)
	s.root = s.stack[0].part
	return s
}

// Write scans the next bytes of the message. It takes all of them and never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		switch {
		case s.inHeader:
			p = p[s.scanHeader(p):]
		case s.bounded > 0:
			p = p[s.scanBody(p):]
		default:
			s.lines += uint64(bytes.Count(p, newline))
			s.off += uint64(len(p))
			p = nil
		}
	}
	return n, nil
}

// Finish ends the message and returns its Summary. The Scanner must not be used again.
func (s *Scanner) Finish() *Summary {
	if s.held > 0 { // a last line without its end
		if s.inHeader {
			s.headerLine(s.head, 0)
		} else {
			s.bodyLine(s.head)
		}
		s.off += s.held
		s.held = 0
	}
	s.endHeaders()
	s.close(0, s.off, 0)
	s.sum.Size = s.off
	s.sum.Structure = s.root
	s.sum.SentDate = parseDate(s.sum.Envelope.Date)
	s.headers.finish(s.sum)
	return s.sum
}

// scanHeader consumes one header line, or all of p if the line goes on.
func (s *Scanner) scanHeader(p []byte) int {
	line, n := s.line(p, maxField)
	if line != nil {
		s.headerLine(line, 1)
		s.endLine()
	}
	return n
}

// scanBody consumes lines up to the next that may be a boundary, or that one.
func (s *Scanner) scanBody(p []byte) int {
	if s.held > 0 || p[0] == '-' {
		line, n := s.line(p, maxLineHead)
		if line != nil {
			s.bodyLine(line)
			s.endLine()
		}
		return n
	}
	i := bytes.Index(p, candidate)
	if i < 0 {
		i = bytes.LastIndexByte(p, '\n')
	}
	if i < 0 {
		_, n := s.line(p, maxLineHead)
		return n
	}
	s.lines += uint64(bytes.Count(p[:i+1], newline))
	s.off += uint64(i + 1)
	s.eol = 1
	if i > 0 && p[i-1] == '\r' {
		s.eol = 2
	}
	return i + 1
}

// line consumes the rest of the current line from p. When the line is complete it returns it, cut to limit if it came
// in pieces; held then counts all of it, until endLine.
func (s *Scanner) line(p []byte, limit int) (line []byte, n int) {
	n = bytes.IndexByte(p, '\n') + 1
	if n > 0 && s.held == 0 {
		s.held, s.last = uint64(n), 0
		if n > 1 {
			s.last = p[n-2]
		}
		return p[:min(n, limit)], n
	}
	whole := n > 0
	if !whole {
		n = len(p)
	}
	if room := limit - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(n, room)]...)
	}
	s.held += uint64(n)
	if !whole {
		s.last = p[n-1]
		return nil, n
	}
	if n > 1 {
		s.last = p[n-2]
	}
	return s.head, n
}

// endLine moves on to the next line.
func (s *Scanner) endLine() {
	s.off += s.held
	s.lines++
	s.eol = 1
	if s.last == '\r' {
		s.eol = 2
	}
	s.held = 0
	s.head = s.head[:0]
}

// headerLine handles a line of the header of the innermost entity; lf is 1 unless the message ends in it.
func (s *Scanner) headerLine(line []byte, lf uint64) {
	if level, closing, ok := s.boundary(line); ok {
		s.endHeaders()
		s.atBoundary(level, closing)
		return
	}
	switch {
	case isEmpty(line):
		s.endHeader(s.off+s.held, s.lines+lf)
	case s.first && !startsHeader(line):
		// No header: the line is the body's first. That can make this entity a message (in a digest), with the
		// line as its first.
		s.endHeader(s.off, s.lines)
		if s.inHeader {
			s.headerLine(line, lf)
		}
	default:
		s.first = false
		s.fieldLine(line)
	}
}

// isEmpty says whether a line is the one that ends a header.
func isEmpty(line []byte) bool {
	return len(line) == 0 || line[0] == '\n' || line[0] == '\r' && (len(line) == 1 || line[1] == '\n')
}

// bodyLine handles a line inside a multipart.
func (s *Scanner) bodyLine(line []byte) {
	if level, closing, ok := s.boundary(line); ok {
		s.atBoundary(level, closing)
	}
}

// boundary says whether a line is a delimiter of an open multipart, the innermost first, and of which (RFC 2046
// section 5.1.1). White space may follow it, nothing else: "--a" must not end at "--ab".
func (s *Scanner) boundary(line []byte) (level int, closing, ok bool) {
	if s.bounded == 0 || len(line) < 3 || line[0] != '-' || line[1] != '-' || s.held > uint64(len(line)) {
		return 0, false, false
	}
	name := bytes.TrimRight(line[2:], " \t\r\n")
	for i := len(s.stack) - 1; i >= 0; i-- {
		b := s.stack[i].boundary
		if b == "" || len(name) < len(b) {
			continue
		}
		if rest := name[len(b):]; string(name[:len(b)]) == b && (len(rest) == 0 || string(rest) == "--") {
			return i, len(rest) > 0, true
		}
	}
	return 0, false, false
}

// atBoundary ends what is inside the multipart at level, whose delimiter is the current line. The line end before a
// delimiter belongs to it, unless it is that of the innermost entity's header.
func (s *Scanner) atBoundary(level int, closing bool) {
	if !closing && !s.stack[level].promised && s.parts >= MaxParts {
		return // the line stays part of the body it is in
	}
	end, cut := s.off-s.eol, uint64(1)
	if end < s.stack[len(s.stack)-1].part.BodyStart {
		end, cut = s.off, 0
	}
	s.close(level+1, end, cut)
	f := &s.stack[level]
	if closing {
		f.boundary = ""
		s.bounded--
		return
	}
	if !f.promised {
		s.parts++
	}
	f.promised = false
	digest := f.part.Subtype == "digest"
	s.push(s.off+s.held, nil)
	s.stack[len(s.stack)-1].digest = digest
}

// push opens an entity inside the innermost one.
func (s *Scanner) push(start uint64, env *Envelope) {
	part := &Part{HeaderStart: start}
	if n := len(s.stack); n > 0 {
		parent := s.stack[n-1].part
		parent.Children = append(parent.Children, part)
	}
	s.stack = append(s.stack, frame{part: part, env: env})
	s.inHeader, s.first = true, true
}

// endHeader ends the header of the innermost entity and decides what its body is.
func (s *Scanner) endHeader(start, lines uint64) {
	s.endField()
	s.inHeader = false
	f := &s.stack[len(s.stack)-1]
	part := f.part
	part.BodyStart, f.lines = start, lines
	if !f.typed && f.digest {
		part.Type, part.Subtype = "message", "rfc822"
	} else if !f.typed {
		part.Type, part.Subtype = "text", "plain"
	}
	room := len(s.stack) < MaxDepth && s.parts < MaxParts
	switch {
	case part.Multipart() && room:
		s.parts++
		f.promised = true
		if f.boundary != "" {
			s.bounded++
		}
	case part.Message() && room && identity(part.Encoding):
		s.parts++
		part.Envelope = new(Envelope)
		s.push(start, part.Envelope)
	case part.Multipart() || part.Message():
		part.Type, part.Subtype = "application", "octet-stream"
		f.boundary = ""
	}
}

// endHeaders ends the header of the innermost entity before the current line, and that of the message which it may
// then turn out to hold.
func (s *Scanner) endHeaders() {
	for s.inHeader {
		s.endHeader(s.off, s.lines)
	}
}

// identity says whether a transfer encoding leaves the bytes as they are, as that of a message must (RFC 2046
// section 5.2.1): an encoded one cannot be seen into, and is shown as opaque.
func identity(encoding string) bool { return encoding != "base64" && encoding != "quoted-printable" }

// close ends all entities from level inwards at the same place; cut is 1 when a line end was taken from them.
func (s *Scanner) close(level int, end, cut uint64) {
	for len(s.stack) > level {
		f := &s.stack[len(s.stack)-1]
		part := f.part
		part.BodyEnd = end
		part.Size = end - part.BodyStart
		if part.Size > 0 {
			part.Lines = s.lines - f.lines - cut
		}
		if f.boundary != "" {
			s.bounded--
		}
		if part.Multipart() && len(part.Children) == 0 {
			part.Children = []*Part{bodyAsText(part)}
		}
		s.stack = s.stack[:len(s.stack)-1]
	}
}

// bodyAsText is the one part that stands in a multipart without any: IMAP cannot express an empty one, and the
// reader may at least see what is there.
func bodyAsText(p *Part) *Part {
	return &Part{
		Type: "text", Subtype: "plain",
		HeaderStart: p.BodyStart, BodyStart: p.BodyStart, BodyEnd: p.BodyEnd, Size: p.Size, Lines: p.Lines,
	}
}
