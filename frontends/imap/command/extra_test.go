package command

import (
	"strings"
	"testing"

	"hongyan/frontends/imap/wire"
)

func TestExtraKeys(t *testing.T) {
	parse := func(d *wire.Decoder) (any, error) {
		s, err := ParseSearch(d)
		if err != nil {
			return nil, err
		}
		k := s.Key.Keys[0]
		return several(k.Kind == KeyOlder, k.Kind == KeyYounger, k.Kind == KeyEmailID, k.Size, k.Text), nil
	}
	for _, c := range []struct{ args, want string }{
		{" OLDER 5", "true false false 5 "}, {" younger 31536000", "false true false 31536000 "}, {" EMAILID Mab_9-", "false false true 0 Mab_9-"}, {" THREADID x", "false false false 0 "},
		{" OLDER 0", "BAD"}, {" OLDER -1", "BAD"}, {" YOUNGER x", "BAD"}, {" YOUNGER", "BAD"}, {" EMAILID", "BAD"}, {" EMAILID a.b", "BAD"}, {" THREADID ()", "BAD"}, {" EMAILID " + strings.Repeat("x", 256), "BAD"},
	} {
		if got := parsed(t, parse, c.args); got != c.want {
			t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestExtraItems(t *testing.T) {
	all := parsers()
	for _, c := range []struct{ name, args, want string }{
		{"FETCH", " 1 (EMAILID threadid UID)", "1 EMAILID THREADID UID"}, {"FETCH", " 1 EMAILID", "1 EMAILID"},
		{"FETCH", " 1 PREVIEW", "1 PREVIEW peek"}, {"FETCH", " 1 (PREVIEW (LAZY) UID)", "1 PREVIEW peek UID"}, {"FETCH", " 1 (PREVIEW UID)", "1 PREVIEW peek UID"}, {"FETCH", " 1 PREVIEW (lazy LAZY)", "1 PREVIEW peek"},
		{"FETCH", " 1 PREVIEW (X)", "BAD"}, {"FETCH", " 1 PREVIEW ()", "BAD"}, {"FETCH", " 1 PREVIEW (LAZY", "BAD"}, {"FETCH", " 1 (PREVIEW (LAZY)", "BAD"},
		{"STATUS", " a (MAILBOXID messages)", "a [MAILBOXID MESSAGES]"},
	} {
		if got := parsed(t, all[c.name], c.args); got != c.want {
			t.Errorf("%s%s: %q, want %q", c.name, c.args, got, c.want)
		}
	}
}
