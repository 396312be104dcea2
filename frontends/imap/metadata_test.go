package imap

import (
	"fmt"
	"strings"
	"testing"

	"hongyan/cluster/clustertest"
)

func testMetadata(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "metadata", nil)
	r, other := st.rawUser(""), st.rawUser("")
	if !strings.Contains(r.ok("CAPABILITY")[0], " METADATA") {
		t.Error("not offered")
	}
	r.ok("SETMETADATA INBOX (/private/comment {6+}\r\na\r\nb\r\n /Shared/Comment \"This one is for you!\")")
	other.expect("GETMETADATA INBOX (/shared/comment /private/comment)", `* METADATA INBOX (/shared/comment "This one is for you!" /private/comment {6}`, "a", "b", ")")
	r.ok("SETMETADATA INBOX (/shared/vendor/x/a ~{3+}\r\na\x00b /shared/vendor/x/a/b \"\" /private/comment NIL)")
	r.expect("GETMETADATA (DEPTH infinity) INBOX /shared/vendor", "* METADATA INBOX (/shared/vendor/x/a ~{3}", "a\x00b /shared/vendor/x/a/b \"\")")
	r.expect("GETMETADATA (MAXSIZE 2 DEPTH 1) INBOX /shared/vendor/x/a", `* METADATA INBOX (/shared/vendor/x/a/b "")`)
	r.expect("GETMETADATA INBOX (MAXSIZE 2 DEPTH 1) (/shared/vendor/x/a)", `* METADATA INBOX (/shared/vendor/x/a/b "")`) // as in section 4.2.2
	for _, args := range []string{"(DEPTH 1 /shared)", "(/shared DEPTH 1)", "(DEPTH 1)", "(DEPTH 1) (DEPTH 1)", "(DEPTH 1) (DEPTH 1) /shared", "()"} {
		r.want("GETMETADATA INBOX "+args, "BAD")
	}
	r.want("GETMETADATA (DEPTH 1) INBOX (DEPTH 1) /shared", "BAD")
	if got := r.ok("GETMETADATA (MAXSIZE 5) INBOX (/shared/comment)"); len(got) != 1 || !strings.HasPrefix(got[0], "OK [METADATA LONGENTRIES 20]") {
		t.Errorf("%q", got)
	}
	r.expect("GETMETADATA INBOX /private/comment", "* METADATA INBOX (/private/comment NIL)")
	// They follow the mailbox, and its grave keeps them.
	r.ok("CREATE notes")
	r.ok(`SETMETADATA notes (/shared/comment "x")`)
	r.ok("RENAME notes paper")
	r.expect("GETMETADATA paper /shared/comment", `* METADATA "paper" (/shared/comment "x")`)
	r.ok("DELETE paper")
	r.ok("CREATE paper")
	r.expect("GETMETADATA paper /shared/comment", `* METADATA "paper" (/shared/comment NIL)`)
	r.ok("RENAME INBOX old")
	for _, box := range []string{"INBOX", `"old"`} {
		r.expect("GETMETADATA "+box+" /shared/comment", "* METADATA "+box+` (/shared/comment "This one is for you!")`)
	}
	r.ok(`SETMETADATA "" (/private/vendor/x/y "mine")`)
	r.expect(`GETMETADATA "" /private/vendor/x/y`, `* METADATA "" (/private/vendor/x/y "mine")`)
	for cmd, want := range map[string]string{
		`SETMETADATA "" (/shared/comment "all")`: "NO [NOPERM]", `SETMETADATA nowhere (/shared/comment "x")`: "NO [NONEXISTENT]", "GETMETADATA nowhere /shared/comment": "NO [NONEXISTENT]",
		"SETMETADATA INBOX (/shared/comment {8193}": "NO [METADATA MAXSIZE 8192]", "SETMETADATA INBOX (/other/comment \"x\")": "BAD",
	} {
		r.want(cmd, want)
	}
	for i := range 5 {
		var entries []string
		for j := range 20 {
			entries = append(entries, fmt.Sprintf(`/shared/vendor/many/%d-%d "x"`, i, j))
		}
		r.ok("SETMETADATA Sent (" + strings.Join(entries, " ") + ")")
	}
	r.want(`SETMETADATA Sent (/shared/comment "too many" /shared/vendor/many/0-0 NIL)`, "NO [METADATA TOOMANY]")
	r.ok(`SETMETADATA Sent (/shared/vendor/many/0-0 NIL)`)
	r.ok(`SETMETADATA Sent (/shared/comment "fits")`)
	// LIST tells them with the mailboxes (RFC 9590).
	r.expect(`LIST "" (Sent paper) RETURN (METADATA (/shared/Comment /private/comment) STATUS (MESSAGES))`,
		`* LIST (\HasNoChildren \Sent) "/" "Sent"`, `* STATUS "Sent" (MESSAGES 0)`, `* METADATA "Sent" (/shared/comment "fits" /private/comment NIL)`,
		`* LIST (\HasNoChildren) "/" "paper"`, `* STATUS "paper" (MESSAGES 0)`, `* METADATA "paper" (/shared/comment NIL /private/comment NIL)`)
	r.expect(`LIST (SUBSCRIBED) "" nowhere RETURN (METADATA (/shared/comment))`)
	// NOTIFY tells names.
	r.ok("NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
	other.ok(`SETMETADATA Sent (/shared/comment NIL)`)
	r.hears(`* METADATA "Sent" /shared/comment`)
	other.ok(`SETMETADATA "" (/private/vendor/x/y "other")`)
	r.hears(`* METADATA "" /private/vendor/x/y`)
	r.ok(`SETMETADATA Sent (/shared/vendor/many/0-1 NIL /shared/comment "mine")`) // not told: the client knows
	r.ok(`SETMETADATA "" (/private/vendor/x/y "mine")`)
	other.ok(`SETMETADATA Sent (/shared/vendor/many/0-2 NIL)`)
	r.hears(`* METADATA "Sent" /shared/vendor/many/0-2`)
}
