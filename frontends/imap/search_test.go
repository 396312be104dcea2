package imap

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"hongyan/cluster/clustertest"
	"hongyan/engine/message"
)

func testSearch(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "search", nil)
	for _, m := range []string{
		"From: Alice <alice@example.test>\nTo: bob@example.test\nSubject: Budget 2026\nDate: Mon, 15 Jun 2026 23:30:00 -0800\n\nThe first message.\n",
		"From: bob@example.test\nTo: alice@example.test\nCc: Carol <carol@example.test>\nSubject: =?gb2312?B?suLK1A==?=\nDate: Tue, 16 Jun 2026 01:00:00 +0800\n" +
			"Content-Type: text/plain; charset=gb2312\nContent-Transfer-Encoding: base64\n\nxOO6w6OsysC95w==\n",
		nested,
		"Subject: long\n\n" + strings.Repeat("0123456789 filler ", 5000) + " needle in the hay ÄÖÜ\n",
		"X-Odd-Field: " + strings.Repeat("value ", 3000) + "end\nSubject: odd\n\tin \t two\n lines\n\n",
	} {
		st.appendMessage("INBOX", crlf(m))
	}
	r := st.rawUser("INBOX")
	r.ok(`STORE 1 +FLAGS.SILENT (\Seen $Work)`)
	r.ok(`STORE 2 +FLAGS.SILENT (\Flagged \Answered)`)
	r.ok(`STORE 3 +FLAGS.SILENT (\Deleted \Draft)`)
	for _, c := range []struct{ keys, want string }{
		{"ALL", "1 2 3 4 5"}, {"2:3", "2 3"}, {"*", "5"}, {"UID 4:*", "4 5"}, {"NOT 1:3", "4 5"}, {"77", ""}, {"UID 77", ""},
		{"SEEN", "1"}, {"UNSEEN", "2 3 4 5"}, {"FLAGGED ANSWERED", "2"}, {"DELETED", "3"}, {"UNDELETED", "1 2 4 5"}, {"DRAFT", "3"},
		{"UNANSWERED UNFLAGGED UNDRAFT", "1 4 5"}, {"NEW", ""}, {"RECENT", ""}, {"OLD", "1 2 3 4 5"},
		{"KEYWORD $work", "1"}, {"UNKEYWORD $Work", "2 3 4 5"}, {"KEYWORD absent", ""},
		{"OR SEEN FLAGGED", "1 2"}, {"NOT (SEEN)", "2 3 4 5"}, {"OR (SEEN KEYWORD $Work) (2 UNSEEN)", "1 2"}, {"NOT OR SEEN FLAGGED", "3 4 5"},
		{"NOT NOT SEEN", "1"}, {"OR KEYWORD $Work 5", "1 5"}, {"NOT KEYWORD $Work", "2 3 4 5"},
		{"FROM alice", "1"}, {"TO alice", "2"}, {"CC CAROL", "2"}, {"BCC x", ""}, {"SUBJECT budget", "1"}, {`SUBJECT ""`, "1 2 3 4 5"},
		{"SUBJECT {6}\r\n测试", "2 3"}, {"CHARSET UTF-8 SUBJECT \"测\"", "2 3"}, {"CHARSET utf8 SUBJECT \"测\"", "2 3"}, {"FROM \"张三\"", "3"},
		{"HEADER x-odd two", "3"}, {"HEADER X-Odd-Field end", "5"}, {`HEADER X-Odd-Field ""`, "5"}, {"HEADER X-Odd-Field nothing", ""},
		{"BODY first", "1"}, {"BODY FIRST", "1"}, {"BODY \"你好\"", "2 3"}, {"BODY \"世界\"", "2 3"}, {"BODY needle", "4"}, {"BODY \"äöü\"", "4"},
		{"BODY budget", ""}, {"TEXT budget", "1"}, {"TEXT \"测试\"", "2 3"}, {"BODY inside", ""}, {"TEXT inside", "3"}, {"BODY \"plain =61\"", "3"}, {"BODY \"ab\"", "3"},
		{`SUBJECT "odd in two lines"`, "5"}, {`SUBJECT "odd  in"`, "5"}, {`TEXT "odd in two lines"`, "5"}, {`SUBJECT oddin`, ""}, {"SEEN ", "1"},
		{"BODY nested NOT BODY x", ""}, {"OR BODY needle BODY first", "1 4"}, {"TEXT x-odd-field", "5"},
		{"LARGER 50000", "4"}, {"SMALLER 200", "1"}, {"SMALLER 200 SINCE 1-Jan-2020", "1"}, {"NOT SMALLER 20000", "4"},
		{"SMALLER 20000 LARGER 300", "3 5"}, {"OR SMALLER 200 LARGER 50000", "1 4"},
		{"SENTON 15-Jun-2026", "1 3"}, {"SENTON 16-Jun-2026", "2"}, {"SENTSINCE 16-Jun-2026", "2"}, {"SENTBEFORE 16-Jun-2026", "1 3"},
		{"ON 15-Jun-2025", "1 2 3 4 5"}, {"SINCE 16-Jun-2025", ""}, {"BEFORE 15-Jun-2025", ""}, {"NOT ON 15-Jun-2025", ""},
	} {
		want := strings.TrimSpace("* SEARCH " + c.want)
		parts := strings.Split(c.keys, "\r\n")
		r.n++
		tag := fmt.Sprintf("t%d", r.n)
		r.send(tag + " SEARCH " + parts[0] + "\r\n")
		if len(parts) > 1 {
			r.line()
			r.send(parts[1] + "\r\n")
		}
		if got := r.until(tag); got[0] != want {
			t.Errorf("%s: %q, want %s", c.keys, got, want)
		}
	}
	r.want("SEARCH CHARSET x-odd ALL", "NO [BADCHARSET]")
	r.want("SEARCH NOSUCH 5", "BAD")
	r.want("SEARCH "+strings.Repeat("NOT ", 200)+"SEEN", "NO [LIMIT]")
	r.want("SEARCH"+strings.Repeat(" BODY x", 50), "NO [LIMIT]")
	r.expect("UID SEARCH RETURN (MIN MAX COUNT) UNSEEN", fmt.Sprintf(`* ESEARCH (TAG "t%d") UID MIN 2 MAX 5 COUNT 4`, r.n+1))
	r.expect("SEARCH RETURN () FLAGGED", fmt.Sprintf(`* ESEARCH (TAG "t%d") ALL 2`, r.n+1))
	r.expect("SEARCH RETURN (COUNT) KEYWORD none", fmt.Sprintf(`* ESEARCH (TAG "t%d") COUNT 0`, r.n+1))
}

func testSavedSearch(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "saved", nil)
	st.fill("INBOX", 6)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	r.expect("FETCH $ UID")
	r.ok("SEARCH RETURN (SAVE) 2,4:5")
	r.expect("FETCH $ UID", "* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)", "* 5 FETCH (UID 5)")
	r.expect("SEARCH $ NOT 4", "* SEARCH 2 5")
	r.expect("UID SEARCH UID $", "* SEARCH 2 4 5")
	other.ok(`STORE 4 +FLAGS (\Deleted)`)
	other.ok("EXPUNGE")
	r.ok("NOOP")
	r.expect("UID STORE $ +FLAGS.SILENT (\\Deleted)")
	r.expect("FETCH $ (UID FLAGS)", `* 2 FETCH (UID 2 FLAGS (\Deleted))`, `* 4 FETCH (UID 5 FLAGS (\Deleted))`)
	r.ok("SEARCH RETURN (SAVE MIN) 3:*")
	r.expect("UID FETCH $ UID", "* 3 FETCH (UID 3)")
	r.want("SEARCH RETURN (SAVE) "+strings.Repeat("NOT ", 200)+"SEEN", "NO")
	r.expect("FETCH $ UID")
	r.ok("SEARCH RETURN (SAVE) UID 5")
	r.expect("UID EXPUNGE $", "* 4 EXPUNGE")
	r.ok("SELECT INBOX")
	r.expect("FETCH $ UID")
}

func TestContainsFolded(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	alphabet := []string{"a", "b", "é", "世", "𝄞", "\xff", "A", "É"}
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 2000 {
		hay, needle := text(rng.IntN(200)), text(1+rng.IntN(4))
		want := strings.Contains(fold(strings.ToValidUTF8(hay, "\uFFFD")), fold(strings.ToValidUTF8(needle, "\uFFFD")))
		for _, r := range []io.Reader{strings.NewReader(hay), iotest.OneByteReader(strings.NewReader(hay)), iotest.HalfReader(strings.NewReader(hay))} {
			got, err := containsFolded(r, []byte(fold(needle)))
			if err != nil || got != want && !strings.Contains(hay+needle, "\xff") {
				t.Fatalf("%q in %q: %v %v, want %v", needle, hay, got, err, want)
			}
		}
	}
	far := strings.NewReader(strings.Repeat("x", 3*searchBuffer-2) + "Needle")
	if ok, err := containsFolded(far, []byte("needle")); !ok || err != nil {
		t.Error("a text across buffers", ok, err)
	}
	if _, err := containsFolded(iotest.ErrReader(io.ErrUnexpectedEOF), []byte("x")); err == nil {
		t.Error("an error was lost")
	}
}

func TestFieldValues(t *testing.T) {
	got := fieldValues([]byte("A: one\r\n two\r\nB:three\r\njunk\r\n\r\n"))
	if strings.Join(got, "|") != "one two|three" {
		t.Errorf("%q", got)
	}
}

// A field of very many lines, which anybody may send, costs no more for each byte than another.
func TestFieldValuesOfManyLines(t *testing.T) {
	header := []byte("Subject: " + strings.Repeat("x\r\n ", maxHeaderRead/4) + "\r\n")
	start := time.Now()
	got := fieldValues(header)
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v for %d bytes", took, len(header))
	}
	if len(got) != 1 || len(got[0]) != maxHeaderRead/2 {
		t.Errorf("%d values, the first of %d bytes", len(got), len(got[0]))
	}
}

func FuzzContainsFolded(f *testing.F) {
	f.Add([]byte("hay needle"), []byte("needle"))
	f.Fuzz(func(t *testing.T, hay, needle []byte) {
		if len(needle) == 0 {
			return
		}
		if _, err := containsFolded(iotest.OneByteReader(bytes.NewReader(hay)), needle); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAddressSearch(t *testing.T) {
	sc := message.NewScanner()
	if _, err := sc.Write([]byte("From: <a (x)@ (y) example.test>\r\nTo: b@example.test\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	e := &entry{sum: sc.Finish()}
	r := &recall{s: &session{}}
	for _, c := range []struct {
		field, text string
		want        bool
	}{{"FROM", "A@example.test", true}, {"from", "(y)", true}, {"TO", "a@example", false}, {"CC", "@", false}, {"To", "b@", true}} {
		value, err := headerColumn(c.field).append(r, nil, e)
		if got := hasText(value, []byte(fold(c.text))); err != nil || got != c.want {
			t.Errorf("%s %s: %v %v", c.field, c.text, got, err)
		}
	}
}
