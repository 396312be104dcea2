package command

import (
	"fmt"
	"testing"

	"hongyan/frontends/imap/wire"
)

func TestPage(t *testing.T) {
	parse := func(d *wire.Decoder) (any, error) {
		f, err := ParseFetch(d, true)
		if err != nil {
			return nil, err
		}
		lo, hi := f.Page.Bounds(10)
		none, also := f.Page.Bounds(0)
		return fmt.Sprint(f.Page, " ", lo, hi, none, also), nil
	}
	for _, c := range []struct{ page, want string }{
		{"1:3", "1:3 0 3 0 0"}, {"3:1", "1:3 0 3 0 0"}, {"5:5", "5:5 4 5 0 0"}, {"8:20", "8:20 7 10 0 0"}, {"11:20", "11:20 10 10 0 0"}, {"4294967295:1", "1:4294967295 0 10 0 0"},
		{"-1:-3", "-1:-3 7 10 0 0"}, {"-3:-1", "-1:-3 7 10 0 0"}, {"-10:-10", "-10:-10 0 1 0 0"}, {"-9:-99", "-9:-99 0 2 0 0"}, {"-11:-12", "-11:-12 0 0 0 0"},
		{"0:1", "BAD"}, {"1:0", "BAD"}, {"1:-1", "BAD"}, {"-1:1", "BAD"}, {"1", "BAD"}, {"1:*", "BAD"}, {"1:4294967296", "BAD"}, {"", "BAD"},
	} {
		if got := parsed(t, parse, " 1:* FLAGS (PARTIAL "+c.page+")"); got != c.want {
			t.Errorf("%s: %q, want %q", c.page, got, c.want)
		}
	}
}
