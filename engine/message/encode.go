package message

import (
	"fmt"

	"hongyan/engine/codec"
)

const (
	fewAddresses = 8 << 10 // bytes of addresses that a summary keeps when there are too many
	shortText    = 256     // bytes of a text that it keeps then
)

// Encode returns the summary's encoding, at most MaxEncoded bytes. If the whole is larger, it is the encoding of a
// lesser summary, which gives up, in this order and only as far as needed: the captured fields, long address lists, the
// structure below the message itself. The summary is left as it is.
func (s *Summary) Encode() ([]byte, error) {
	out, err := codec.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	lesser := *s
	for _, give := range []func(){lesser.dropHeaders, lesser.shortenEnvelope, lesser.flatten} {
		if len(out) <= MaxEncoded {
			break
		}
		give()
		if out, err = codec.Marshal(&lesser); err != nil {
			return nil, fmt.Errorf("lesser summary: %w", err)
		}
	}
	return out, nil
}

// dropHeaders forgets the captured fields.
func (s *Summary) dropHeaders() {
	s.Headers, s.Skipped = nil, nil
	s.HeadersComplete, s.HeadersUnknown = false, true
}

// shortenEnvelope cuts the values of the envelope, whose address lists together keep fewAddresses bytes.
func (s *Summary) shortenEnvelope() {
	s.Degraded = true
	e := &s.Envelope
	e.Subject, e.InReplyTo, e.MessageID = cut(e.Subject, 4*shortText), cut(e.InReplyTo, shortText), cut(e.MessageID, 2*shortText)
	room := fewAddresses
	for _, list := range []*[]Address{&e.From, &e.Sender, &e.ReplyTo, &e.To, &e.Cc, &e.Bcc} {
		for i, a := range *list {
			room -= 8 + len(a.Name) + len(a.Mailbox) + len(a.Host) + len(a.Route)
			if room < 0 {
				*list = (*list)[:i:i]
				break
			}
		}
	}
}

// flatten makes of the message one part: opaque if it was made of parts, without its longer values otherwise.
func (s *Summary) flatten() {
	p := *s.Structure
	p.Params, p.DispositionParams, p.Language = nil, nil, nil
	p.ID, p.Description, p.Location = "", cut(p.Description, shortText), ""
	if p.Multipart() || p.Message() {
		p.Type, p.Subtype, p.Children, p.Envelope = "application", "octet-stream", nil, nil
	}
	s.Structure = &p
}

// Decode reads what Encode wrote, also on a newer node as long as the version is the same. Errors wrap codec.ErrMalformed.
func Decode(b []byte) (*Summary, error) {
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("summary of %d bytes: %w", len(b), codec.ErrMalformed)
	}
	s := new(Summary)
	if err := codec.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	if s.Version != Version {
		return nil, fmt.Errorf("summary of version %d: %w", s.Version, codec.ErrMalformed)
	}
	if s.Structure == nil || s.Structure.HeaderStart != 0 || s.Structure.BodyEnd != s.Size || len(s.Skipped)%2 != 0 {
		return nil, fmt.Errorf("summary without a whole structure: %w", codec.ErrMalformed)
	}
	parts := 0
	if err := s.Structure.check(1, &parts); err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	return s, nil
}

// check says whether a part is as the comment of Part promises, and fills in its size.
func (p *Part) check(depth int, parts *int) error {
	if *parts++; *parts > MaxParts || depth > MaxDepth {
		return fmt.Errorf("structure over its limits: %w", codec.ErrMalformed)
	}
	children := len(p.Children)
	switch {
	case p.HeaderStart > p.BodyStart || p.BodyStart > p.BodyEnd:
		return fmt.Errorf("part with offsets %d, %d, %d: %w", p.HeaderStart, p.BodyStart, p.BodyEnd, codec.ErrMalformed)
	case p.Type == "" || p.Subtype == "":
		return fmt.Errorf("part without a type: %w", codec.ErrMalformed)
	case p.Multipart() && children == 0, p.Message() && (children != 1 || p.Envelope == nil),
		!p.Multipart() && !p.Message() && children > 0:
		return fmt.Errorf("%s/%s with %d children: %w", p.Type, p.Subtype, children, codec.ErrMalformed)
	}
	p.Size = p.BodyEnd - p.BodyStart
	at := p.BodyStart
	for _, c := range p.Children {
		if c == nil || c.HeaderStart < at || c.BodyEnd > p.BodyEnd {
			return fmt.Errorf("part outside of its parent: %w", codec.ErrMalformed)
		}
		if err := c.check(depth+1, parts); err != nil {
			return err
		}
		at = c.BodyEnd
	}
	return nil
}
