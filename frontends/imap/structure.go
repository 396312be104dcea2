package imap

import (
	"strings"
	"time"
	"unicode/utf8"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/engine/message"
)

// envelopeOut is an envelope as the library takes it. Values go as they are on the wire; the library leaves those
// of plain ASCII alone. Only the date is written anew, as the library allows no other way.
func envelopeOut(e *message.Envelope, sent int64) *goimap.Envelope {
	return &goimap.Envelope{
		Date:    dateOf(e.Date, sent),
		Subject: textOut(e.Subject),
		From:    addressesOut(e.From), Sender: addressesOut(e.Sender), ReplyTo: addressesOut(e.ReplyTo),
		To: addressesOut(e.To), Cc: addressesOut(e.Cc), Bcc: addressesOut(e.Bcc),
		InReplyTo: idsOut(e.InReplyTo),
		MessageID: firstID(e.MessageID),
	}
}

// textOut keeps ASCII, with its encoded words; other bytes become UTF-8, which the library encodes.
func textOut(v string) string {
	for i := 0; i < len(v); i++ {
		if v[i] >= utf8.RuneSelf {
			return message.DecodeHeader(v)
		}
	}
	return v
}

func addressesOut(list []message.Address) []goimap.Address {
	if len(list) == 0 {
		return nil
	}
	out := make([]goimap.Address, len(list))
	for i, a := range list {
		out[i] = goimap.Address{Name: textOut(a.Name), Mailbox: a.Mailbox, Host: a.Host}
	}
	return out
}

// idsOut are the ids of a field as the library wants them, which puts "> <" between them and brackets around: what
// stands in brackets, or all of it when nothing does. Words and comments beside the ids are left out.
func idsOut(v string) []string {
	var out []string
	for rest := v; ; {
		_, after, ok := strings.Cut(rest, "<")
		id, more, closed := strings.Cut(after, ">")
		if !ok || !closed {
			break
		}
		out, rest = append(out, id), more
	}
	if v = strings.Trim(v, "<>"); out == nil && v != "" {
		out = []string{v}
	}
	return out
}

// firstID is the id of a field that has one.
func firstID(v string) string {
	if ids := idsOut(v); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// dateOf is a Date field's value with its own zone if it can be read, else the moment that the scanner made of it.
func dateOf(raw string, unix int64) time.Time {
	if i := strings.IndexByte(raw, '('); i > 0 {
		raw = raw[:i]
	}
	raw = strings.Join(strings.Fields(raw), " ")
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05 -0700",
		"Mon, 2 Jan 2006 15:04 -0700", "2 Jan 2006 15:04 -0700"} {
		if t, err := time.Parse(layout, raw); err == nil {
			return t
		}
	}
	if unix == 0 {
		return time.Time{}
	}
	// Package time knows no zones by name but its own; the scanner does (RFC 5322 section 4.3). The clock tells which it was.
	if clock, err := time.ParseInLocation("Mon, 2 Jan 2006 15:04:05 MST", raw, time.UTC); err == nil {
		return time.Unix(unix, 0).In(time.FixedZone("", int(clock.Unix()-unix)))
	}
	return time.Unix(unix, 0).UTC()
}

// structureOut is a body structure as the library takes it: every part of it has what the library would panic
// without, which a message.Part guarantees.
func structureOut(p *message.Part) goimap.BodyStructure {
	if p.Multipart() {
		m := &goimap.BodyStructureMultiPart{Subtype: p.Subtype, Extended: &goimap.BodyStructureMultiPartExt{
			Params: paramsOut(p.Params), Disposition: dispositionOut(p), Language: p.Language, Location: p.Location,
		}}
		for _, c := range p.Children {
			m.Children = append(m.Children, structureOut(c))
		}
		return m
	}
	s := &goimap.BodyStructureSinglePart{
		Type: p.Type, Subtype: p.Subtype, Params: paramsOut(p.Params), ID: p.ID, Description: textOut(p.Description),
		Encoding: p.Encoding, Size: uint32(min(p.BodyEnd-p.BodyStart, 1<<32-1)),
		Extended: &goimap.BodyStructureSinglePartExt{
			Disposition: dispositionOut(p), Language: p.Language, Location: p.Location,
		},
	}
	switch {
	case p.Message() && len(p.Children) == 1 && p.Envelope != nil:
		s.MessageRFC822 = &goimap.BodyStructureMessageRFC822{
			Envelope: envelopeOut(p.Envelope, p.Envelope.SentDate()), BodyStructure: structureOut(p.Children[0]), NumLines: int64(p.Lines),
		}
	case p.Type == "text":
		s.Text = &goimap.BodyStructureText{NumLines: int64(p.Lines)}
	}
	return s
}

// paramsOut are parameters as a map, as the library wants them; it sorts by name.
func paramsOut(params message.Params) map[string]string {
	if len(params) == 0 {
		return nil
	}
	out := make(map[string]string, len(params))
	for _, p := range params {
		out[p.Name] = textOut(p.Value)
	}
	return out
}

func dispositionOut(p *message.Part) *goimap.BodyStructureDisposition {
	if p.Disposition == "" {
		return nil
	}
	return &goimap.BodyStructureDisposition{Value: p.Disposition, Params: paramsOut(p.DispositionParams)}
}
