package imap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/engine/message"
)

// scanned is the summary of a message.
func scanned(t *testing.T, raw string) *message.Summary {
	t.Helper()
	sc := message.NewScanner()
	if _, err := sc.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	return sc.Finish()
}

// What is remembered of header fields is found where a look at one value after the other finds it, and only there.
func TestHeaderColumn(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 29))
	texts := []string{"", "Ä", "budget", "BUDGET 2026", "=?utf-8?B?6bi/6Zs=?= =?utf-8?B?gQ==?=", "=?gbk?q?=CE=D2?=", "\xce\xd2", "\xff\xfe", "=?utf-8?q?bud?=get", "\u212Aelvin",
		"a <a@b.test>, \"C, D\" <c@(x)d.test>", "team: x@y.test;", "never"}
	needles := []string{"", "budget", "k", "ä", "Ä", "鸿雁", "我", "c@d", "@", "=?", "2026", "\xff", "\ufffd", "tbud", "never", "a@b.test>", "y.test"}
	r, found := &recall{s: &session{}}, 0
	for range 2000 {
		var b strings.Builder
		for range rng.IntN(8) {
			fmt.Fprintf(&b, "%s: %s\r\n", []string{"Subject", "From", "TO", "Cc", "X-Loop"}[rng.IntN(5)], texts[rng.IntN(len(texts))])
		}
		sum := scanned(t, b.String()+"\r\n")
		for _, field := range []string{"subject", "From", "TO", "cc", "X-Loop"} {
			fields, _ := sum.Fields([]string{field})
			var values []string
			for _, v := range fieldValues(fields) {
				values = append(values, message.DecodeHeader(v))
			}
			for _, a := range map[string][]message.Address{"From": sum.Envelope.From, "TO": sum.Envelope.To, "cc": sum.Envelope.Cc}[field] {
				values = append(values, a.Mailbox+"@"+a.Host)
			}
			made, err := headerColumn(field).append(r, nil, &entry{sum: sum})
			if err != nil {
				t.Fatal(err)
			}
			for _, needle := range needles {
				want := slices.ContainsFunc(values, func(v string) bool { return strings.Contains(fold(v), fold(needle)) })
				if got := hasText(made, []byte(fold(needle))); got != want {
					t.Fatalf("%q in %s of\n%s: %v, want %v", needle, field, b.String(), got, want)
				}
				if want {
					found++
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d matches", found)
	}
}

// The day that a message says it was sent on is one in its own zone.
func TestDayColumn(t *testing.T) {
	day := func(y int, m time.Month, d int) int64 {
		return floorDay(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix())
	}
	for _, c := range []struct {
		date string
		want int64
	}{
		{"Mon, 2 Mar 2026 08:00:00 +0800", day(2026, 3, 2)}, {"Mon, 2 Mar 2026 00:30:00 +0800", day(2026, 3, 2)}, {"2 Mar 2026 23:59 -0500", day(2026, 3, 2)},
		{"Sat, 28 Feb 2026 23:00:00 EST", day(2026, 2, 28)}, {"1 Jan 1950 00:00 +0000", day(1950, 1, 1)}, {"never", noDay}, {"", noDay},
	} {
		v, err := dayColumn().append(&recall{s: &session{}}, nil, &entry{sum: scanned(t, "Date: "+c.date+"\r\n\r\n")})
		if err != nil || dayOf(v) != c.want {
			t.Errorf("%q: day %d, %v, want %d", c.date, dayOf(v), err, c.want)
		}
	}
}
