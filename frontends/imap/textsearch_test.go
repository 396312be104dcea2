package imap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	letters "hongyan/bench/mail"
	"hongyan/cluster/clustertest"
)

const attached = "Subject: two files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=gbk\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"<p>=C4=E3=BA=C3&nbsp;there</p>\r\n--b\r\nContent-Type: application/pdf; name=\"=?utf-8?B?5oql5ZGKMS5wZGY=?=\"\r\nContent-Disposition: attachment; filename*0*=utf-8''%E5%B9%B4; filename*1*=%E6%8A%A5.pdf\r\n\r\n" +
	"JVBERi0=\r\n--b--\r\n"

const report = "Subject: not delivered\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n" +
	"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; here.test\r\n\r\nFinal-Recipient: rfc822; nobody@remote.test\r\nStatus: 5.1.1\r\n--b--\r\n"

// testTextSearch searches for pieces of what messages say, first without an index, then while one comes to be, then with it: what is found is the same, and with it hardly a
// message is read in vain.
func testTextSearch(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "texts", nil)
	rng := rand.New(rand.NewPCG(7, 7))
	g := letters.New(7)
	var said []string
	for range 40 {
		m := string(g.Next().Bytes)
		st.appendMessage("INBOX", m)
		said = append(said, strings.Fields(m)...)
	}
	st.appendMessage("INBOX", attached)
	st.appendMessage("INBOX", report)
	searches := []string{`BODY "年报"`, `TEXT "报告1"`, `BODY "你好&nbsp;th"`, `BODY "two files"`, `TEXT "two files"`, `NOT BODY "p"`, `OR BODY "年报" TEXT "the"`, `BODY ""`, `TEXT "` + strings.Repeat("the ", 600) + `"`,
		`NOT (BODY "e" BODY "the")`, `SINCE 1-Jan-2000 TEXT "message-id" UNSEEN`, `41 TEXT "@"`, `BODY "nobody@remote.test"`, `TEXT "5.1.1"`}
	for range 40 {
		word := strings.Map(func(r rune) rune {
			if r == '"' || r == '\\' || r > 0xfffd {
				return -1
			}
			return r
		}, said[rng.IntN(len(said))])
		if chars := []rune(strings.ToValidUTF8(word, "")); len(chars) > 0 {
			from := rng.IntN(len(chars))
			piece := string(chars[from : from+1+rng.IntN(len(chars)-from)])
			searches = append(searches, fmt.Sprintf("%s %q", []string{"BODY", "TEXT", "NOT TEXT"}[rng.IntN(3)], piece))
		}
	}
	all := func() (lines []string) {
		for part := range slices.Chunk(searches, 30) {
			r := st.rawUser("INBOX")
			for _, s := range part {
				lines = append(lines, s+": "+r.ok("SEARCH " + s)[0])
			}
		}
		return lines
	}
	st.mail.scan.Store(true)
	want := all()
	if !slices.Contains(want, `BODY "年报": * SEARCH 41`) || !slices.Contains(want, `TEXT "报告1": * SEARCH 41`) || !slices.Contains(want, `BODY "two files": * SEARCH`) ||
		!slices.Contains(want, `BODY "nobody@remote.test": * SEARCH 42`) {
		t.Errorf("a file's name, or a text: %q", want[:5])
	}
	st.mail.scan.Store(false)
	same := func(when string) {
		t.Helper()
		for i, got := range all() {
			if got != want[i] {
				t.Errorf("%s the index: %s, without %s", when, got, want[i])
			}
		}
	}
	same("perhaps without")
	box, err := st.mail.Status(t.Context(), st.account, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 30*time.Second, func() bool {
		through, _ := st.mail.Candidates(t.Context(), st.account, box.ID, box.UIDValidity, "x")
		return through >= 41
	}, func() string { return "the mailbox is indexed" })
	same("with")
	r := st.rawUser("INBOX")
	st.mail.reads.Store(0)
	r.expect(`SEARCH BODY "年报"`, "* SEARCH 41")
	r.expect(`SEARCH NOT TEXT "xyzzyxyzzy" 1:40 UID 39:41`, "* SEARCH 39 40")
	if n := st.mail.reads.Load(); n > 10 {
		t.Errorf("%d reads for three messages that may match", n)
	}
}
