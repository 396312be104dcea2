package imap

import (
	"slices"
	"strings"
	"testing"

	"hongyan/cluster/clustertest"
)

func testMailboxes(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "boxes", nil)
	r := st.rawUser("")
	r.ok("CREATE Work/2026/")
	r.want("CREATE Work/2026", "NO [ALREADYEXISTS]")
	r.want("CREATE inbox", "NO [ALREADYEXISTS]")
	r.want("CREATE \"a//b\"", "NO [CANNOT]")
	r.want("CREATE \"\"", "NO [CANNOT]")
	r.want("CREATE x (USE (\\Junk \\Sent))", "NO [USEATTR]")
	r.want("CREATE x (USE (\\All))", "NO [USEATTR]")
	r.ok("CREATE Bills (USE (\\Archive))")
	r.want("DELETE inbox", "NO [CANNOT]")
	r.want("DELETE nowhere", "NO [NONEXISTENT]")
	r.want("RENAME nowhere x", "NO [NONEXISTENT]")
	r.want("RENAME Work INBOX", "NO [ALREADYEXISTS]")
	r.ok("RENAME Work Jobs")
	r.want("SELECT Work/2026", "NO [NONEXISTENT]")
	r.ok("SELECT Jobs/2026")
	r.want("SELECT nowhere", "NO [NONEXISTENT]")
	r.want("FETCH 1 FLAGS", "BAD") // and none is open now
	r.want("STATUS nowhere (MESSAGES)", "NO [NONEXISTENT]")
	r.want("STATUS INBOX (DELETED-SPACE)", "BAD")
	st.appendMessage("INBOX", "a: b\r\n\r\nhello\r\n")
	got := r.ok("STATUS inbox (MESSAGES RECENT UIDNEXT UNSEEN DELETED SIZE APPENDLIMIT)")
	if !strings.HasPrefix(got[0], "* STATUS INBOX (MESSAGES 1 RECENT 0 UIDNEXT 2 UNSEEN 1 DELETED 0 SIZE 15 APPENDLIMIT ") {
		t.Errorf("%q", got)
	}
	// Chinese names, in modified UTF-7 and, when enabled, in UTF-8 (RFC 3501 section 5.1.3, RFC 9051 section 5.1).
	r.ok("CREATE &V4NXPpCuTvY-")
	r.ok("ENABLE IMAP4rev2")
	got = r.ok("LIST \"\" \"垃圾*\"")
	if got[0] != `* LIST (\HasNoChildren) "/" "垃圾邮件"` {
		t.Errorf("%q", got)
	}
	got = r.ok("SELECT \"垃圾邮件\"")
	if !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "* LIST ") }) {
		t.Errorf("IMAP4rev2 SELECT without LIST: %q", got)
	}
	// RENAME of INBOX moves its messages (RFC 9051 section 6.3.6).
	r.ok("RENAME INBOX old-mail")
	got = r.ok("STATUS INBOX (MESSAGES)")
	if got[0] != "* STATUS INBOX (MESSAGES 0)" {
		t.Errorf("%q", got)
	}
	got = r.ok("NAMESPACE")
	if got[0] != `* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL` {
		t.Errorf("%q", got)
	}
}

func testList(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "list", nil)
	r := st.rawUser("")
	for _, name := range []string{"a/b/c", "a/d", "z"} {
		r.ok("CREATE " + name)
	}
	for _, name := range []string{"Archive", "Drafts", "Junk", "Sent", "Trash"} {
		r.ok("UNSUBSCRIBE " + name)
	}
	for _, name := range []string{"a/b/c", "gone/x", "INBOX"} {
		r.ok("SUBSCRIBE " + name)
	}
	for _, c := range []struct {
		cmd  string
		want []string // names, with marks, in order
	}{
		{`LIST "" ""`, []string{`(\Noselect) "/" ""`}},
		{`LIST "" inbox`, []string{`(\HasNoChildren) "/" INBOX`}},
		{`LIST "a/" %`, []string{`(\HasChildren) "/" "a/b"`, `(\HasNoChildren) "/" "a/d"`}},
		{`LIST "" a/*`, []string{`(\HasChildren) "/" "a/b"`, `(\HasNoChildren) "/" "a/b/c"`, `(\HasNoChildren) "/" "a/d"`}},
		{`LIST "" (z "a/%")`, []string{`(\HasChildren) "/" "a/b"`, `(\HasNoChildren) "/" "a/d"`, `(\HasNoChildren) "/" "z"`}},
		{`LIST (SUBSCRIBED) "" *`, []string{`(\HasNoChildren \Subscribed) "/" INBOX`, `(\HasNoChildren \Subscribed) "/" "a/b/c"`,
			`(\NonExistent \HasNoChildren \Subscribed) "/" "gone/x"`}},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" %`, []string{`(\HasNoChildren \Subscribed) "/" INBOX`,
			`(\HasChildren) "/" "a" (CHILDINFO ("SUBSCRIBED"))`,
			`(\NonExistent \HasNoChildren) "/" "gone" (CHILDINFO ("SUBSCRIBED"))`}},
		{`LIST (SPECIAL-USE) "" (Junk z)`, []string{`(\HasNoChildren \Junk) "/" "Junk"`}},
		{`LIST "" z RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES UNSEEN))`, []string{`(\HasNoChildren) "/" "z"`, `STATUS "z" (MESSAGES 0 UNSEEN 0)`}},
		{`LSUB "" *`, []string{`() "/" INBOX`, `() "/" "a/b/c"`, `(\Noselect) "/" "gone/x"`}},
		{`LSUB "" %`, []string{`() "/" INBOX`, `(\Noselect) "/" "a"`, `(\Noselect) "/" "gone"`}},
		{`LIST "" nothing*`, nil},
	} {
		var got []string
		for _, l := range r.ok(c.cmd) {
			for _, p := range []string{"* LIST ", "* LSUB ", "* "} {
				if rest, ok := strings.CutPrefix(l, p); ok {
					got = append(got, rest)
					break
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\ngot  %q\nwant %q", c.cmd, got, c.want)
		}
	}
	r.ok("UNSUBSCRIBE gone/x")
	r.want(`LIST "" "`+strings.Repeat("x", 1500)+`"`, "NO [LIMIT]")
}
