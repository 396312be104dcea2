package wire

import (
	"strings"
	"time"
)

// Date takes a date, with or without quotes, as midnight UTC.
func (d *Decoder) Date() (time.Time, error) {
	quoted := d.Try('"')
	text := d.Take(func(c byte) bool { return IsAtomChar(c) })
	if quoted && !d.Try('"') {
		return time.Time{}, Bad("Bad date")
	}
	t, err := time.Parse("2-Jan-2006", string(text))
	if err != nil {
		return time.Time{}, Bad("Bad date")
	}
	return t, nil
}

// DateTime takes a date-time in quotes.
func (d *Decoder) DateTime() (time.Time, error) {
	if d.Peek() != '"' {
		return time.Time{}, Bad("Expected a date and time")
	}
	s, err := d.String()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimPrefix(string(s), " "))
	if err != nil || t.Year() < 1 {
		return time.Time{}, Bad("Bad date and time")
	}
	return t, nil
}
