package imap

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"hongyan/cluster/clustertest"
	"hongyan/frontends/imap/command"
)

// found is what a pattern's group matches in some lines, "" if nothing does.
func found(lines []string, pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(strings.Join(lines, "\n"))
	if m == nil {
		return ""
	}
	return m[1]
}

func testObjectIDs(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "objects", nil)
	st.appendMessage("INBOX", crlf("Subject: a\n\none\n"))
	st.appendMessage("INBOX", crlf("Subject: a\n\ntwo\n"))
	r := st.rawUser("")
	made := found(r.ok("CREATE work/new"), `^OK \[MAILBOXID \((F\d+)\)\]`)
	inbox := found(r.ok("SELECT INBOX"), `OK \[MAILBOXID \(([\w-]+)\)\]`)
	if made == "" || inbox == "" || made == inbox {
		t.Fatalf("mailbox ids %q, %q", made, inbox)
	}
	one := found(r.ok("FETCH 1 EMAILID"), `EMAILID \((M[\w-]{43})\)`)
	two := found(r.ok("UID FETCH 2 (THREADID EMAILID)"), `THREADID NIL EMAILID \((M[\w-]{43})\)`)
	if one == "" || two == "" || one == two {
		t.Fatalf("ids %q, %q", one, two)
	}
	r.expect("SEARCH EMAILID "+two, "* SEARCH 2")
	r.expect("SEARCH NOT EMAILID "+two, "* SEARCH 1")
	r.expect("SEARCH THREADID T1", "* SEARCH")
	r.ok("COPY 1 work/new")
	r.ok("MOVE 2 work/new")
	r.expect("STATUS work/new (MAILBOXID MESSAGES)", `* STATUS "work/new" (MAILBOXID (`+made+") MESSAGES 2)")
	r.ok("RENAME work/new work/old")
	lines := r.ok(`LIST "" work/old RETURN (STATUS (MAILBOXID))`)
	if got := found(lines, `STATUS "work/old" \(MAILBOXID \(([\w-]+)\)\)`); got != made {
		t.Errorf("renamed from %s: %q", made, lines)
	}
	if got := found(r.ok("EXAMINE work/old"), `MAILBOXID \(([\w-]+)\)`); got != made {
		t.Errorf("renamed from %s: %q", made, got)
	}
	r.expect("FETCH 1:2 EMAILID", "* 1 FETCH (EMAILID ("+one+"))", "* 2 FETCH (EMAILID ("+two+"))")
	r.ok("CLOSE")
	r.ok("DELETE work/old")
	if again := found(r.ok("CREATE work/old"), `MAILBOXID \(([\w-]+)\)`); again == "" || again == made {
		t.Errorf("made again: %q, was %q", again, made)
	}
}

func TestWithin(t *testing.T) {
	l := newLibrary(t)
	for _, date := range []int64{999, 990, 0} {
		l.add(rand.New(rand.NewPCG(1, 1)), []byte("\r\n"))
		l.list[len(l.list)-1].Date = date
	}
	s, sel := l.reader(t, NewMemory()), l.selected()
	for _, c := range []struct {
		kind command.KeyKind
		secs int64
		want string // of messages of 999, 990 and 0 seconds
	}{
		{command.KeyOlder, 1, "yyy"}, {command.KeyOlder, 10, "nyy"}, {command.KeyOlder, 11, "nny"}, {command.KeyOlder, 1001, "nnn"},
		{command.KeyYounger, 1, "ynn"}, {command.KeyYounger, 10, "yyn"}, {command.KeyYounger, 1000, "yyy"}, {command.KeyYounger, 1<<63 - 1, "yyy"},
	} {
		q := s.newQuery(s.recall(sel))
		q.now = 1000
		found, err := q.run(&command.Key{Kind: c.kind, Size: c.secs}, sel.view.uids)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, m := range l.list {
			got += map[bool]string{true: "y", false: "n"}[found.Contains(m.UID)]
		}
		if got != c.want {
			t.Errorf("%d %d: %s, want %s", c.kind, c.secs, got, c.want)
		}
	}
}

func testWithin(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "within", nil)
	st.fill("INBOX", 1)
	r := st.rawUser("INBOX")
	r.ok("APPEND INBOX {3+}\r\nnew")
	r.ok("NOOP")
	r.expect("SEARCH YOUNGER 3600", "* SEARCH 2")
	r.expect("SEARCH OLDER 3600", "* SEARCH 1")
	r.expect("SEARCH NOT OLDER 3600 YOUNGER 3600 UNSEEN", "* SEARCH 2")
}
