package imap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"strings"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/order"
)

// column is something that messages are searched or sorted by, and which never changes.
type column struct {
	name   string
	want   client.Want                                           // what its values are made of
	append func(r *recall, dst []byte, e *entry) ([]byte, error) // makes the value of a message that was loaded with that
}

// sentColumn is when a message says it was sent, or its internal date if that cannot be read (RFC 5256 section 2.2).
func sentColumn() column {
	return column{"sent", index.WantSummary | index.WantFlags, func(_ *recall, dst []byte, e *entry) ([]byte, error) {
		return binary.BigEndian.AppendUint64(dst, uint64(cmp.Or(e.sentDate(), e.date))), nil
	}}
}

// numberOf is what a value of sentColumn, arrivalColumn or sizeColumn begins with.
func numberOf(value []byte) int64 { return int64(binary.BigEndian.Uint64(value)) }

// arrivalColumn is a message's internal date, with its zone.
func arrivalColumn() column {
	return column{"arrival", index.WantFlags, func(_ *recall, dst []byte, e *entry) ([]byte, error) {
		return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(dst, uint64(e.date)), uint16(e.zone)), nil
	}}
}

// arrivalDay is the day of that in its own zone.
func arrivalDay(value []byte) int64 {
	zone := int16(binary.BigEndian.Uint16(value[8:]))
	return floorDay(numberOf(value) + int64(zone)*60)
}

// sizeColumn is how many bytes a message has.
func sizeColumn() column {
	return column{"size", index.WantFlags, func(_ *recall, dst []byte, e *entry) ([]byte, error) {
		return binary.BigEndian.AppendUint64(dst, e.size), nil
	}}
}

// noDay is the day of a message that does not say when it was sent, which is neither before nor after another.
const noDay = math.MinInt32

// dayColumn is the day that a message says it was sent on, in its own zone.
func dayColumn() column {
	return column{"day", index.WantSummary, func(r *recall, dst []byte, e *entry) ([]byte, error) {
		v, err := r.s.envelope(e)
		if err != nil {
			return dst, err
		}
		day := int64(noDay)
		if sent := dateOf(v.Date, e.sentDate()); !sent.IsZero() {
			_, offset := sent.Zone()
			day = min(max(floorDay(sent.Unix()+int64(offset)), noDay+1), math.MaxInt32)
		}
		return binary.BigEndian.AppendUint32(dst, uint32(day)), nil
	}}
}

func dayOf(value []byte) int64 { return int64(int32(binary.BigEndian.Uint32(value))) }

// valueEnd is behind each value in what headerColumn makes. No text in UTF-8 has such a byte.
const valueEnd = 0xff

// headerColumn is what is searched of the header fields of a name: their values, decoded, and the addresses in them in the form that people search for, which
// comments in the message may break up. All regardless of case and of how much white space (foldField).
func headerColumn(field string) column {
	field = strings.ToUpper(field)
	return column{"header " + field, index.WantSummary, func(r *recall, dst []byte, e *entry) ([]byte, error) {
		fields, err := r.s.fields(r.ctx, e, []string{field})
		if err != nil {
			return dst, err
		}
		for _, value := range fieldValues(fields) {
			dst = append(append(dst, foldField(message.DecodeHeader(value))...), valueEnd)
		}
		list, err := r.s.addresses(e, field)
		for _, a := range list {
			dst = append(append(dst, fold(a.Mailbox+"@"+a.Host)...), valueEnd)
		}
		return dst, err
	}}
}

// hasText looks for a text, which is folded as the value is. An empty one asks for the field to be there.
func hasText(value, text []byte) bool {
	if len(text) == 0 {
		return len(value) > 0
	}
	return bytes.Contains(value, text)
}

// textColumn is one of the texts that are sorted by.
func textColumn(kind command.SortKind) column {
	return column{"sort " + decimal(uint32(kind)), index.WantSummary, func(r *recall, dst []byte, e *entry) ([]byte, error) {
		v, err := r.s.envelope(e)
		if err != nil {
			return dst, err
		}
		return order.AppendCollated(dst, sortText(kind, v)), nil
	}}
}

// topicColumn is what a message's subject says of its thread.
func topicColumn() column {
	return column{"topic", index.WantSummary, func(r *recall, dst []byte, e *entry) ([]byte, error) {
		v, err := r.s.envelope(e)
		if err != nil {
			return dst, err
		}
		return r.s.srv.memory.hasher.AppendTopic(dst, message.DecodeHeader(v.Subject)), nil
	}}
}

// linksColumn is what its ids say of that.
func linksColumn() column {
	return column{"links", index.WantSummary, func(r *recall, dst []byte, e *entry) ([]byte, error) {
		v, err := r.s.envelope(e)
		if err != nil {
			return dst, err
		}
		m := order.Mail{MessageID: v.MessageID, InReplyTo: v.InReplyTo}
		fields, err := r.s.fields(r.ctx, e, []string{"References"})
		if e.lost = errors.Is(err, client.ErrLost); err != nil && !e.lost {
			return dst, err
		}
		if values := fieldValues(fields); len(values) > 0 {
			m.References = values[0]
		}
		return r.s.srv.memory.hasher.AppendLinks(dst, &m), nil
	}}
}
