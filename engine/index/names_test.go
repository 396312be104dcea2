package index

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCanonicalName(t *testing.T) {
	deep := strings.Repeat("d/", MaxNameDepth-1) + "d"
	long := strings.Repeat("n", MaxNameBytes)
	for _, c := range []struct{ in, want string }{
		{"INBOX", "INBOX"},
		{"inBox", "INBOX"},
		{"inbox/Sub", "INBOX/Sub"},
		{"a/inbox", "a/inbox"},
		{"inboxes", "inboxes"},
		{"鸿雁/来信", "鸿雁/来信"},
		{"..", ".."},
		{"../../etc/passwd", "../../etc/passwd"},
		{"~root", "~root"},
		{" ", " "},
		{"a%*b\\", "a%*b\\"},
		{"i\u0307nbox", "i\u0307nbox"},
		{deep, deep},
		{long, long},
		{"", ""},
		{"/", ""},
		{"/a", ""},
		{"a/", ""},
		{"a//b", ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"a\x7fb", ""},
		{"a\u0085b", ""},
		{"a\xffb", ""},
		{deep + "/d", ""},
		{long + "n", ""},
	} {
		got, err := canonicalName(c.in)
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrInvalidName) {
			t.Errorf("%.40q: got %.40q, %v", c.in, got, err)
		}
	}
}

func TestParents(t *testing.T) {
	for name, want := range map[string][]string{"a": nil, "a/b": {"a"}, "雁/b/c": {"雁", "雁/b"}} {
		if got := parents(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCheckKeyword(t *testing.T) {
	for _, good := range []string{"$Junk", "a", strings.Repeat("k", MaxKeywordBytes), "NonJunk", "x[1"} {
		must(t, checkKeyword(good))
	}
	for _, bad := range []string{"", "a b", "a(", "a)", `\Seen`, "a]", "a%", "a*", `a"`, "a{", "é", "a\x00", "a\x7f"} {
		if err := checkKeyword(bad); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var limit *LimitError
	if err := checkKeyword(strings.Repeat("k", MaxKeywordBytes+1)); !errors.As(err, &limit) {
		t.Error(err)
	}
}
