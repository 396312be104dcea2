package imap

import (
	"slices"
	"strings"
	"time"

	"hongyan/engine/message"
	"hongyan/frontends/imap/wire"
)

// envelopeOut writes an envelope (RFC 9051 section 7.5.2). Values go as they are in the message: encoded words stay, and 8-bit
// octets are sent as literals, but for UTF-8 to a client that takes it in quotes.
func envelopeOut(out *wire.Encoder, e *message.Envelope) {
	out.Raw("(")
	fieldOut(out, e, e.Date, message.BlankDate).SP()
	fieldOut(out, e, e.Subject, message.BlankSubject)
	sender, replyTo := e.Sender, e.ReplyTo
	if len(sender) == 0 {
		sender = e.From
	}
	if len(replyTo) == 0 {
		replyTo = e.From
	}
	for _, list := range [][]message.Address{e.From, sender, replyTo, e.To, e.Cc, e.Bcc} {
		out.SP()
		addressesOut(out, list)
	}
	fieldOut(out.SP(), e, e.InReplyTo, message.BlankInReplyTo).SP()
	fieldOut(out, e, e.MessageID, message.BlankMessageID).Raw(")")
}

// fieldOut writes a text of an envelope: NIL where the message does not have the field.
func fieldOut(out *wire.Encoder, e *message.Envelope, value string, blank uint8) *wire.Encoder {
	if value == "" && e.Blank&blank != 0 {
		return out.String("")
	}
	return out.NString(value)
}

func addressesOut(out *wire.Encoder, list []message.Address) {
	if len(list) == 0 {
		out.Raw("NIL")
		return
	}
	out.Raw("(")
	for i := range list {
		a := &list[i]
		out.Raw("(").NString(a.Name).SP().NString(a.Route).SP().NString(a.Mailbox).SP().NString(a.Host).Raw(")")
	}
	out.Raw(")")
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

// structureOut writes a body structure (RFC 9051 section 7.5.2), for BODYSTRUCTURE with what is optional. Its shape is one that
// IMAP can express, which a message.Part guarantees.
func structureOut(out *wire.Encoder, p *message.Part, extended bool) {
	out.Raw("(")
	if p.Multipart() {
		for _, c := range p.Children {
			structureOut(out, c, extended)
		}
		out.SP().String(p.Subtype)
		if extended {
			out.SP()
			paramsOut(out, wholeParams(p.Params))
			dispositionOut(out, p)
		}
		out.Raw(")")
		return
	}
	encoding := p.Encoding
	if encoding == "" {
		encoding = "7bit"
	}
	out.String(p.Type).SP().String(p.Subtype).SP()
	paramsOut(out, contentParams(p))
	out.SP().NString(p.ID).SP().NString(p.Description).SP().String(encoding).SP().Num(p.BodyEnd - p.BodyStart)
	switch {
	case p.Message() && len(p.Children) == 1 && p.Envelope != nil:
		out.SP()
		envelopeOut(out, p.Envelope)
		out.SP()
		structureOut(out, p.Children[0], extended)
		out.SP().Num(p.Lines)
	case p.Type == "text":
		out.SP().Num(p.Lines)
	}
	if extended {
		out.SP().NString(p.MD5)
		dispositionOut(out, p)
	}
	out.Raw(")")
}

// contentParams is a part's parameters; text without a charset is told to be in US-ASCII (RFC 2045 section 5.2), as clients are used to.
func contentParams(p *message.Part) message.Params {
	list := wholeParams(p.Params)
	if p.Type != "text" || slices.ContainsFunc(list, func(q message.Param) bool { return q.Name == "charset" }) {
		return list
	}
	return append(slices.Clip(list), message.Param{Name: "charset", Value: "us-ascii"})
}

// paramsOut writes parameters.
func paramsOut(out *wire.Encoder, params message.Params) {
	if len(params) == 0 {
		out.Raw("NIL")
		return
	}
	out.Raw("(")
	for i, p := range params {
		if i > 0 {
			out.SP()
		}
		out.String(p.Name).SP().String(p.Value)
	}
	out.Raw(")")
}

// dispositionOut writes what comes last in every part: disposition, languages and location.
func dispositionOut(out *wire.Encoder, p *message.Part) {
	if p.Disposition == "" {
		out.Raw(" NIL ")
	} else {
		out.Raw(" (").String(p.Disposition).SP()
		paramsOut(out, wholeParams(p.DispositionParams))
		out.Raw(") ")
	}
	if len(p.Language) == 0 {
		out.Raw("NIL")
	} else {
		out.Raw("(")
		for i, l := range p.Language {
			if i > 0 {
				out.SP()
			}
			out.String(l)
		}
		out.Raw(")")
	}
	out.SP().NString(p.Location)
}
