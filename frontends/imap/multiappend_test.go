package imap

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func testMultiappend(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "several", nil)
	r := st.rawUser("INBOX")
	if !strings.Contains(r.ok("CAPABILITY")[0], " MULTIAPPEND") {
		t.Error("not offered")
	}
	// One waits to be asked for, one does not, one may hold NUL, one is UTF-8.
	r.send("m APPEND INBOX (\\Seen $Work) \" 7-Feb-1994 22:43:04 -0800\" {6}\r\n")
	if l := r.line(); !strings.HasPrefix(l, "+ ") {
		t.Fatal(l)
	}
	r.send("a: 1\r\n {6+}\r\na: 2\r\n (\\Flagged) ~{7+}\r\na: \x003\r\n UTF8 (~{7+}\r\na: \u00e9\r\n)\r\n")
	got := r.until("m")
	if len(got) != 3 || got[1] != "* 4 EXISTS" || !regexp.MustCompile(`^OK \[APPENDUID \d+ 1:4\]`).MatchString(got[2]) {
		t.Fatalf("%q", got)
	}
	r.expect("FETCH 1:4 (FLAGS RFC822.SIZE)", `* 1 FETCH (FLAGS (\Seen $Work) RFC822.SIZE 6)`, "* 2 FETCH (FLAGS () RFC822.SIZE 6)",
		`* 3 FETCH (FLAGS (\Flagged) RFC822.SIZE 7)`, "* 4 FETCH (FLAGS () RFC822.SIZE 7)")
	if got := r.ok("FETCH 1 INTERNALDATE"); got[0] != `* 1 FETCH (INTERNALDATE " 7-Feb-1994 22:43:04 -0800")` {
		t.Errorf("%q", got)
	}
	// What is binary comes in base64, and BINARY gives the octets that were sent; by way of an ordinary literal nothing is changed.
	binary := "Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\na\x00b\r\n"
	r.ok(fmt.Sprintf("APPEND INBOX ~{%d+}\r\n%s {%d+}\r\n%[2]s", len(binary), binary, len(binary)))
	r.expect("FETCH 5 (BODY.PEEK[] BINARY.SIZE[1] BINARY.PEEK[1])", "* 5 FETCH (BODY[] {57}", "Subject: b", "Content-Transfer-Encoding: base64", "", "YQBiDQo= BINARY.SIZE[1] 5 BINARY[1] ~{5}", "a\x00b", ")")
	r.expect("FETCH 6 BODY.PEEK[1]", "* 6 FETCH (BODY[1] {5}", "a\x00b", ")")
	for _, bad := range []struct{ args, want string }{
		{"nowhere {1+}\r\na {1+}\r\nb", "NO [TRYCREATE]"},
		{"INBOX {1+}\r\na {0+}\r\n", "NO [CANNOT]"},
		{"INBOX {1+}\r\na (\\Nonsense) {1+}\r\nb", "BAD"},
		{"INBOX {1+}\r\na (" + strings.Repeat("k", 100) + ") {1+}\r\nb {1+}\r\nc", "NO [LIMIT]"},
		{"INBOX {1+}\r\na {1+}\r\nb nonsense", "BAD"},
	} {
		r.want("APPEND "+bad.args, bad.want)
	}
	// A command fails as a whole that finds no shard, and when the connection ends inside it.
	st.mail.at(always("commit", client.ErrUnavailable))
	r.want("APPEND INBOX {1+}\r\na {1+}\r\nb", "NO [UNAVAILABLE]")
	st.mail.at(nil)
	cut := st.rawUser("")
	cut.send("a APPEND INBOX {1+}\r\na {100+}\r\nhalf of it")
	if err := cut.Close(); err != nil {
		t.Fatal(err)
	}
	r.expect("STATUS INBOX (MESSAGES UIDNEXT)", "* STATUS INBOX (MESSAGES 6 UIDNEXT 7)")
	if got := r.ok("NOOP"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got := r.ok("APPEND Archive" + strings.Repeat(" {6+}\r\na: b\r\n", 100)); !strings.Contains(got[len(got)-1], " 1:100]") {
		t.Errorf("%q", got)
	}
}

func testReplace(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "replace", nil)
	for i := range 3 {
		st.appendMessage("Drafts", crlf(fmt.Sprintf("Subject: draft %d\n\none\n", i)))
	}
	r, other := st.rawUser("Drafts"), st.rawUser("Drafts")
	appended := regexp.MustCompile(`^\* OK \[APPENDUID \d+ (\d+)\]`)
	got := r.ok("REPLACE 2 Drafts (\\Draft) {14+}\r\nSubject: new\r\n")
	if len(got) != 4 || appended.FindStringSubmatch(got[0]) == nil || got[1] != "* 2 EXPUNGE" || got[2] != "* 3 EXISTS" || !strings.HasPrefix(got[3], "OK") {
		t.Fatalf("%q", got)
	}
	r.expect("FETCH 1:* (UID FLAGS)", "* 1 FETCH (UID 1 FLAGS ())", "* 2 FETCH (UID 3 FLAGS ())", `* 3 FETCH (UID 4 FLAGS (\Draft))`)
	if got := strings.Join(other.ok("NOOP"), "\n"); !strings.HasPrefix(got, "* 2 EXPUNGE\n* 3 EXISTS\nOK") {
		t.Errorf("another session heard %q", got)
	}
	got = r.ok("UID REPLACE 4 Sent (\\Seen) {5}\r\n" + "a: b\n") // the client may as well not wait
	if len(got) < 3 || appended.FindStringSubmatch(got[1]) == nil || got[2] != "* 3 EXPUNGE" {
		t.Errorf("%q", got)
	}
	r.expect("STATUS Sent (MESSAGES UNSEEN)", "* STATUS \"Sent\" (MESSAGES 1 UNSEEN 0)")
	// What is not there cannot be replaced, and then nothing is appended.
	other.ok("STORE 1 +FLAGS (\\Deleted)")
	other.ok("EXPUNGE")
	r.want("REPLACE 1 Drafts {1+}\r\nx", "NO [EXPUNGEISSUED]")
	r.ok("NOOP")
	for cmd, want := range map[string]string{
		"REPLACE 9 Drafts {1+}\r\nx": "BAD", "UID REPLACE 9 Drafts {1}": "NO [EXPUNGEISSUED]", "REPLACE 1 nowhere {1+}\r\nx": "NO [TRYCREATE]",
		"REPLACE 1 Drafts {0+}\r\n": "NO [CANNOT]", "REPLACE 1 Drafts {200000000}": "NO [TOOBIG]", "REPLACE 1 Drafts {1+}\r\nx {1+}\r\ny": "BAD",
	} {
		r.want(cmd, want)
	}
	r.expect("STATUS Drafts (MESSAGES)", "* STATUS \"Drafts\" (MESSAGES 1)")
	// A client that counts on modification sequences may take the last for its state.
	r.ok("ENABLE QRESYNC")
	got = r.ok("REPLACE 1 Drafts {1+}\r\nx")
	if len(got) != 4 || got[1] != "* VANISHED 3" || !strings.HasPrefix(got[3], "OK [HIGHESTMODSEQ ") {
		t.Errorf("%q", got)
	}
	r.ok("EXAMINE Drafts")
	r.want("REPLACE 1 Drafts {1+}\r\nx", "NO [NOPERM]")
}

func testSaveDates(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "saved", nil)
	before := time.Now().Add(-time.Minute)
	st.appendMessage("INBOX", "a: b\r\n") // with an internal date of 2025
	r := st.rawUser("INBOX")
	r.ok("COPY 1 Archive")
	for _, box := range []string{"INBOX", "Archive"} {
		r.ok("SELECT " + box)
		saved := found(r.ok("FETCH 1 SAVEDATE"), `FETCH \(SAVEDATE "([^"]*)"\)`)
		at, err := time.Parse("_2-Jan-2006 15:04:05 -0700", saved)
		if err != nil || at.Before(before) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s: %q, %v", box, saved, err)
		}
		day := at.UTC().Format("2-Jan-2006")
		r.expect("SEARCH SAVEDON "+day, "* SEARCH 1")
		r.expect("SEARCH SAVEDSINCE "+day+" SAVEDATESUPPORTED", "* SEARCH 1")
		r.expect("SEARCH SAVEDBEFORE "+day, "* SEARCH")
		r.expect("SEARCH OR ON "+day+" SAVEDBEFORE "+at.UTC().AddDate(0, 0, 1).Format("2-Jan-2006"), "* SEARCH 1")
	}
}
