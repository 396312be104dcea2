package command

import (
	"testing"

	"hongyan/frontends/imap/wire"
)

func TestReplace(t *testing.T) {
	for _, c := range []struct {
		uid        bool
		args, want string
	}{
		{false, " 4 Drafts {1}\r\n", "4 Drafts"}, {false, " * {1+}\r\nx {1}\r\n", "* x"}, {true, " 2000 Drafts (\\Seen) {1}\r\n", "2000 Drafts"},
		{false, " 4 Drafts", "BAD"}, {false, " 1:2 x {1}\r\n", "BAD"}, {false, " 1,2 x {1}\r\n", "BAD"}, {false, " $ x {1}\r\n", "BAD"}, {true, " $ x {1}\r\n", "BAD"},
		{true, " x {1}\r\n", "BAD"}, {false, " 0 x {1}\r\n", "BAD"}, {false, "", "BAD"},
	} {
		parse := func(d *wire.Decoder) (any, error) {
			set, name, err := Replace(d, c.uid)
			return several(set, name), err
		}
		if got := parsed(t, parse, c.args); got != c.want {
			t.Errorf("%q: got %s, want %s", c.args, got, c.want)
		}
	}
}
