package imap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/frontends/imap/command"
)

// testContexts follows the examples of RFC 5267: a client hears how results change, with what causes it.
func testContexts(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "contexts", nil)
	st.fill("INBOX", 6)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	search := func(tag, cmd string, want ...string) {
		t.Helper()
		r.send(tag + " " + cmd + "\r\n")
		if got := r.until(tag); !slices.Equal(got, append(want, "OK "+strings.TrimSuffix(cmd[:strings.Index(cmd, " RETURN")], " ")+" completed")) {
			t.Errorf("%s: %q", cmd, got)
		}
	}
	r.ok(`STORE 2 +FLAGS (\Deleted $Junk)`)
	search("B01", "UID SEARCH RETURN (UPDATE COUNT) DELETED KEYWORD $Junk", `* ESEARCH (TAG "B01") UID COUNT 1`)
	search("N", "SEARCH RETURN (UPDATE) DELETED", `* ESEARCH (TAG "N")`)
	search("A", "SEARCH RETURN (CONTEXT) UID 2:3", `* ESEARCH (TAG "A") ALL 2:3`)
	r.send("B01 SEARCH RETURN (UPDATE) FLAGGED\r\n")
	if got := r.until("B01"); got[0] != "BAD [CLIENTBUG] A search with this tag is being updated" {
		t.Errorf("%q", got)
	}

	// What others change, and what the client changes itself.
	other.ok("NOOP")
	other.ok(`STORE 4:5 FLAGS (\Deleted $Junk)`)
	other.ok(`STORE 6 FLAGS (\Deleted)`)
	r.expect("NOOP", `* 4 FETCH (UID 4 FLAGS (\Deleted $Junk))`, `* 5 FETCH (UID 5 FLAGS (\Deleted $Junk))`, `* 6 FETCH (UID 6 FLAGS (\Deleted))`,
		`* ESEARCH (TAG "B01") UID ADDTO (0 4:5)`, `* ESEARCH (TAG "N") ADDTO (0 4:6)`)
	r.expect("STORE 5:6 -FLAGS.SILENT ($Junk)", `* ESEARCH (TAG "B01") UID REMOVEFROM (0 5)`)
	r.expect("STORE 5 +FLAGS.SILENT ($Junk)", `* ESEARCH (TAG "B01") UID ADDTO (0 5)`)
	r.expect("STORE 5 +FLAGS.SILENT ($Other)", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Junk $Other)`)

	// A message leaves before its EXPUNGE is told, also where that has to wait.
	other.ok("NOOP")
	other.ok(`UID EXPUNGE 4`)
	r.expect("FETCH 1 UID", "* 1 FETCH (UID 1)", `* ESEARCH (TAG "B01") UID REMOVEFROM (0 4)`, `* ESEARCH (TAG "N") REMOVEFROM (0 4)`)
	r.expect("NOOP", "* 4 EXPUNGE")
	r.expect("EXPUNGE", `* ESEARCH (TAG "B01") UID REMOVEFROM (0 2,5)`, `* ESEARCH (TAG "N") REMOVEFROM (0 2,4:5)`, "* 5 EXPUNGE", "* 4 EXPUNGE", "* 2 EXPUNGE")

	// New messages, and what is told of them (RFC 5465 section 7).
	r.ok(`CANCELUPDATE "B01" "N"`)
	r.want(`CANCELUPDATE "B01"`, "NO")
	search("F", "SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (Subject)])) SUBJECT boss UID 5:*", `* ESEARCH (TAG "F") COUNT 0`)
	search("S", "SEARCH RETURN (COUNT UPDATE) 1:2", `* ESEARCH (TAG "S") COUNT 2`)
	st.appendMessage("INBOX", "Subject: the boss\r\n\r\nx\r\n")
	st.appendMessage("INBOX", "Subject: nobody\r\n\r\nx\r\n")
	told := []string{"* 3 FETCH (UID 7 BODY[HEADER.FIELDS (Subject)] {21}", "Subject: the boss", "", ")"}
	r.expect("NOOP", slices.Concat([]string{"* 4 EXISTS", `* ESEARCH (TAG "F") ADDTO (0 3)`}, told)...)
	r.ok("APPEND INBOX {23+}\r\nSubject: my boss\r\n\r\nme\r\n")
	r.quiet()
	r.send("i IDLE\r\n")
	r.hears("+ idling")
	other.ok("NOOP")
	other.ok(`STORE 3 +FLAGS (\Deleted)`)
	r.hears(`* 3 FETCH (UID 7 FLAGS (\Deleted))`)
	other.ok("EXPUNGE")
	r.hears(`* ESEARCH (TAG "F") REMOVEFROM (0 3)`, "* 3 EXPUNGE")
	r.send("DONE\r\n")
	r.until("i")

	// Another mailbox has none of it.
	r.ok("SELECT Trash")
	r.ok("SELECT INBOX")
	st.appendMessage("INBOX", "Subject: boss\r\n\r\nx\r\n")
	r.expect("NOOP", "* 5 EXISTS")
}

// testNoContexts: which searches are not kept up to date, and how many are.
func testNoContexts(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "nocontexts", nil)
	st.fill("INBOX", 3)
	r := st.rawUser("INBOX")
	for _, key := range []string{"OR SEEN YOUNGER 5", "(OLDER 5)", "MODSEQ 500000"} {
		got := r.ok("SEARCH RETURN (COUNT UPDATE) " + key)
		if l := got[len(got)-2]; !strings.HasPrefix(l, fmt.Sprintf(`* NO [NOUPDATE "t%d"] `, r.n)) || !strings.Contains(got[len(got)-3], "COUNT ") {
			t.Errorf("%s: %q", key, got)
		}
	}
	r.expect("UID SORT RETURN (COUNT UPDATE) (DATE) UTF-8 KEYWORD $Junk", fmt.Sprintf(`* ESEARCH (TAG "t%d") UID COUNT 0`, r.n+1),
		fmt.Sprintf(`* NO [NOUPDATE "t%d"] Results in an order are not kept up to date`, r.n+1))
	for i := range maxContexts + 1 {
		want := []string{fmt.Sprintf(`* ESEARCH (TAG "t%d") COUNT 0`, r.n+1)}
		if i == maxContexts {
			want = append(want, fmt.Sprintf(`* NO [NOUPDATE "t%d"] Too many contexts`, r.n+1))
		}
		r.expect("SEARCH RETURN (COUNT UPDATE) SEEN", want...)
	}
	if got := r.ok(`STORE 1 +FLAGS.SILENT (\Seen)`); len(got) != maxContexts+2 || !strings.HasSuffix(got[1], " ADDTO (0 1)") { // MODSEQ is told since it was asked for
		t.Errorf("%q", got)
	}
}

// testContextsLater: an update that cannot be finished is told later, and one of more messages than are noted is right as well.
func testContextsLater(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "contextslater", nil)
	st.fill("INBOX", 3)
	r := st.rawUser("INBOX")
	r.expect("SEARCH RETURN (COUNT UPDATE) LARGER 1 KEYWORD $a", `* ESEARCH (TAG "t3") COUNT 0`)
	st.mail.at(always("messages", client.ErrUnavailable))
	r.expect("STORE 1:2 +FLAGS.SILENT ($a)", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $a)`)
	st.mail.at(nil)
	r.expect("NOOP", `* ESEARCH (TAG "t3") ADDTO (0 1:2)`)

	// A search that looks into messages has a bound.
	r.expect("SEARCH RETURN (COUNT UPDATE) BODY 3 KEYWORD $b", `* ESEARCH (TAG "t6") COUNT 0`)
	r.expect("STORE 1:3 FLAGS.SILENT ($b)", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $a $b)`, `* ESEARCH (TAG "t3") REMOVEFROM (0 1:2)`, `* ESEARCH (TAG "t6") ADDTO (0 3)`)
	key := &command.Key{Kind: command.KeyBody}
	many := roaring.New()
	many.AddRange(1, maxReread+2)
	s := &session{srv: st.srv, ctx: t.Context()}
	q := s.newQuery(s.recall(new(selected)))
	q.limit = maxReread
	if _, err := q.run(key, many); !errors.Is(err, errDear) {
		t.Error(err)
	}

	sel := &selected{view: newView(nil, 1), mine: roaring.New()}
	sel.contexts.list = []*searchContext{{}}
	for uid := range uint32(maxTouched + 2) {
		sel.touch([]client.FlagChange{{UID: uid + 1}})
	}
	if !sel.contexts.all || sel.contexts.touched != nil {
		t.Error("more is noted than the bound")
	}
}
