package imap

import (
	"testing"
	"time"

	"hongyan/engine/message"
)

func TestSentDates(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"Mon, 15 Jun 2026 23:30:00 +0800", "2026-06-15T23:30:00+08:00"},
		{"Mon, 15 Jun 2026 23:30:00 +0800 (CST)", "2026-06-15T23:30:00+08:00"},
		{"Mon, 15 Jun 2026 23:30:00 GMT", "2026-06-15T23:30:00Z"},
		{"Mon, 15 Jun 2026 23:30:00 EST", "2026-06-15T23:30:00-05:00"},
		{"Mon, 15 Jun 2026 23:30:00 PDT", "2026-06-15T23:30:00-07:00"},
		{"Mon, 15 Jun 2026 23:30:00 XYZ", "2026-06-15T23:30:00Z"},
		{"2026-06-15T23:30:00Z", "2026-06-15T23:30:00Z"},
		{"soon", "0001-01-01T00:00:00Z"},
		{"", "0001-01-01T00:00:00Z"},
	} {
		e := &message.Envelope{Date: c.raw}
		if got := dateOf(e.Date, e.SentDate()).Format(time.RFC3339); got != c.want {
			t.Errorf("%q: got %s, want %s", c.raw, got, c.want)
		}
	}
}
