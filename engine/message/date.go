package message

import (
	"strconv"
	"strings"
	"time"
)

// dateParser collects what the words of a date say; fields are -1 until known.
type dateParser struct {
	year, month, day  int
	hour, minute, sec int
	zone              int // seconds east of UTC
	pm, am            bool
}

// SentDate is the Date field in unix seconds, 0 when it is unknown: for the message itself, Summary.SentDate has it.
func (e *Envelope) SentDate() int64 { return parseDate(e.Date) }

// parseDate reads a Date field (RFC 5322 sections 3.3 and 4.3) in unix seconds, and what else is found there: dates as
// of asctime, of RFC 850 and of ISO 8601, in any order of words. It is 0 when there is no day, month and year.
func parseDate(v string) int64 {
	d := dateParser{year: -1, month: -1, day: -1}
	v = strings.ReplaceAll(strings.TrimSpace(v), ",", " ")
	for v != "" {
		if v[0] == '(' { // a comment, most often the zone's name
			end := strings.IndexByte(v, ')')
			if end < 0 {
				break
			}
			v = strings.TrimLeft(v[end+1:], " \t")
			continue
		}
		end := strings.IndexAny(v, " \t(")
		if end < 0 {
			end = len(v)
		}
		d.word(v[:end])
		v = strings.TrimLeft(v[end:], " \t")
	}
	return d.unix()
}

// word takes one word of a date.
func (d *dateParser) word(w string) {
	if w == "" {
		return
	}
	switch c := w[0]; {
	case c == '+' || c == '-':
		d.offset(w)
	case c >= '0' && c <= '9':
		if strings.IndexByte(w, ':') > 0 && !strings.ContainsAny(w, "/T") && strings.IndexByte(w, '-') != 4 {
			d.clock(w)
		} else {
			d.number(w)
		}
	default:
		d.letters(strings.ToLower(w))
	}
}

// number takes a day or a year, or a whole date such as 2-Jan-2006, 2006-01-02, 2006/1/2 or 2006-01-02T15:04:05Z.
func (d *dateParser) number(w string) {
	if date, clock, ok := strings.Cut(w, "T"); ok && len(date) == 10 && clock != "" && clock[0] >= '0' && clock[0] <= '9' {
		d.clock(clock)
		w = date
	}
	if !strings.ContainsAny(w, "-/") {
		d.dayOrYear(w)
		return
	}
	parts := strings.FieldsFunc(w, func(r rune) bool { return r == '-' || r == '/' })
	if len(parts) == 3 && len(parts[0]) == 4 {
		d.year, d.month, d.day = atoi(parts[0]), atoi(parts[1]), atoi(parts[2])
		return
	}
	for _, part := range parts {
		d.dayOrYear(part)
	}
}

// dayOrYear takes a number, or the month's name between two of them.
func (d *dateParser) dayOrYear(w string) {
	n := atoi(strings.TrimRight(w, "."))
	switch {
	case n < 0:
		d.letters(strings.ToLower(w))
	case d.day < 0 && len(w) <= 2:
		d.day = n
	case d.year < 0 && len(w) <= 4:
		d.year = n
		if len(w) <= 3 && n < 50 { // RFC 5322 section 4.3
			d.year += 2000
		} else if len(w) <= 3 {
			d.year += 1900
		}
	}
}

// clock takes hh:mm, hh:mm:ss or hh:mm:ss.ff, and a zone that is stuck to it.
func (d *dateParser) clock(w string) {
	end := 0
	for end < len(w) && (w[end] >= '0' && w[end] <= '9' || w[end] == ':' || w[end] == '.') {
		end++
	}
	zone := w[end:]
	parts := strings.Split(w[:end], ":")
	d.hour, d.minute, d.sec = 0, 0, 0
	for i, to := range []*int{&d.hour, &d.minute, &d.sec} {
		if i < len(parts) {
			whole, _, _ := strings.Cut(parts[i], ".")
			*to = max(atoi(whole), 0)
		}
	}
	if zone != "" && !strings.ContainsRune(zone, ':') || strings.HasPrefix(zone, "+") || strings.HasPrefix(zone, "-") {
		d.word(zone)
	}
}

// offset takes a zone as digits: +0800, +08:00, -5.
func (d *dateParser) offset(w string) {
	digits := strings.ReplaceAll(w[1:], ":", "")
	n := atoi(digits)
	if n < 0 || len(digits) > 4 {
		return
	}
	if len(digits) <= 2 {
		n *= 100
	}
	if n/100 > 14 || n%100 > 59 {
		return
	}
	d.zone = (n/100)*3600 + (n%100)*60
	if w[0] == '-' {
		d.zone = -d.zone
	}
}

// letters takes the name of a month or zone (RFC 5322 section 4.3); days of the week say nothing new.
func (d *dateParser) letters(w string) {
	switch w {
	case "am":
		d.am = true
		return
	case "pm":
		d.pm = true
		return
	case "est", "cdt":
		d.zone = -5 * 3600
	case "edt":
		d.zone = -4 * 3600
	case "cst", "mdt":
		d.zone = -6 * 3600
	case "mst", "pdt":
		d.zone = -7 * 3600
	case "pst":
		d.zone = -8 * 3600
	case "cet", "met":
		d.zone = 1 * 3600
	case "cest", "mest":
		d.zone = 2 * 3600
	case "jst", "kst":
		d.zone = 9 * 3600
	}
	if i := strings.IndexAny(w, "+-"); i > 0 { // GMT+0800
		d.offset(w[i:])
		return
	}
	if len(w) >= 3 {
		const months = "janfebmaraprmayjunjulaugsepoctnovdec"
		if i := strings.Index(months, w[:3]); i >= 0 && i%3 == 0 && d.month < 0 {
			d.month = i/3 + 1
		}
	}
}

// unix puts the date together.
func (d *dateParser) unix() int64 {
	if d.year < 1900 || d.year > 9999 || d.month < 1 || d.month > 12 || d.day < 1 || d.day > 31 {
		return 0
	}
	if d.hour > 24 || d.minute > 59 || d.sec > 60 {
		d.hour, d.minute, d.sec = 0, 0, 0
	}
	if d.pm && d.hour < 12 {
		d.hour += 12
	} else if d.am && d.hour == 12 {
		d.hour = 0
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.sec, 0, time.UTC)
	return t.Unix() - int64(d.zone)
}

// atoi reads a short decimal number; -1 when it is none.
func atoi(v string) int {
	if len(v) == 0 || len(v) > 9 {
		return -1
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}
