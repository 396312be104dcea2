package command

import (
	"strings"
	"testing"

	"hongyan/frontends/imap/wire"
)

func orders() map[string]parser {
	return map[string]parser{
		"SORT": func(d *wire.Decoder) (any, error) {
			s, err := ParseSort(d)
			return several(s.Criteria, shortSearch(&s.Search)), err
		},
		"THREAD": func(d *wire.Decoder) (any, error) {
			th, err := ParseThread(d)
			if err != nil {
				return "", err
			}
			return several(th.Algorithm, shortKey(th.Key)), nil
		},
	}
}

func TestSortCommands(t *testing.T) {
	all := orders()
	for _, c := range []struct{ name, args, want string }{
		{"SORT", " (SUBJECT) UTF-8 SINCE 1-Feb-1994", "[{7 false}] and(since:1994-02-01)"}, {"SORT", ` (subject reverse date) "us-ascii" ALL`, "[{7 false} {2 true}] and(all)"},
		{"SORT", " (ARRIVAL CC DATE DISPLAYFROM DISPLAYTO FROM SIZE SUBJECT TO) UTF-8 1:* UNSEEN", `[{0 false} {1 false} {2 false} {3 false} {4 false} {5 false} {6 false} {7 false} {8 false}] and(1:* not(\Seen))`},
		{"SORT", " RETURN () (SIZE) UTF-8 ALL", "[{6 false}] and(all) {false false true false false}"}, {"SORT", " RETURN (MIN COUNT SAVE) (SIZE) UTF-8 ALL", "[{6 false}] and(all) {true false false true true}"},
		{"SORT", " (SUBJECT) gb2312 SUBJECT {2}\r\n\xc4\xe3", "[{7 false}] and(header:SUBJECT:你)"}, {"SORT", " (SUBJECT) klingon ALL", "NO BADCHARSET"},
		{"SORT", "", "BAD"}, {"SORT", " () UTF-8 ALL", "BAD"}, {"SORT", " (SUBJECT) ALL", "NO BADCHARSET"}, {"SORT", " (SUBJECT) UTF-8", "BAD"}, {"SORT", " (REVERSE) UTF-8 ALL", "BAD"}, {"SORT", " (REVERSE REVERSE DATE) UTF-8 ALL", "BAD"},
		{"SORT", " (X) UTF-8 ALL", "BAD"}, {"SORT", " SUBJECT UTF-8 ALL", "BAD"}, {"SORT", " RETURN (X) (DATE) UTF-8 ALL", "BAD"}, {"SORT", " (" + strings.Repeat("DATE ", 16) + "DATE) UTF-8 ALL", "NO LIMIT"},
		{"THREAD", " references UTF-8 ALL", "REFERENCES and(all)"}, {"THREAD", " ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000 SEEN", `ORDEREDSUBJECT and(since:2000-03-05 \Seen)`},
		{"THREAD", " REFS UTF-8 ALL", "BAD"}, {"THREAD", "", "BAD"}, {"THREAD", " REFERENCES", "BAD"}, {"THREAD", " REFERENCES UTF-8", "BAD"}, {"THREAD", " REFERENCES x-odd ALL", "NO BADCHARSET"}, {"THREAD", " REFERENCES UTF-8 ALL x", "BAD"},
	} {
		if got := parsed(t, all[c.name], c.args); got != c.want {
			t.Errorf("%s%.80s\ngot  %s\nwant %s", c.name, c.args, got, c.want)
		}
	}
}

func FuzzSortCommands(f *testing.F) {
	f.Add([]byte(" RETURN (MIN) (REVERSE DATE SUBJECT) UTF-8 OR SEEN 1"))
	f.Add([]byte(" REFERENCES gbk (NOT 1)"))
	all := orders()
	f.Fuzz(func(t *testing.T, args []byte) {
		for _, parse := range all {
			d := wire.NewDecoder(strings.NewReader(string(args)+"\r\n"), wire.Limits{Line: 1 << 16, Literals: 1 << 16, Count: 10, Skip: 1 << 16}, func() error { return nil })
			if d.Next() != nil {
				return
			}
			if _, err := parse(d); err == nil && !d.AtEnd() {
				t.Fatalf("%q: more of the command is left", args)
			}
			_ = d.Finish() // an input without the end of its literals
		}
	})
}
