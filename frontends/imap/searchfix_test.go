package imap

import (
	"strings"
	"testing"
)

func TestSearchFix(t *testing.T) {
	for _, c := range []struct{ in, want string }{ // a "|" separates the lines of a command around literals
		{"a SEARCH SMALLER 10 SINCE 1-Feb-2020", "a SEARCH NOT LARGER 9 SINCE 1-Feb-2020"},
		{"a uid search smaller 1 LARGER 5", "a uid search NOT LARGER 0 LARGER 5"},
		{"a SEARCH SMALLER 0", "a SEARCH NOT ALL"},
		{"a SEARCH NOT SMALLER 7", "a SEARCH NOT NOT LARGER 6"},
		{"a SEARCH OR SMALLER 7 (SMALLER 8 SEEN)", "a SEARCH OR NOT LARGER 6 (NOT LARGER 7 SEEN)"},
		{"a SEARCH SUBJECT SMALLER 5", "a SEARCH SUBJECT SMALLER 5"},
		{"a SEARCH SUBJECT \"SMALLER 5 \\\" SMALLER 6\" SMALLER 7", "a SEARCH SUBJECT \"SMALLER 5 \\\" SMALLER 6\" NOT LARGER 6"},
		{"a SEARCH HEADER SMALLER SMALLER SMALLER 4", "a SEARCH HEADER SMALLER SMALLER NOT LARGER 3"},
		{"a SEARCH HEADER X {3}| SMALLER 4", "a SEARCH HEADER X {3}| NOT LARGER 3"},
		{"a SEARCH HEADER {1}| SMALLER SMALLER 4", "a SEARCH HEADER {1}| SMALLER NOT LARGER 3"},
		{"a SEARCH SMALLER x", "a SEARCH NOT LARGER x"},
		{"a SEARCH SMALLER", "a SEARCH NOT "},
		{"a SEARCH RETURN (MIN) CHARSET UTF-8 SMALLER 2", "a SEARCH RETURN (MIN) CHARSET UTF-8 NOT LARGER 1"},
		{"SMALLER SEARCH SMALLER 2", "SMALLER SEARCH NOT LARGER 1"},
		{"a SEARCH KEYWORD SMALLER 1:3", "a SEARCH KEYWORD SMALLER 1:3"},
		{"a SEARCH", "a SEARCH"},
	} {
		f := new(searchFix)
		var got []string
		for _, line := range strings.Split(c.in, "|") {
			got = append(got, strings.TrimSuffix(string(f.fix([]byte(line+"\r\n"))), "\r\n"))
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, s, c.want)
		}
	}
}

func FuzzSearchFix(f *testing.F) {
	f.Add([]byte("a SEARCH SMALLER 10 SUBJECT \"x\" (OR SEEN SMALLER 3)"))
	f.Add([]byte("a UID SEARCH HEADER {3} SMALLER"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fix := new(searchFix)
		for range 2 {
			out := fix.fix(append(b[:len(b):len(b)], '\r', '\n'))
			if len(out) > 2*len(b)+16 {
				t.Fatalf("%d bytes became %d", len(b), len(out))
			}
		}
	})
}
