package imap

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
)

// slowMatch is the definition.
func slowMatch(p, name string) bool {
	if p == "" {
		return name == ""
	}
	switch p[0] {
	case '*', '%':
		for i := 0; ; i++ {
			if slowMatch(p[1:], name[i:]) {
				return true
			}
			if i == len(name) || p[0] == '%' && name[i] == delimiter {
				return false
			}
		}
	}
	return name != "" && name[0] == p[0] && slowMatch(p[1:], name[1:])
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "a/b", true}, {"%", "a", true}, {"%", "a/b", false}, {"%/%", "a/b", true},
		{"a*", "a/b/c", true}, {"a/%", "a/b/c", false}, {"*c", "a/b/c", true}, {"%c", "a/b/c", false},
		{"", "", true}, {"", "a", false}, {"%%%*", "x/y", true}, {"收件%", "收件箱", true},
	} {
		if got := compile(c.pattern, false).match(c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet string, n int) string {
		var b strings.Builder
		for range rng.IntN(n + 1) {
			b.WriteByte(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 50_000 {
		p, name := word("ab/*%", 9), word("ab/", 9)
		if got, want := compile(p, false).match(name), slowMatch(p, name); got != want {
			t.Fatalf("%q %q: %v, want %v", p, name, got, want)
		}
	}
	long := strings.Repeat("a", 130)
	if !compile(long+"%", false).match(long+"b") || compile(long+"%", false).match(long+"/") {
		t.Error("patterns over 64 bytes")
	}
}

func TestPatternTime(t *testing.T) {
	p := compile(strings.Repeat("%*a", 300), false)
	name := strings.Repeat("a/", 500) + "b"
	start := time.Now()
	for range 1000 {
		p.match(name)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1000 hostile matches took %v", took)
	}
}

// existing are folders that there are.
func existing(names ...string) (list []*folder) {
	for i, name := range names {
		list = append(list, &folder{Mailbox: client.Mailbox{ID: uint32(i + 1), Name: name}, exists: true})
	}
	return list
}

func TestTree(t *testing.T) {
	got := ""
	for _, f := range tree(existing("a/b/c", "INBOX", "a/b", "Z"), []string{"a/b/c", "gone/x"}) {
		got += f.Name
		for _, mark := range []struct {
			on   bool
			text string
		}{{f.exists, "e"}, {f.subscribed, "s"}, {f.children, "c"}, {f.subChild, "u"}} {
			if mark.on {
				got += "," + mark.text
			}
		}
		got += " "
	}
	want := "INBOX,e Z,e a,c,u a/b,e,c,u a/b/c,e,s gone,u gone/x,s "
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMatcherFoldsInbox(t *testing.T) {
	m, err := newMatcher("", []string{"inb%"})
	if err != nil {
		t.Fatal(err)
	}
	if !m.match("INBOX") || m.match("INBETWEEN") {
		t.Error("INBOX alone is regardless of case")
	}
	if m, err = newMatcher("inbox/", []string{"%"}); err != nil || !m.match("INBOX/x") {
		t.Error("children of INBOX", err)
	}
	if _, err := newMatcher("", []string{strings.Repeat("x", maxPatternLength+1)}); err == nil {
		t.Error("a pattern without limit")
	}
}
