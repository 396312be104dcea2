package imap

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// Told counts what the server has noted.
func (h *hooked) Told(ctx context.Context, list []client.Told) error {
	h.told.Add(int64(len(list)))
	return h.mail.Told(ctx, list)
}

// A new message is \Recent to the first session that may write, in all answers, and to nobody later, here or at another node.
func testRecent(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "recent", nil)
	st.mail.recent = true
	st.appendMessage("INBOX", "Subject: a\r\n\r\n")
	st.appendMessage("INBOX", "Subject: b\r\n\r\n")

	e := st.rawUser("")
	e.has("EXAMINE INBOX", "* 2 RECENT")
	e.has("STATUS INBOX (RECENT)", `* STATUS INBOX (RECENT 2)`)
	modern := st.rawUser("")
	modern.ok("ENABLE IMAP4rev2")
	if got := strings.Join(modern.ok("SELECT INBOX"), "\n"); strings.Contains(got, "RECENT") {
		t.Errorf("IMAP4rev2: %s", got)
	}
	if n := st.mail.told.Load(); n != 0 {
		t.Errorf("%d notes before anybody was told", n)
	}

	a, b := st.rawUser(""), st.rawUser("")
	a.has("SELECT INBOX", "* 2 RECENT")
	b.has("SELECT INBOX", "* 0 RECENT")
	b.has("FETCH 1 FLAGS", "* 1 FETCH (FLAGS ())")
	b.has("STATUS INBOX (RECENT)", `* STATUS INBOX (RECENT 0)`)
	a.has("FETCH 1:2 FLAGS", `* 2 FETCH (FLAGS (\Recent))`)
	a.has("STORE 1 +FLAGS (\\Seen)", `* 1 FETCH (FLAGS (\Seen \Recent))`)
	a.has("SEARCH RECENT", "* SEARCH 1 2")
	a.has("SEARCH NEW", "* SEARCH 2")
	a.has("SEARCH OLD", "* SEARCH")
	a.has("SEARCH RECENT SUBJECT a", "* SEARCH 1")

	st.appendMessage("INBOX", "Subject: c\r\n\r\n")
	b.has("NOOP", "* 1 RECENT")
	a.has("NOOP", "* 3 EXISTS")
	a.has("SEARCH RECENT", "* SEARCH 1 2")
	b.has("FETCH 3 FLAGS", `* 3 FETCH (FLAGS (\Recent))`)
	a.has("UID MOVE 1 Trash", "* 1 RECENT")

	other := serveNode(t, c, 1, st.user)
	other.mail.recent = true
	clustertest.Eventually(t, 10*time.Second, func() bool {
		box, err := other.mail.Status(t.Context(), st.account, "INBOX")
		return err == nil && box.Recent == 0
	}, func() string { return "the cluster does not know what sessions were told" })
	notes := st.mail.told.Load()
	o := other.rawUser("")
	o.has("SELECT INBOX", "* 0 RECENT")
	o.has("SELECT Trash", "* 1 RECENT")
	st.rawUser("INBOX").has("SEARCH RECENT", "* SEARCH")
	if now := st.mail.told.Load(); now != notes {
		t.Errorf("%d notes, where nothing was new", now-notes)
	}
}

// testRecentLater: what one session was told is not \Recent to another that hears of it after it was noted, nor to one that asked before and hears of it after.
func testRecentLater(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "recentlater", nil)
	st.mail.recent = true
	note := func() {
		t.Helper()
		if err := st.srv.recents.note(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, b, e := st.rawUser("INBOX"), st.rawUser("INBOX"), st.rawUser("")
	e.ok("EXAMINE INBOX")
	st.appendMessage("INBOX", "Subject: a\r\n\r\n")
	b.has("NOOP", "* 1 RECENT")
	note()
	a.has("NOOP", "* 1 EXISTS")
	a.has("SEARCH RECENT", "* SEARCH")
	e.has("NOOP", "* 1 EXISTS")
	e.has("SEARCH RECENT", "* SEARCH")
	if _, waits := st.srv.recents.below(st.account.ID, 1); waits {
		t.Error("what the cluster knows waits")
	}

	st.mail.at(func(op string) error {
		if op == "selected" {
			st.mail.at(nil)
			b.has("NOOP", "* 2 RECENT")
			note()
		}
		return nil
	})
	st.appendMessage("INBOX", "Subject: b\r\n\r\n")
	a.has("SELECT INBOX", "* 0 RECENT")
}

// has expects a line among the answers of a command that succeeds.
func (r *raw) has(cmd, want string) {
	r.t.Helper()
	if got := r.ok(cmd); !slices.Contains(got, want) {
		r.t.Errorf("%s: no %q in\n%s", cmd, want, strings.Join(got, "\n"))
	}
}

// What waits to be noted goes on waiting after a failure, is bounded, and what was told meanwhile is not forgotten.
func TestRecentsWait(t *testing.T) {
	m := &tellingMail{fail: true}
	r := newRecents(m, func(error) {})
	r.timer = true // by hand
	a := client.Account{ID: 1}
	below := func() uint32 { uid, _ := r.below(1, 7); return uid }
	if got, known := r.take(a, 7, 5); got != 0 || known {
		t.Errorf("first: %d, %t", got, known)
	}
	if got, known := r.take(a, 7, 3); got != 5 || !known || below() != 5 {
		t.Errorf("second: %d, %t", got, known)
	}
	if r.settled(1, 7, 4); below() != 5 {
		t.Error("lost by what the cluster knew before")
	}
	if r.note(t.Context()) == nil || below() != 5 {
		t.Error("lost by a failure")
	}
	m.fail, m.during = false, func() { r.take(a, 7, 9) }
	if err := r.note(t.Context()); err != nil || below() != 9 {
		t.Errorf("told meanwhile: %v, %d", err, below())
	}
	m.during = nil
	if err := r.note(t.Context()); err != nil || len(r.waiting) != 0 || m.last != 9 {
		t.Errorf("%v, %v, %d", err, r.waiting, m.last)
	}
	r.take(a, 7, 12)
	if r.settled(1, 7, 12); len(r.waiting) != 0 {
		t.Error("what the cluster knows waits")
	}
	for i := range uint32(maxNoted + 5) {
		r.take(a, i, 2)
	}
	if len(r.waiting) != maxNoted {
		t.Errorf("%d wait", len(r.waiting))
	}
}

type tellingMail struct {
	mail
	fail   bool
	during func()
	last   uint32
}

func (m *tellingMail) Told(_ context.Context, list []client.Told) error {
	if m.during != nil {
		m.during()
	}
	if m.fail {
		return client.ErrUnavailable
	}
	m.last = list[0].Below
	return nil
}
