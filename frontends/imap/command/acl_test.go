package command

import (
	"strings"
	"testing"

	"hongyan/cluster/client"
)

func TestACL(t *testing.T) {
	all := parsers()
	for _, c := range []struct{ name, args, want string }{
		{"SETACL", " INBOX bo@x lrs", "&{INBOX bo@x 0 7}"}, {"SETACL", " INBOX \"bo@x\" +i", "&{INBOX bo@x 1 16}"}, {"SETACL", " INBOX bo@x -cd", "&{INBOX bo@x 2 960}"},
		{"SETACL", ` INBOX bo@x ""`, "&{INBOX bo@x 0 0}"}, {"SETACL", " INBOX bo@x lrswipkxtea", "&{INBOX bo@x 0 2047}"}, {"SETACL", " INBOX bo@x llll", "&{INBOX bo@x 0 1}"},
		{"SETACL", " INBOX bo@x lrL", "BAD"}, {"SETACL", " INBOX bo@x 0", "BAD"}, {"SETACL", " INBOX bo@x ++l", "BAD"}, {"SETACL", " INBOX bo@x l-r", "BAD"}, {"SETACL", " INBOX bo@x \"l r\"", "BAD"}, {"SETACL", " INBOX bo@x", "BAD"},
		{"SETACL", " INBOX", "BAD"}, {"SETACL", "", "BAD"}, {"SETACL", " INBOX bo@x l r", "BAD"}, {"SETACL", " INBOX " + strings.Repeat("x", maxIdentifier) + " l", "&{INBOX " + strings.Repeat("x", maxIdentifier) + " 0 1}"},
		{"SETACL", " INBOX " + strings.Repeat("x", maxIdentifier+1) + " l", "NO LIMIT"}, {"DELACL", " INBOX bo@x", "INBOX bo@x"}, {"DELACL", " INBOX bo@x l", "BAD"}, {"DELACL", ` a ""`, "a "},
	} {
		if got := parsed(t, all[c.name], c.args); got != c.want {
			t.Errorf("%s%s: %q, want %q", c.name, c.args, got, c.want)
		}
	}
}

// Rights that are written read as the same, whatever they are.
func TestRights(t *testing.T) {
	for r := range client.RightsAll + 1 {
		op, got, ok := parseRights(Rights(r))
		want := r
		if r&virtualCreate != 0 { // c and d stand for both
			want |= virtualCreate
		}
		if r&virtualDelete != 0 {
			want |= virtualDelete
		}
		if op != 0 || got != want || !ok {
			t.Fatalf("%b is %s, which is %b", r, Rights(r), got)
		}
	}
	if got := Rights(client.RightsAll); got != "lrswipkxteacd" {
		t.Error(got)
	}
}
