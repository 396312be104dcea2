package imap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// neighbours are two accounts of different regions, and so in different shards, served at different nodes: the second one sees what the first one shares with it.
type neighbours struct {
	t          *testing.T
	anna, bo   *stage
	projects   string // of anna, as bo sees it
	annas, bos string // addresses
}

func newNeighbours(t *testing.T, c *clustertest.Cluster, name string) *neighbours {
	t.Helper()
	n := &neighbours{t: t, anna: serve(t, c, name+"-anna", nil)}
	bo := client.NewAccount{Address: name + "-bo@" + clustertest.Domain, Home: "north-china", Password: clustertest.Password}
	if _, err := c.Nodes[1].AddAccount(t.Context(), bo); err != nil {
		t.Fatal(err)
	}
	n.bo = serveNode(t, c, 1, bo.Address)
	if n.bo.account.Shard == n.anna.account.Shard {
		t.Fatalf("both are in shard %d", n.bo.account.Shard)
	}
	n.annas, n.bos = n.anna.user, n.bo.user
	n.projects = `"Other Users/` + n.annas + `/Projects"`
	return n
}

// give has anna give bo rights.
func (n *neighbours) give(r *raw, mailbox, rights string) {
	n.t.Helper()
	r.ok(fmt.Sprintf("SETACL %s %s %q", mailbox, n.bos, rights))
}

func testRights(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "rights")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	if got := a.ok("CAPABILITY")[0]; !strings.Contains(got, " ACL RIGHTS=kxte LIST-MYRIGHTS") {
		t.Errorf("not offered: %s", got)
	}
	a.expect("NAMESPACE", `* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL`)
	a.ok("CREATE Projects/deep")
	const all = "lrswipkxteacd"
	owner := `* ACL "Projects" "` + n.annas + `" ` + all
	a.expect("GETACL Projects", owner)
	a.expect("MYRIGHTS inbox", "* MYRIGHTS INBOX "+all)
	for _, step := range []struct{ rights, want string }{
		{"lr", "lr"}, {"+cs", "lrskxc"}, {"-lxd", "rskc"}, {"d", "ted"}, {"+a", "tead"}, {"-tea", ""}, {"lrswipkxtea", all}, {"", ""}, {"+l", "l"},
	} {
		n.give(a, "Projects", step.rights)
		want := owner
		if step.want != "" {
			want += ` "` + n.bos + `" ` + step.want
		}
		a.expect("GETACL Projects", want)
	}
	b.expect("MYRIGHTS "+n.projects, "* MYRIGHTS "+n.projects+" l")
	b.want("GETACL "+n.projects, "NO [NOPERM]")
	b.want("LISTRIGHTS "+n.projects+" "+n.annas, "NO [NOPERM]")
	b.want("SETACL "+n.projects+" "+n.bos+" +a", "NO [NOPERM]")
	a.expect("LISTRIGHTS Projects "+strings.ToUpper(n.bos), `* LISTRIGHTS "Projects" "`+strings.ToUpper(n.bos)+`" "" l r s w i p k x t e a c d`)
	a.expect("LISTRIGHTS Projects "+n.annas, `* LISTRIGHTS "Projects" "`+n.annas+`" `+all)
	a.ok("DELETEACL Projects " + n.bos)
	a.ok("DELETEACL Projects " + n.bos)
	a.expect("GETACL Projects", owner)
	b.want("MYRIGHTS "+n.projects, "NO [NONEXISTENT]")
	// Who may administer may give, also to himself, but nothing of it is his.
	n.give(a, "Projects", "la")
	b.ok("SETACL " + strings.ReplaceAll(n.projects, n.annas, strings.ToUpper(n.annas)) + " " + n.bos + " +k")
	b.expect("GETACL "+n.projects, `* ACL `+n.projects+` "`+n.annas+`" `+all+` "`+n.bos+`" lkac`)
	for cmd, want := range map[string]string{
		"SETACL Projects " + n.annas + " -l": "NO [CANNOT]", "SETACL Projects " + n.annas + " lr": "NO [CANNOT]", "DELETEACL Projects " + n.annas: "NO [CANNOT]",
		"SETACL Projects " + n.annas + " +l": "OK", "SETACL Projects " + n.annas + " lrswipkxtea": "OK",
		"SETACL Projects anyone lr": "NO [CANNOT]", "SETACL Projects anonymous lr": "NO [CANNOT]", "SETACL Projects -" + n.bos + " lr": "NO [CANNOT]", `SETACL Projects "" lr`: "NO [CANNOT]",
		"SETACL Projects $group lr": "NO [CANNOT]", "SETACL Projects nobody@example.test lr": "NO [CANNOT]", "SETACL Projects nobody lr": "NO [CANNOT]", "LISTRIGHTS Projects anyone": "NO [CANNOT]",
		"SETACL nowhere " + n.bos + " lr": "NO [NONEXISTENT]", "SETACL nowhere anyone lr": "NO [NONEXISTENT]", "DELETEACL nowhere " + n.bos: "NO [NONEXISTENT]", "GETACL nowhere": "NO [NONEXISTENT]", "MYRIGHTS nowhere": "NO [NONEXISTENT]",
		"SETACL Projects " + n.bos + " lrz": "BAD", "SETACL Projects " + n.bos + " L": "BAD", "SETACL Projects " + n.bos + " l+r": "BAD", "SETACL Projects " + n.bos: "BAD", "GETACL": "BAD", "MYRIGHTS Projects x": "BAD",
		"SETACL Projects " + strings.Repeat("x", 321) + " l": "NO [LIMIT]",
	} {
		a.want(cmd, want)
	}
	// What is made below has its parent's rights, and a rename keeps them.
	a.expect("MYRIGHTS Projects/deep", `* MYRIGHTS "Projects/deep" `+all)
	a.ok("CREATE Projects/new/er")
	a.ok("RENAME Projects Work")
	a.expect("GETACL Work/new/er", `* ACL "Work/new/er" "`+n.annas+`" `+all+` "`+n.bos+`" lkac`)
	b.expect(`LIST "" "Other*" RETURN (MYRIGHTS)`,
		`* LIST (\NonExistent \HasChildren) "/" "Other Users"`,
		`* LIST (\NonExistent \HasChildren) "/" "Other Users/`+n.annas+`"`,
		`* LIST (\HasChildren) "/" "Other Users/`+n.annas+`/Work"`, `* MYRIGHTS "Other Users/`+n.annas+`/Work" lkac`,
		`* LIST (\HasChildren) "/" "Other Users/`+n.annas+`/Work/new"`, `* MYRIGHTS "Other Users/`+n.annas+`/Work/new" lkac`,
		`* LIST (\HasNoChildren) "/" "Other Users/`+n.annas+`/Work/new/er"`, `* MYRIGHTS "Other Users/`+n.annas+`/Work/new/er" lkac`)
}

func testShared(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "shared")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects/a")
	a.ok("CREATE Projects/b")
	for i := range 3 {
		n.anna.appendMessage("Projects", fmt.Sprintf("Subject: %d\r\n\r\nhello %d\r\n", i, i))
	}
	top := `"Other Users/` + n.annas + `"`
	b.expect("LIST \"\" \"Other*\"")
	n.give(a, "Projects", "lrswit")
	n.give(a, "Projects/b", "r")
	n.give(a, "INBOX", "lr")
	in := `"Other Users/` + n.annas + `/INBOX"`
	b.expect(`LIST "" "Other Users/%/%"`, `* LIST (\HasNoChildren) "/" `+in, `* LIST (\HasNoChildren) "/" `+n.projects)
	b.expect(`LIST "" "Other%"`, `* LIST (\NonExistent \Noselect \HasChildren) "/" "Other Users"`)
	b.expect(`LIST "" `+top, `* LIST (\NonExistent \Noselect \HasChildren) "/" `+top)
	if got := b.ok(`LIST "" *`); !slices.Contains(got, `* LIST (\HasNoChildren) "/" `+n.projects) || !slices.Contains(got, `* LIST (\HasNoChildren) "/" INBOX`) {
		t.Errorf("%q", got)
	}
	b.expect(`LIST "" Sent* RETURN (SPECIAL-USE)`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`)
	// Subscriptions are the user's own.
	b.ok("SUBSCRIBE " + n.projects)
	b.want(`SUBSCRIBE "Other Users/`+n.annas+`/Projects/a"`, "NO [NONEXISTENT]")
	b.want(`SUBSCRIBE "Other Users/nobody@example.test/x"`, "NO [NONEXISTENT]")
	b.expect(`LSUB "" "Other*"`, `* LSUB () "/" `+n.projects)
	b.expect(`LIST (SUBSCRIBED) "" "Other*" RETURN (STATUS (MESSAGES))`, `* LIST (\HasNoChildren \Subscribed) "/" `+n.projects, "* STATUS "+n.projects+" (MESSAGES 3)")
	if got := a.ok(`LSUB "" *`); slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, "Projects") }) {
		t.Errorf("%q", got)
	}
	b.expect("STATUS "+n.projects+" (MESSAGES UNSEEN RECENT)", "* STATUS "+n.projects+" (MESSAGES 3 UNSEEN 3 RECENT 0)")
	// Flags are shared, as far as the rights go.
	got := b.ok("SELECT " + n.projects)
	if !slices.Contains(got, `* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft \*)] Permanent flags`) || !strings.HasPrefix(got[len(got)-1], "OK [READ-WRITE]") {
		t.Errorf("%q", got)
	}
	a.ok("SELECT Projects")
	b.expect("FETCH 1 BODY[TEXT]", `* 1 FETCH (FLAGS (\Seen) BODY[TEXT] {9}`, "hello 0", ")")
	b.expect(`STORE 2 FLAGS (\Flagged work)`, `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft work)`, `* 2 FETCH (FLAGS (\Flagged work))`)
	a.expect("NOOP", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft work)`, `* 1 FETCH (UID 1 FLAGS (\Seen))`, `* 2 FETCH (UID 2 FLAGS (\Flagged work))`)
	b.ok(`STORE 3 +FLAGS (\Deleted)`)
	b.want("EXPUNGE", "NO [NOPERM]")
	b.want("UID EXPUNGE 1:*", "NO [NOPERM]")
	b.ok("CLOSE")
	b.expect("STATUS "+n.projects+" (MESSAGES DELETED)", "* STATUS "+n.projects+" (MESSAGES 3 DELETED 1)")
	b.ok("SELECT " + n.projects)
	b.expect("SEARCH TEXT hello", "* SEARCH 1 2 3")
	// An APPEND is the owner's message, with the flags that the user may set.
	n.give(a, "Projects", "lri")
	b.ok("APPEND " + n.projects + ` (\Seen \Deleted k) {6+}` + "\r\nx: y\r\n")
	b.ok("APPEND " + n.projects + " {6+}\r\nx: z\r\n {6+}\r\nx: w\r\n")
	b.expect("UID FETCH 4:6 FLAGS", "* 4 FETCH (UID 4 FLAGS ())", "* 5 FETCH (UID 5 FLAGS ())", "* 6 FETCH (UID 6 FLAGS ())")
	got = b.ok("SELECT " + n.projects)
	if !slices.Contains(got, `* OK [PERMANENTFLAGS ()] Permanent flags`) || !strings.HasPrefix(got[len(got)-1], "OK [READ-WRITE]") {
		t.Errorf("%q", got)
	}
	b.expect("FETCH 4 BODY[]", "* 4 FETCH (BODY[] {6}", "x: y", ")") // without s nothing is marked
	got = b.ok("SELECT " + in)
	if !slices.Contains(got, `* OK [PERMANENTFLAGS ()] Permanent flags`) || !strings.HasPrefix(got[len(got)-1], "OK [READ-ONLY]") {
		t.Errorf("%q", got)
	}
	b.want(`STORE 1 +FLAGS (\Seen)`, "NO [NOPERM]")
	// What hangs on a mailbox.
	n.give(a, "Projects", "lrwi")
	a.ok(`SETMETADATA Projects (/shared/comment "ours" /private/comment "hers")`)
	b.ok("SETMETADATA " + n.projects + ` (/private/comment "his")`)
	b.expect("GETMETADATA "+n.projects+" (/shared/comment /private/comment)", "* METADATA "+n.projects+` (/shared/comment "ours" /private/comment "his")`)
	a.expect("GETMETADATA Projects (/private/comment)", `* METADATA "Projects" (/private/comment "hers")`)
	b.expect(`LIST "" `+n.projects+` RETURN (METADATA (/shared/comment /private/comment))`, `* LIST (\HasNoChildren) "/" `+n.projects,
		"* METADATA "+n.projects+` (/shared/comment "ours" /private/comment "his")`)
	b.expect(`LIST "" `+in+` RETURN (METADATA (/shared/comment))`, `* LIST (\HasNoChildren) "/" `+in, "* METADATA "+in+" (/shared/comment NIL)")
	b.expect("GETQUOTAROOT "+n.projects, "* QUOTAROOT "+n.projects+` "`+n.annas+`"`, `* QUOTA "`+n.annas+`" ()`)
	b.expect("GETQUOTA "+n.annas, `* QUOTA "`+n.annas+`" ()`)
	b.expect("GETQUOTA "+strings.ToUpper(n.annas), `* QUOTA "`+n.annas+`" ()`)
	a.want("GETQUOTA "+n.bos, "NO [NONEXISTENT]")
	// Making, renaming, deleting.
	n.give(a, "Projects", "lrkx")
	sub := strings.TrimSuffix(n.projects, `"`)
	b.ok("CREATE " + sub + `/x"`)
	b.ok("RENAME " + sub + `/x" ` + sub + `/y"`)
	b.want("RENAME "+sub+`/y" mine`, "NO [CANNOT]")
	b.want("RENAME Sent "+sub+`/z"`, "NO [CANNOT]")
	b.want("CREATE "+sub+`/z" (USE (\Sent))`, "NO [USEATTR]")
	b.ok("DELETE " + sub + `/y"`)
	a.expect(`LIST "" Projects/%`, `* LIST (\HasNoChildren) "/" "Projects/a"`, `* LIST (\HasNoChildren) "/" "Projects/b"`)
	b.ok("UNSUBSCRIBE " + n.projects)
	// Names below the prefix without an address are one's own.
	b.ok(`CREATE "Other Users/list"`)
	b.ok(`SELECT "Other Users/list"`)
	b.ok(`DELETE "Other Users/list"`)
}

// What a right alone does not allow is refused, in the same words whether there is such a mailbox or the user may not know of it.
func testLacking(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "lacking")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects/below")
	n.anna.appendMessage("Projects", "Subject: x\r\n\r\nx\r\n")
	n.bo.appendMessage("INBOX", "Subject: y\r\n\r\ny\r\n")
	const box = "BOX"
	commands := []string{
		"SELECT BOX", "EXAMINE BOX", "STATUS BOX (MESSAGES)", "APPEND BOX {3+}\r\nabc", "APPEND BOX {3+}\r\nabc {3+}\r\nabc", "DELETE BOX", "RENAME BOX BOXx", "GETMETADATA BOX /shared/comment", `SETMETADATA BOX (/shared/comment "x")`, "GETQUOTAROOT BOX",
		"GETACL BOX", "SETACL BOX " + n.annas + " l", "SETACL BOX nobody l", "DELETEACL BOX " + n.bos, "LISTRIGHTS BOX " + n.bos,
	}
	selected := []string{"COPY 1 BOX", "MOVE 1 BOX", "UID COPY 1 BOX"}
	run := func(name, want string) {
		t.Helper()
		b.ok("SELECT INBOX")
		for _, cmd := range append(commands, selected...) {
			b.ok("SELECT INBOX")
			cmd = strings.ReplaceAll(cmd, box, `"Other Users/`+n.annas+"/"+name+`"`)
			if strings.HasPrefix(cmd, "RENAME") {
				cmd = strings.TrimSuffix(cmd, `"x`) + `x"`
			}
			into := strings.Contains(cmd, "APPEND") || strings.Contains(cmd, "COPY") || strings.Contains(cmd, "MOVE")
			if into && want == "NO [NONEXISTENT]" {
				b.want(cmd, "NO [TRYCREATE]")
			} else {
				b.want(cmd, want)
			}
		}
	}
	run("nothing", "NO [NONEXISTENT]")
	run("Projects", "NO [NONEXISTENT]")
	b.want(`MYRIGHTS "Other Users/`+n.annas+`/Projects"`, "NO [NONEXISTENT]")
	b.want(`CREATE "Other Users/`+n.annas+`/Projects"`, "NO [NOPERM]")
	b.want(`CREATE "Other Users/`+n.annas+`/nothing"`, "NO [NOPERM]")
	for _, name := range []string{"Other Users/nobody@example.test/x", "Other Users/" + n.annas, "Other Users/" + n.bos + "/INBOX", "Other Users/" + n.annas + "/"} {
		b.want(fmt.Sprintf("SELECT %q", name), "NO [NONEXISTENT]")
	}
	b.want("GETQUOTA "+n.annas, "NO [NONEXISTENT]")
	n.give(a, "Projects", "l")
	run("Projects", "NO [NOPERM]")
	b.want("GETQUOTA "+n.annas, "NO [NONEXISTENT]")
	b.want(`LIST "" "Other Users/%/%" RETURN (STATUS (MESSAGES))`, "OK")
	a.expect(`LIST "" Projects*`, `* LIST (\HasChildren) "/" "Projects"`, `* LIST (\HasNoChildren) "/" "Projects/below"`)
	a.expect("STATUS Projects (MESSAGES)", `* STATUS "Projects" (MESSAGES 1)`)
}

func testWithdrawn(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "withdrawn")
	a := n.anna.rawUser("")
	a.ok("CREATE Projects")
	n.anna.appendMessage("Projects", "Subject: x\r\n\r\nx\r\n")
	for _, step := range []struct{ left, bye string }{
		{"l", "* BYE [NOPERM] The right to read the selected mailbox was taken away\r\n"},
		{"", "* BYE [NONEXISTENT] The selected mailbox was deleted, or is not shared any more\r\n"},
	} {
		n.give(a, "Projects", "lrsw")
		idle, quiet, others := n.bo.rawUser(n.projects), n.bo.rawUser(n.projects), make(map[string]*raw)
		quiet.ok("NOTIFY NONE")
		for _, cmd := range []string{"FETCH 1 BODY[]", "FETCH 1 UID", "SEARCH ALL", "SEARCH TEXT x", "SEARCH SUBJECT x", "SORT (SUBJECT) UTF-8 ALL", `STORE 1 +FLAGS (\Seen)`, "NOOP"} {
			others[cmd] = n.bo.rawUser(n.projects)
			others[cmd].expect("SEARCH SUBJECT x", "* SEARCH 1") // what is remembered of its messages must not be told either
			others[cmd].expect("SORT (SUBJECT) UTF-8 ALL", "* SORT 1")
		}
		if n.bo.srv.memory.columns.Stats().Hits == 0 {
			t.Error("nothing is remembered")
		}
		idle.send("i IDLE\r\n")
		if got := idle.line(); got != "+ idling" {
			t.Fatal(got)
		}
		n.give(a, "Projects", step.left)
		if got := idle.eof(); got != step.bye {
			t.Errorf("in IDLE: %q", got)
		}
		if got := quiet.eof(); got != step.bye {
			t.Errorf("after NOTIFY NONE: %q", got)
		}
		for cmd, other := range others {
			other.send("x " + cmd + "\r\n")
			got := other.eof()
			if !strings.HasPrefix(got, step.bye) {
				t.Errorf("at %s: %q", cmd, got)
			}
		}
	}
	// Rights to change are taken from an open session at once, which goes on reading.
	n.give(a, "Projects", "lrswte")
	b := n.bo.rawUser(n.projects)
	n.give(a, "Projects", "lr")
	b.want(`STORE 1 +FLAGS (\Deleted)`, "NO [NOPERM]")
	b.expect("FETCH 1 (BODY[TEXT])", "* 1 FETCH (BODY[TEXT] {3}", "x", ")")
	b.want("EXPUNGE", "NO [NOPERM]")
	b.ok("NOOP")
	// CLOSE leaves what he may not expunge any more (RFC 4314 section 4).
	n.give(a, "Projects", "lrt")
	b.ok("SELECT " + n.projects)
	b.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	for _, enable := range []string{"NOOP", "ENABLE CONDSTORE"} {
		b.ok(enable)
		for _, left := range []string{"lr", "r"} {
			n.give(a, "Projects", "lrte")
			b.ok("SELECT " + n.projects)
			n.give(a, "Projects", left)
			b.ok("CLOSE")
			b.want("CHECK", "BAD")
		}
	}
	a.expect("STATUS Projects (MESSAGES DELETED)", `* STATUS "Projects" (MESSAGES 1 DELETED 1)`)
	a.expect("STATUS Projects (MESSAGES UNSEEN)", `* STATUS "Projects" (MESSAGES 1 UNSEEN 1)`)
}

func testNotifyShared(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "notifyshared")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects")
	b.ok("NOTIFY SET (subtree \"Other Users\" (MessageNew MessageExpunge MailboxName))")
	n.give(a, "Projects", "lr")
	heard := func(want string) { // beside what is said of the names above
		t.Helper()
		for got := b.line(); got != want; got = b.line() {
			if !strings.HasPrefix(got, `* LIST (\NonExistent`) {
				t.Fatalf("heard %q, want %q", got, want)
			}
		}
	}
	heard(`* LIST (\HasNoChildren) "/" ` + n.projects)
	n.anna.appendMessage("Projects", "Subject: x\r\n\r\nx\r\n")
	heard("* STATUS " + n.projects + " (MESSAGES 1 UIDNEXT 2)")
	// What a guest does himself is not told to him, and a search of his that is kept up to date hears of the owner's doings.
	n.give(a, "Projects", "lrit")
	b.ok("APPEND " + n.projects + " {3+}\r\nabc")
	other := n.bo.rawUser("")
	other.ok("SELECT " + n.projects)
	other.ok("UID SEARCH RETURN (UPDATE ALL) DELETED")
	a.ok("SELECT Projects")
	a.ok(`STORE 2 +FLAGS.SILENT (\Deleted)`)
	var got []string
	clustertest.Eventually(t, 10*time.Second, func() bool {
		got = other.ok("NOOP")
		return slices.ContainsFunc(got, func(l string) bool {
			return strings.HasPrefix(l, "* ESEARCH") && strings.HasSuffix(l, " UID ADDTO (0 2)")
		})
	}, func() string { return fmt.Sprintf("the search hears of the owner's STORE: %q", got) })
	n.give(a, "Projects", "")
	heard(`* LIST (\NonExistent) "/" ` + n.projects)
}

func testAcross(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "across")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects")
	n.give(a, "Projects", "lrswite")
	for i := range 5 {
		n.bo.appendMessage("INBOX", fmt.Sprintf("Subject: %d\r\n\r\nhello %d\r\n", i, i))
	}
	b.ok("SELECT INBOX")
	b.ok(`STORE 2 +FLAGS (\Flagged work)`)
	got := b.ok("COPY 1:2 " + n.projects)
	if last := got[len(got)-1]; !strings.HasPrefix(last, "OK [COPYUID ") || !strings.Contains(last, " 1:2 1:2]") {
		t.Errorf("%q", got)
	}
	got = b.ok("MOVE 3:4 " + n.projects)
	if len(got) != 4 || !strings.Contains(got[0], " 3:4 3:4]") || got[1] != "* 4 EXPUNGE" || got[2] != "* 3 EXPUNGE" {
		t.Errorf("%q", got)
	}
	b.expect("STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 3)")
	b.ok("SELECT " + n.projects)
	b.expect("FETCH 1:* (FLAGS INTERNALDATE)",
		`* 1 FETCH (FLAGS () INTERNALDATE "15-Jun-2025 23:06:40 +0800")`, `* 2 FETCH (FLAGS (\Flagged work) INTERNALDATE "15-Jun-2025 23:06:40 +0800")`,
		`* 3 FETCH (FLAGS () INTERNALDATE "15-Jun-2025 23:06:40 +0800")`, `* 4 FETCH (FLAGS () INTERNALDATE "15-Jun-2025 23:06:40 +0800")`)
	b.expect("FETCH 3 BODY.PEEK[TEXT]", "* 3 FETCH (BODY[TEXT] {9}", "hello 2", ")")
	b.ok("MOVE 4 Archive")
	b.expect("STATUS Archive (MESSAGES)", `* STATUS "Archive" (MESSAGES 1)`)
	b.ok("COPY 1 " + n.projects)
	b.expect("STATUS "+n.projects+" (MESSAGES)", "* STATUS "+n.projects+" (MESSAGES 4)")
	b.ok("REPLACE 4 " + n.projects + " {6+}\r\nx: y\r\n")
	b.want("REPLACE 4 INBOX {6+}\r\nx: y\r\n", "NO [CANNOT]")
	// Who may only read copies out, and moves nothing.
	n.give(a, "Projects", "lr")
	b.ok("SELECT " + n.projects)
	b.ok("COPY 1:2 Archive")
	b.want("MOVE 1 Archive", "NO [NOPERM]")
	b.expect("STATUS Archive (MESSAGES)", `* STATUS "Archive" (MESSAGES 3)`)
	// The right is taken while the messages are on their way: nothing is in two places.
	n.give(a, "Projects", "lrte")
	b.ok("SELECT " + n.projects)
	n.bo.mail.at(func(op string) error {
		if op == "expunge" {
			n.bo.mail.at(nil)
			n.give(a, "Projects", "lr")
		}
		return nil
	})
	b.want("MOVE 1 Archive", "NO [NOPERM]")
	b.expect("STATUS Archive (MESSAGES)", `* STATUS "Archive" (MESSAGES 3)`)
	// More than one command takes; and a step that fails leaves nothing.
	many := client.MaxBatch + 20
	for range many {
		n.bo.appendMessage("Drafts", "Subject: many\r\n\r\nx\r\n")
	}
	n.give(a, "Projects", "lri")
	b.ok("SELECT Drafts")
	commits := 0
	n.bo.mail.at(func(op string) error {
		if op == "commit" {
			if commits++; commits == 2 {
				return client.ErrUnavailable
			}
		}
		return nil
	})
	before := strings.Join(a.ok("STATUS Projects (MESSAGES)"), "")
	b.want("COPY 1:* "+n.projects, "NO [UNAVAILABLE]")
	if after := strings.Join(a.ok("STATUS Projects (MESSAGES)"), ""); after != before || commits != 2 {
		t.Errorf("%d commits; before %q, after %q", commits, before, after)
	}
	n.bo.mail.at(nil)
	got = b.ok("COPY 1:* " + n.projects)
	if last := got[len(got)-1]; !strings.Contains(last, fmt.Sprintf(" 1:%d ", many)) {
		t.Errorf("%q", got)
	}
	// The owner pays.
	ctx := t.Context()
	q, err := n.anna.mail.Quota(ctx, n.anna.account)
	if err != nil || q.Used.Messages < uint64(many) {
		t.Error(q, err)
	}
	if _, err := n.bo.mail.Visit(ctx, n.bo.account, n.bos); !errors.Is(err, client.ErrNoMailbox) {
		t.Error(err)
	}
}

// testMoveOut has rights taken while bo moves messages out of anna's mailbox, and marks: what he may not remove stays as it was, and nothing is in two places.
func testMoveOut(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "moveout")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects")
	for range 4 {
		n.anna.appendMessage("Projects", "Subject: out\r\n\r\nx\r\n")
	}
	a.ok("SELECT Projects")
	a.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	reader, watch := n.anna.rawUser(""), n.bo.rawUser("")
	flags := func() string {
		reader.ok("SELECT Projects")
		return strings.Join(reader.ok("FETCH 1:* FLAGS"), "\n")
	}
	archived := func() (count int) {
		if _, err := fmt.Sscanf(watch.ok("STATUS Archive (MESSAGES)")[0], `* STATUS "Archive" (MESSAGES %d)`, &count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	once := func(at string, fn func()) {
		n.bo.mail.at(func(op string) error {
			if op == at {
				n.bo.mail.at(nil)
				fn()
			}
			return nil
		})
	}
	was, had := flags(), archived()
	for _, step := range []struct{ at, left string }{{"commit", "lre"}, {"commit", "lrt"}, {"expunge", "lrt"}, {"expunge", "lr"}} {
		n.give(a, "Projects", "lrte")
		b.ok("SELECT " + n.projects)
		once(step.at, func() { n.give(a, "Projects", step.left) })
		b.want("MOVE 1:3 Archive", "NO [NOPERM]")
		if now, has := flags(), archived(); now != was || has != had {
			t.Errorf("%s is left at %s: %d messages are in Archive, not %d; anna has\n%s\nwant\n%s", step.left, step.at, has, had, now, was)
		}
	}
	// He may not even know of it any more: his copies stay, and her mailbox is as it was.
	n.give(a, "Projects", "lrte")
	other := n.bo.rawUser(n.projects)
	once("expunge", func() { n.give(a, "Projects", "") })
	other.send("m MOVE 1:3 Archive\r\ni IDLE\r\n")
	if got := other.eof(); !strings.Contains(got, "* BYE [NONEXISTENT]") {
		t.Errorf("%q", got)
	}
	if now := flags(); now != was {
		t.Errorf("without any right: anna has\n%s\nwant\n%s", now, was)
	}
	// Somebody takes the mark from a message in between.
	n.give(a, "Projects", "lrte")
	had = archived()
	b.ok("SELECT " + n.projects)
	once("expunge", func() { a.ok(`STORE 2 -FLAGS (\Deleted)`) })
	got := b.want("MOVE 2:3 Archive", "NO Somebody else")
	if !strings.HasPrefix(got[0], "* OK [COPYUID ") || !slices.Contains(got, "* 3 EXPUNGE") || slices.Contains(got, "* 2 EXPUNGE") {
		t.Errorf("%q", got)
	}
	if has := archived(); has != had+1 {
		t.Errorf("%d messages are in Archive, not %d", has, had+1)
	}
}

// testWithdrawnNotes: a guest's private annotations end with his right to have some, whoever takes it; those that all share stay, as do the owner's.
func testWithdrawnNotes(t *testing.T, c *clustertest.Cluster) {
	n := newNeighbours(t, c, "notes")
	a, b := n.anna.rawUser(""), n.bo.rawUser("")
	a.ok("CREATE Projects")
	a.ok(`SETMETADATA Projects (/private/comment "hers")`)
	holds := func(doing string, his int) {
		t.Helper()
		list, err := n.anna.mail.Annotations(t.Context(), n.anna.account, "Projects")
		if err != nil {
			t.Fatal(err)
		}
		of := make(map[uint64]int)
		for i := range list {
			of[list[i].User]++
		}
		if of[n.bo.account.ID] != his || of[n.anna.account.ID] != 1 || of[0] != 1 {
			t.Errorf("%s: %d annotations are his, not %d, %d hers, %d of all", doing, of[n.bo.account.ID], his, of[n.anna.account.ID], of[0])
		}
	}
	const his = client.MaxAnnotationsAtOnce + 5
	note := func() {
		t.Helper()
		b.ok("SETMETADATA " + n.projects + ` (/shared/comment "ours")`)
		for i := range his {
			b.ok(fmt.Sprintf(`SETMETADATA %s (/private/vendor/x/%d "his")`, n.projects, i))
		}
		holds("set", his)
	}
	for _, step := range []struct{ given, kept, taken string }{{"lrw", "-w", "-r"}, {"lrw", "lrk", "lk"}, {"lsa", "+p", "-l"}, {"lwi", "+l", ""}} {
		n.give(a, "Projects", step.given)
		note()
		n.give(a, "Projects", step.kept)
		holds(step.given+" "+step.kept, his)
		n.give(a, "Projects", step.taken)
		holds(step.given+" "+step.taken, 0)
	}
	n.give(a, "Projects", "lra")
	note()
	b.ok("SETACL " + n.projects + " " + n.bos + " -r")
	holds("taken by himself", 0)
	n.give(a, "Projects", "lra")
	note()
	a.ok("DELETEACL Projects " + n.bos)
	holds("DELETEACL", 0)
}
