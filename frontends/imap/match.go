package imap

import (
	"bytes"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/engine/message"
)

const daySeconds = 24 * 60 * 60

// matches says whether a message matches all of a query's keys, the cheap ones first: only those that are left
// when all others hold cost reading the message.
func (q *query) matches(c *goimap.SearchCriteria, e *entry) (bool, error) {
	if !q.inSets(c, e) || !matchDates(c, e) {
		return false, nil
	}
	for _, h := range c.Header {
		if ok, err := q.matchHeader(h, e); !ok || err != nil {
			return false, err
		}
	}
	for i := range c.Not {
		if ok, err := q.matches(&c.Not[i], e); ok || err != nil {
			return false, err
		}
	}
	for i := range c.Or {
		ok, err := q.matches(&c.Or[i][0], e)
		if err == nil && !ok {
			ok, err = q.matches(&c.Or[i][1], e)
		}
		if !ok || err != nil {
			return false, err
		}
	}
	for _, text := range c.Body {
		if ok, err := q.matchText(e, text, false); !ok || err != nil {
			return false, err
		}
	}
	for _, text := range c.Text {
		if ok, err := q.matchText(e, text, true); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// inSets checks numbers and flags. The sets of flags are there: bySets went over the whole query before.
func (q *query) inSets(c *goimap.SearchCriteria, e *entry) bool {
	for _, set := range c.SeqNum {
		if !q.seqs(set).Contains(e.uid) {
			return false
		}
	}
	for _, set := range c.UID {
		if !q.uids(set).Contains(e.uid) {
			return false
		}
	}
	for _, f := range c.Flag {
		if !q.hasFlag(f, e) {
			return false
		}
	}
	for _, f := range c.NotFlag {
		if q.hasFlag(f, e) {
			return false
		}
	}
	return true
}

func (q *query) hasFlag(f goimap.Flag, e *entry) bool {
	if recent(f) {
		return false
	}
	if bit := systemBit(f); bit != 0 {
		return q.flagged[bit].Contains(e.uid)
	}
	return hasKeyword(e.flags.Keywords, string(f))
}

// matchDates checks sizes and dates. Dates are compared as days, each in its own zone (RFC 9051 section 6.4.4).
func matchDates(c *goimap.SearchCriteria, e *entry) bool {
	if c.Larger != 0 && e.size <= uint64(c.Larger) || c.Smaller != 0 && e.size >= uint64(c.Smaller) {
		return false
	}
	day := floorDay(e.date + int64(e.zone)*60)
	if !inDays(c.Since, c.Before, day) {
		return false
	}
	if c.SentSince.IsZero() && c.SentBefore.IsZero() {
		return true
	}
	sent := dateOf(e.sum.Envelope.Date, e.sum.SentDate)
	if sent.IsZero() {
		return false // no date is neither before nor after another
	}
	_, offset := sent.Zone()
	return inDays(c.SentSince, c.SentBefore, floorDay(sent.Unix()+int64(offset)))
}

// inDays says whether a day is in [since, before), each of which may be missing.
func inDays(since, before time.Time, day int64) bool {
	return (since.IsZero() || day >= floorDay(since.Unix())) && (before.IsZero() || day < floorDay(before.Unix()))
}

// floorDay numbers the day of a moment.
func floorDay(unix int64) int64 {
	day := unix / daySeconds
	if unix%daySeconds < 0 {
		day--
	}
	return day
}

// matchHeader checks one header field: decoded, regardless of case. An empty value asks for the field to be there.
func (q *query) matchHeader(h goimap.SearchCriteriaHeaderField, e *entry) (bool, error) {
	fields, ok := e.sum.Fields([]string{h.Key})
	if !ok {
		header, err := q.s.readRange(q.ctx, e, 0, min(e.sum.Structure.BodyStart, maxHeaderRead))
		if err != nil {
			return false, err
		}
		fields = message.FilterHeader(header, []string{h.Key}, false)
	}
	needle := fold(h.Value)
	for _, value := range fieldValues(fields) {
		if needle == "" || strings.Contains(fold(message.DecodeHeader(value)), needle) {
			return true, nil
		}
	}
	return false, nil
}

// fieldValues are the unfolded values of the fields in a header.
func fieldValues(header []byte) []string {
	var out []string
	var value []byte // of the field under way: joined at its end, for it may have very many lines
	inside := false
	end := func() {
		if inside {
			out = append(out, string(value))
		}
	}
	for line := range bytes.Lines(header) {
		text := bytes.TrimRight(line, "\r\n")
		if inside && len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			value = append(value, text...)
			continue
		}
		if _, first, ok := bytes.Cut(text, []byte(":")); ok {
			end()
			value, inside = append(value[:0], bytes.TrimSpace(first)...), true
		}
	}
	end()
	return out
}

// fold makes texts that differ only in case the same.
func fold(s string) string { return strings.ToLower(s) }
