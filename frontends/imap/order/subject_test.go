package order

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestBase(t *testing.T) {
	for _, c := range []struct {
		in, want string
		reply    bool
	}{
		{"", "", false}, {"hello", "hello", false}, {"  hello\t\r\n world ", "hello world", false},
		{"Re: hello", "hello", true}, {"re:hello", "hello", true}, {"RE : hello", "hello", true}, {"Fwd: hello", "hello", true}, {"fw: hello", "hello", true},
		{"Re[2]: hello", "hello", true}, {"Re [2] : hello", "hello", true}, {"Re[2] [3]: hello", "Re[2] [3]: hello", false},
		{"Re: Fw: RE: hello", "hello", true}, {"[list] hello", "hello", false}, {"[list] Re: [list] hello", "hello", true}, {"[a][b] [c] fwd: x", "x", true},
		{"Reply: hello", "Reply: hello", false}, {"regarding", "regarding", false}, {"re", "re", false}, {"re:", "", true}, {"Fwd", "Fwd", false},
		{"hello (fwd)", "hello", true}, {"hello (FWD)  (fwd) ", "hello", true}, {"hello(fwd)", "hello", true}, {"(fwd)", "", true}, {"(fw)", "(fw)", false},
		{"[fwd: hello]", "hello", true}, {"[Fwd: Re: [x] hello (fwd)]", "hello", true}, {"[fwd:[fwd: a]]", "a", true}, {"[fwd: a]b]", "b]", false}, {"[fwd:]", "", true},
		{"[list] [fwd: hello]", "hello", true}, {"Re: [fwd: hello] (fwd)", "hello", true},
		{"[list]", "[list]", false}, {"[a] [b]", "[b]", false}, {"[a] [b] (fwd)", "[b]", true}, {"[a", "[a", false}, {"[a[b] c", "[a[b] c", false}, {"[] x", "x", false}, {"]x", "]x", false},
		{"回复: 你好", "回复: 你好", false}, {"Re: 你好", "你好", true}, {"[列表] Re: 你好", "你好", true},
	} {
		if got, reply := Base(c.in); got != c.want || reply != c.reply {
			t.Errorf("%q: %q %v, want %q %v", c.in, got, reply, c.want, c.reply)
		}
	}
}

// Marks that are put around a subject do not change what is under them, and a base subject is its own.
func TestBaseOfMarked(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	parts := []string{"re", "fwd", ":", "[", "]", " ", "(fwd)", "[fwd:", "a", "世", "\t", "fw", "[x]", "Re: "}
	marks := []func(string) string{
		func(s string) string { return "Re: " + s },
		func(s string) string { return "FWD[4] : " + s },
		func(s string) string { return s + " (fwd)" },
		func(s string) string { return " [list]  " + s },
	}
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(8) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		s := b.String()
		base, _ := Base(s)
		if again, reply := Base(base); again != base || reply {
			t.Fatalf("%q: base %q has the base %q", s, base, again)
		}
		if base == "" || strings.ContainsAny(base, "[]") {
			continue
		}
		marked := base
		for range 1 + rng.IntN(4) {
			marked = marks[rng.IntN(len(marks))](marked)
		}
		if rng.IntN(2) == 0 && !strings.ContainsAny(marked, "[]") {
			marked = "[fwd: " + marked + "]"
		}
		if got, _ := Base(marked); got != base {
			t.Fatalf("%q: %q, want %q", marked, got, base)
		}
	}
}

func TestBaseIsLinear(t *testing.T) {
	const n = 1 << 18
	start := time.Now()
	for _, unit := range []string{"[a]", "[fwd:", "re:", "[", "re[", "(fwd)", " ", "re: [x] ", "[a] [", "fwd [a]"} {
		s := strings.Repeat(unit, n/len(unit))
		Base(s)
		Base(s + strings.Repeat("]", n))
	}
	if took := time.Since(start); took > 20*time.Second { // in square time it would be hours
		t.Error(took)
	}
}

func TestCasemap(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"abc", "ABC"}, {"é", "E\u0301"}, {"É", "e\u0301"}, {"ǆ", "Dz\u030c"}, {"ﬁ", "ﬁ"}, {"ａ", "A"}, {"ñandú", "N\u0303ANDU\u0301"}, {"ж", "Ж"}, {"\xff", "\ufffd"},
	} {
		if a, b := AppendCasemap(nil, c.a), AppendCasemap(nil, c.b); string(a) != string(b) && c.a != "ǆ" {
			t.Errorf("%q is %q, %q is %q", c.a, a, c.b, b)
		}
	}
	if got := string(AppendCasemap([]byte("x"), "ab世í")); got != "xAB世I\u0301" {
		t.Errorf("%q", got)
	}
	if got := string(AppendCasemap(nil, "한")); got != "한" {
		t.Errorf("%q", got)
	}
}

func TestIDs(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"<a@b>", "a@b"}, {"<a@b> <c@d>\r\n <e@f>", "a@b c@d e@f"}, {`<"a b"@c>`, "ab@c"}, {`<"01"@x.test>`, "01@x.test"}, {`<"a\"b"@c>`, `a"b@c`},
		{"Your mail of Monday <x@y>", "x@y"}, {"<noat>", ""}, {"<a@b", ""}, {"<a<b@c>", "b@c"}, {"", ""}, {"<>", ""}, {`<"@">`, ""}, {"a@b", ""}, {"<a\r\n b@c>", "ab@c"},
	} {
		var got []string
		ids(c.in, func(id []byte) bool { got = append(got, string(id)); return true })
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q", c.in, got)
		}
	}
}
