package imap

import (
	"fmt"
	"testing"

	"hongyan/cluster/clustertest"
)

func testPartial(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "partial", nil)
	st.fill("INBOX", 12)
	r := st.rawUser("INBOX")
	r.ok(`STORE 3,5 +FLAGS.SILENT (\Deleted)`)
	r.ok("EXPUNGE") // of UIDs 1, 2, 4, 6 to 12 are left
	esearch := func(cmd, want string) {
		t.Helper()
		r.expect(cmd, fmt.Sprintf(`* ESEARCH (TAG "t%d")%s`, r.n+1, want))
	}
	for _, c := range []struct{ cmd, want string }{
		{"UID SEARCH RETURN (PARTIAL 1:4) ALL", " UID PARTIAL (1:4 1:2,4,6)"},
		{"SEARCH RETURN (PARTIAL 1:4) ALL", " PARTIAL (1:4 1:4)"},
		{"UID SEARCH RETURN (PARTIAL 4:3 COUNT) ALL", " UID COUNT 10 PARTIAL (3:4 4,6)"},
		{"UID SEARCH RETURN (PARTIAL -1:-3) ALL", " UID PARTIAL (-1:-3 10:12)"},
		{"UID SEARCH RETURN (MIN PARTIAL -9:-100) ALL", " UID MIN 1 PARTIAL (-9:-100 1:2)"},
		{"UID SEARCH RETURN (PARTIAL 9:100) ALL", " UID PARTIAL (9:100 11:12)"},
		{"UID SEARCH RETURN (PARTIAL 11:20) ALL", " UID PARTIAL (11:20 NIL)"},
		{"UID SEARCH RETURN (PARTIAL 1:5) SEEN", " UID PARTIAL (1:5 NIL)"},
		{"UID SORT RETURN (PARTIAL 1:3) (REVERSE SIZE ARRIVAL) UTF-8 UID 1:4", " UID PARTIAL (1:3 1:2,4)"},
	} {
		esearch(c.cmd, c.want)
	}
	for _, cmd := range []string{"SEARCH RETURN (PARTIAL 1:2 ALL) ALL", "SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL", "FETCH 1:3 UID (PARTIAL 1:2)", "UID FETCH 1:3 UID (X 1:2)"} {
		r.want(cmd, "BAD")
	}
	esearch("UID SEARCH RETURN (SAVE PARTIAL 2:3) ALL", " UID PARTIAL (2:3 2,4)")
	r.expect("FETCH $ UID", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 4)")
	esearch("UID SORT RETURN (SAVE MAX PARTIAL 1:1) (ARRIVAL) UTF-8 ALL", " UID MAX 12 PARTIAL (1:1 1)")
	r.expect("FETCH $ UID", "* 1 FETCH (UID 1)", "* 10 FETCH (UID 12)")
	r.expect("UID FETCH 1:* (UID) (PARTIAL -1:-2)", "* 9 FETCH (UID 11)", "* 10 FETCH (UID 12)")
	r.expect("UID FETCH 2:8 FLAGS (PARTIAL 2:3)", "* 3 FETCH (UID 4 FLAGS ())", "* 4 FETCH (UID 6 FLAGS ())")
	r.expect("UID FETCH 1:* FLAGS (PARTIAL 100:200)")
	// The page is of all messages; what changed is then looked for in it.
	at := found(r.ok("STATUS INBOX (HIGHESTMODSEQ)"), `HIGHESTMODSEQ (\d+)`)
	r.ok(`UID STORE 2,12 +FLAGS.SILENT (\Flagged)`)
	for cmd, want := range map[string]string{"1:3": "2", "-1:-2": "12", "3:9": ""} {
		got := r.ok("UID FETCH 1:* (FLAGS) (PARTIAL " + cmd + " CHANGEDSINCE " + at + ")")
		if uid := found(got, `UID (\d+)`); uid != want {
			t.Errorf("PARTIAL %s: %q", cmd, got)
		}
	}
}
