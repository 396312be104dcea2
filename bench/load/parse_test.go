package load

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	secure := &tls.Config{}
	for _, c := range []struct {
		urls string
		tls  *tls.Config
		want []Node
		err  string
	}{
		{"lmtp://127.0.0.1:2424 imaps://127.0.0.1", secure, []Node{{ID: "127.0.0.1", LMTP: "127.0.0.1:2424", IMAPS: "127.0.0.1:993"}}, ""},
		{"smtp://a:1 smtp://b:2 pop3://b", nil, []Node{{ID: "a", SMTP: "a:1"}, {ID: "b", SMTP: "b:2", POP3: "b:110"}}, ""},
		{"imap://[::1]:143 pop3s://[::1]:995", secure, []Node{{ID: "::1", IMAP: "[::1]:143", POP3S: "[::1]:995"}}, ""},
		{"imaps://a", nil, nil, "needs TLS"},
		{"http://a", nil, nil, "want smtp"},
		{"lmtp:a", nil, nil, "scheme://host:port"},
		{"lmtp://a/x", nil, nil, "nothing else"},
		{"lmtp://a:1 lmtp://a:2", nil, nil, "twice"},
		{"", nil, nil, "no URL"},
	} {
		got, err := ParseTarget("t", strings.Fields(c.urls), nil, c.tls)
		switch {
		case c.err == "" && err != nil, c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want %q", c.urls, err, c.err)
		case !slices.Equal(got.Nodes, c.want):
			t.Errorf("%s: %+v, want %+v", c.urls, got.Nodes, c.want)
		}
	}
}

func TestNumberedAccounts(t *testing.T) {
	got, err := NumberedAccounts("u%04d@example.test:secret", 3)
	if err != nil || len(got) != 3 || got[2] != (Account{"u0003@example.test", "secret"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = NumberedAccounts("u%d@x:p%d:q", 12); err != nil || got[11] != (Account{"u12@x", "p12:q"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"u%04d@x", "u%s@x:p", "u@x:p", "u%d%d@x:p", "u%d:p"} {
		if _, err := NumberedAccounts(bad, 2); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := NumberedAccounts("u%d@x:p", 0); err == nil {
		t.Error("a count of 0 was taken")
	}
}

func TestReadAccounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts")
	for text, want := range map[string]int{"# who\na@x p\n\n b@x  q \n": 2, "a@x\n": 0, "": 0, "a b c\n": 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadAccounts(path)
		if len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestPicker(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		want   []int // nodes after: success, failure, success, failure
	}{{Stick, []int{1, 1, 1, 1, 1}}, {Failover, []int{1, 1, 2, 2, 0}}, {RoundRobin, []int{1, 2, 0, 1, 2}}} {
		p, err := NewPicker(c.policy, 3, 4)
		if err != nil {
			t.Fatal(err)
		}
		got := []int{p.Node()}
		for i := range 4 {
			p.Done(i%2 == 1)
			got = append(got, p.Node())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.policy, got, c.want)
		}
	}
	if _, err := NewPicker("best", 3, 0); err == nil {
		t.Error("a policy that is none was taken")
	}
}
