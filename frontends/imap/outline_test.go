package imap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
)

// Outlines and whole summaries of random messages are searched and sorted by the same.
func TestOutlinesSearchAsSummariesDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 29))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	texts := []string{"", "Ä", "budget", "BUDGET 2026", "=?utf-8?B?6bi/6Zs=?= =?utf-8?B?gQ==?=", "=?gbk?q?=CE=D2?=", "\xce\xd2", "=?utf-8?q?bud?=get", "\u212Aelvin", "a <a@b.test>, \"C, D\" <c@(x)d.test>",
		"Mon, 2 Mar 2026 08:00:00 +0800", "2 Mar 2026 23:59 -0500", "Sat, 28 Feb 2026 01:00:00 EST", "never"}
	list := []column{dayColumn(), sentColumn(), topicColumn(), linksColumn()}
	for _, field := range []string{"SUBJECT", "From", "to", "Cc", "X-Loop", "Date"} {
		list = append(list, headerColumn(field))
	}
	for kind := range command.SortTo + 1 {
		list = append(list, textColumn(kind))
	}
	r := &recall{s: &session{srv: newServer(Config{}, stub{})}}
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
		if err := r.s.outline(fast, lines); err != nil || fast.lines == nil {
			t.Fatalf("no outline: %v", err)
		}
		for _, c := range list {
			got, err := c.append(r, nil, fast)
			want, errWant := c.append(r, nil, slow)
			if !bytes.Equal(got, want) || err != nil || errWant != nil {
				t.Fatalf("%s of\n%s: %q, %v, want %q, %v", c.name, b.String(), got, err, want, errWant)
			}
		}
		if fast.sum != nil {
			t.Fatal("the whole summary was decoded")
		}
	}
}
