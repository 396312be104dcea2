package imap

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/message"
)

func testSort(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "sort", nil)
	for _, m := range []string{
		"From: Zoe <alpha@z.test>\nTo: Bob <bob@a.test>, a@a.test\nSubject: Re: banana\nDate: Tue, 2 Jun 2026 01:00:00 +0800\n\nx\n",
		"From: =?utf-8?q?=C3=84nne?= <gamma@a.test>\nTo: Team: a@a.test;\nCc: carl@x.test\nSubject: [list] Apple (fwd)\nDate: Mon, 1 Jun 2026 18:30:00 +0000\n\nlonger text\n",
		"From: beta@a.test\nTo: aaron@a.test\nCc: adam@x.test\nSubject: =?utf-8?b?QmFuYW5h?=\nDate: Mon, 1 Jun 2026 13:10:00 -0500\n\nthe longest text of all\n",
		"From: Beta <Beta@a.test>\nSubject: cherry\n\n\n", // no Date: its internal date of 2025 counts
	} {
		st.appendMessage("INBOX", crlf(m))
	}
	r := st.rawUser("INBOX")
	for _, c := range []struct{ criteria, want string }{
		{"ARRIVAL", "1 2 3 4"}, {"REVERSE ARRIVAL", "1 2 3 4"}, {"DATE", "4 1 3 2"}, {"REVERSE DATE", "2 3 1 4"},
		{"SUBJECT", "2 1 3 4"}, {"REVERSE SUBJECT", "4 1 3 2"}, {"SUBJECT REVERSE DATE", "2 3 1 4"}, {"SIZE", "4 1 3 2"},
		{"FROM", "1 3 4 2"}, {"FROM REVERSE SIZE", "1 3 4 2"}, {"TO", "4 3 1 2"}, {"CC", "1 4 3 2"},
		{"DISPLAYFROM", "2 4 3 1"}, {"DISPLAYTO", "4 3 1 2"}, {"REVERSE DISPLAYTO", "2 1 3 4"},
	} {
		r.expect("SORT ("+c.criteria+") UTF-8 ALL", "* SORT "+c.want)
	}
	r.expect("SORT (SUBJECT) UTF-8 SUBJECT banana", "* SORT 1 3")
	r.expect("SORT (DATE) US-ASCII SEEN", "* SORT")
	r.expect("UID SORT RETURN (MIN MAX COUNT) (DATE) UTF-8 ALL", fmt.Sprintf(`* ESEARCH (TAG "t%d") UID MIN 4 MAX 2 COUNT 4`, r.n+1))
	r.expect("SORT RETURN () (DATE) UTF-8 NOT 4", fmt.Sprintf(`* ESEARCH (TAG "t%d") ALL 1,3,2`, r.n+1))
	r.expect("SORT RETURN (ALL COUNT) (DATE) UTF-8 SEEN", fmt.Sprintf(`* ESEARCH (TAG "t%d") COUNT 0`, r.n+1))
	r.expect("SORT RETURN (SAVE MIN) (DATE) UTF-8 ALL", fmt.Sprintf(`* ESEARCH (TAG "t%d") MIN 4`, r.n+1))
	r.expect("FETCH $ UID", "* 4 FETCH (UID 4)")
	r.want("SORT RETURN (SAVE) (DATE) X-ODD ALL", "NO [BADCHARSET]")
	r.expect("FETCH $ UID")
	st.srv.sorting.Store(maxAllSorting)
	r.want("SORT (SUBJECT) UTF-8 ALL", "NO [LIMIT]")
	if st.srv.sorting.Add(-maxAllSorting) != 0 {
		t.Error("memory is held of a SORT that is over")
	}
	other := st.rawUser("INBOX")
	other.ok(`STORE 2 +FLAGS (\Deleted)`)
	other.ok("EXPUNGE")
	r.ok("NOOP")
	r.expect("SORT (SUBJECT) UTF-8 ALL", "* SORT 1 2 3")
	r.expect("UID SORT (SUBJECT) UTF-8 ALL", "* SORT 1 3 4")
}

func testThread(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "thread", nil)
	for _, m := range []string{
		"Message-ID: <1@x>\nSubject: Plan\nDate: Mon, 1 Jun 2026 10:00:00 +0000\n\n",
		"Message-ID: <2@x>\nIn-Reply-To: <1@x>\nSubject: Re: Plan\nDate: Mon, 1 Jun 2026 11:00:00 +0000\n\n",
		"Message-ID: <3@x>\nReferences: <1@x>\n <2@x>\nSubject: another\nDate: Mon, 1 Jun 2026 20:00:00 +0800\n\n",
		"Message-ID: <4@x>\nReferences: <1@x> <2@x>\nSubject: Re: Plan\nDate: Mon, 1 Jun 2026 11:30:00 +0000\n\n",
		"Message-ID: <5@x>\nSubject: Lunch\nDate: Sun, 31 May 2026 10:00:00 +0000\n\n",
		"Message-ID: <6@x>\nSubject: =?utf-8?q?Re=3A_LUNCH?=\nDate: Sun, 31 May 2026 09:00:00 +0000\n\n",
	} {
		st.appendMessage("INBOX", crlf(m))
	}
	r := st.rawUser("INBOX")
	r.expect("THREAD REFERENCES UTF-8 ALL", "* THREAD (5 6)(1 2 (4)(3))")
	r.expect("THREAD ORDEREDSUBJECT UTF-8 ALL", "* THREAD (6 5)(1 (2)(4))(3)")
	r.expect("UID THREAD REFERENCES UTF-8 NOT 1:2", "* THREAD (5 6)((4)(3))")
	r.expect("THREAD REFERENCES UTF-8 SEEN", "* THREAD")
	st.mail.at(always("changes", client.ErrUnavailable))
	r.want("THREAD REFERENCES UTF-8 ALL", "NO [UNAVAILABLE]")
	st.mail.at(nil)
	st.appendMessage("Trash", "Subject: x\r\n\r\n") // of which nothing is remembered
	r.ok("SELECT Trash")
	st.mail.at(always("messages", client.ErrUnavailable))
	r.want("THREAD REFERENCES UTF-8 ALL", "NO [UNAVAILABLE]")
	st.mail.at(nil)
	if n := st.srv.sorting.Load(); n != 0 {
		t.Errorf("%d bytes are held of commands that are over", n)
	}
}

func TestHolding(t *testing.T) {
	var total atomic.Int64
	a, b := holding{total: &total}, holding{total: &total}
	var answer *goimap.Error
	if err := a.grow(maxSorting + 1); !errors.As(err, &answer) || answer.Code != goimap.ResponseCodeLimit {
		t.Error(err)
	}
	total.Store(maxAllSorting - 100)
	if err := a.grow(100); err != nil {
		t.Error(err)
	}
	if err := b.grow(1); !errors.As(err, &answer) {
		t.Error(err)
	}
	b.release()
	a.release()
	if total.Load() != maxAllSorting-100 {
		t.Error(total.Load())
	}
}

func TestDisplayOf(t *testing.T) {
	for _, c := range []struct {
		a    []message.Address
		want string
	}{
		{nil, ""}, {[]message.Address{{Name: "=?utf-8?q?J=C3=B8rn?=", Mailbox: "j", Host: "x"}, {Name: "B"}}, "Jørn"},
		{[]message.Address{{Mailbox: "j", Host: "x"}}, "j@x"}, {[]message.Address{{Mailbox: "=?utf-8?q?T=C3=A9am?="}, {Mailbox: "j", Host: "x"}}, "Téam"},
	} {
		if got := displayOf(c.a); got != c.want {
			t.Errorf("%v: %q", c.a, got)
		}
	}
}
