package imap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
)

// Outlines and whole summaries of random messages answer searches and sort the same.
func TestOutlinesSearchAsSummariesDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 29))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	texts := []string{"", "Ä", "budget", "BUDGET 2026", "=?utf-8?B?6bi/6Zs=?= =?utf-8?B?gQ==?=", "=?gbk?q?=CE=D2?=", "\xce\xd2", "=?utf-8?q?bud?=get", "\u212Aelvin", "a <a@b.test>, \"C, D\" <c@(x)d.test>",
		"Mon, 2 Mar 2026 08:00:00 +0800", "2 Mar 2026 23:59 -0500", "Sat, 28 Feb 2026 01:00:00 EST", "never"}
	keys := []*command.Key{
		{Kind: command.KeySentBefore, Date: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}, {Kind: command.KeySentSince, Date: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)},
	}
	for _, field := range []string{"SUBJECT", "From", "to", "Cc", "X-Loop", "Date"} {
		for _, text := range []string{"", "budget", "k", "ä", "鸿雁", "我", "c@d", "@", "=?", "2026"} {
			keys = append(keys, &command.Key{Kind: command.KeyHeader, Field: field, Text: text})
		}
	}
	q, matched := &query{s: &session{}, ctx: t.Context()}, 0
	lines := new(message.Outline)
	for range 1000 {
		var b strings.Builder
		for range rng.IntN(8) {
			fmt.Fprintf(&b, "%s: %s\r\n", pick("Subject", "From", "To", "CC", "Date", "X-Loop"), pick(texts...))
		}
		sc := message.NewScanner()
		if _, err := sc.Write([]byte(b.String() + "\r\n")); err != nil {
			t.Fatal(err)
		}
		enc, err := sc.Finish().Encode()
		if err != nil {
			t.Fatal(err)
		}
		whole, err := message.Decode(enc)
		if err != nil {
			t.Fatal(err)
		}
		slow, fast := &entry{sum: whole}, &entry{raw: enc}
		if err := q.s.outline(fast, lines); err != nil || fast.lines == nil {
			t.Fatalf("no outline: %v", err)
		}
		for _, k := range keys {
			got, err := q.matches(k, fast)
			want, errWant := q.matches(k, slow)
			if got != want || err != nil || errWant != nil {
				t.Fatalf("%v %s %q in\n%s: %v, %v, want %v, %v", k.Kind, k.Field, k.Text, b.String(), got, err, want, errWant)
			}
			if got {
				matched++
			}
		}
		for kind := range command.SortTo + 1 {
			criteria := []command.Criterion{{Kind: kind}}
			got, err := q.s.sortKey(nil, criteria, fast)
			want, errWant := q.s.sortKey(nil, criteria, slow)
			if !bytes.Equal(got, want) || err != nil || errWant != nil {
				t.Fatalf("sorted by %v: %q, %v, want %q, %v", kind, got, err, want, errWant)
			}
		}
		if fast.sum != nil {
			t.Fatal("the whole summary was decoded")
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches", matched)
	}
}
