package imap

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/frontends/imap/command"
)

// hears expects lines that the server sends of itself.
func (r *raw) hears(want ...string) {
	r.t.Helper()
	for _, w := range want {
		if got := r.line(); got != w {
			r.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// quiet expects that nothing waits: what a command answers is all that comes.
func (r *raw) quiet() {
	r.t.Helper()
	if got := r.ok("STATUS Trash (MESSAGES)"); len(got) != 2 {
		r.t.Errorf("heard %q", got[:len(got)-2])
	}
}

func testNotify(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "notify", nil)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	other.ok("CREATE Lists/a")
	got := r.ok("NOTIFY SET STATUS (selected (MessageNew (UID BODY[HEADER.FIELDS (Subject)]) MessageExpunge FlagChange)) (subtree Lists (MessageNew MessageExpunge))")
	if len(got) != 3 || !strings.HasPrefix(got[0], `* STATUS "Lists" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY `) || !strings.HasPrefix(got[1], `* STATUS "Lists/a" (MESSAGES 0`) {
		t.Errorf("%q", got)
	}
	st.appendMessage("INBOX", "Subject: one\r\n\r\nx\r\n")
	r.hears("* 1 EXISTS", "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)] {16}", "Subject: one", "", ")")
	other.ok("NOOP")
	other.ok("STORE 1 +FLAGS (\\Flagged)")
	r.hears(`* 1 FETCH (UID 1 FLAGS (\Flagged))`) // to be told of a message does not make it seen
	st.appendMessage("Lists/a", "a: b\r\n")
	r.hears(`* STATUS "Lists/a" (MESSAGES 1 UIDNEXT 2)`)
	other.ok("MOVE 1 Lists/a")
	r.hears("* 1 EXPUNGE", `* STATUS "Lists/a" (MESSAGES 2 UIDNEXT 3)`)

	// In IDLE the same is told.
	r.send("i IDLE\r\n")
	r.hears("+ idling")
	st.appendMessage("Lists/a", "a: b\r\n")
	r.hears(`* STATUS "Lists/a" (MESSAGES 3 UIDNEXT 4)`)
	r.send("DONE\r\n")
	r.until("i")

	// An expunge may have to wait for a command that allows it.
	st.appendMessage("INBOX", "a: b\r\n")
	r.hears("* 1 EXISTS", "* 1 FETCH (UID 2 BODY[HEADER.FIELDS (Subject)] {2}", "", ")")
	got = r.ok("NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (mailboxes Archive (MessageNew MessageExpunge FlagChange))")
	if len(got) != 1 {
		t.Errorf("%q", got)
	}
	other.ok("NOOP")
	other.ok("STORE 1 +FLAGS (\\Seen)")
	other.ok("COPY 1 Archive")
	r.hears(`* STATUS "Archive" (MESSAGES 1 UIDNEXT 2)`)
	other.ok("MOVE 1 Archive")
	r.hears(`* STATUS "Archive" (MESSAGES 2 UIDNEXT 3)`)
	if got := r.ok("NOOP"); len(got) != 2 || got[0] != "* 1 EXPUNGE" {
		t.Errorf("%q", got)
	}
	r.ok("ENABLE CONDSTORE")
	other.ok("SELECT Archive")
	other.ok("STORE 1 -FLAGS (\\Seen)")
	if l := r.line(); !strings.HasPrefix(l, `* STATUS "Archive" (UNSEEN 1 HIGHESTMODSEQ `) || !strings.Contains(l, " UIDVALIDITY ") {
		t.Errorf("%q", l)
	}

	// Nothing is told that is not wanted.
	r.ok("NOTIFY NONE")
	st.appendMessage("INBOX", "a: b\r\n")
	if got := r.ok("NOOP"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	r.want("NOTIFY SET (selected (MessageNew MessageExpunge AnnotationChange))", "NO [BADEVENT (MessageNew")
	r.quiet()
	if got := r.ok("NOTIFY SET (selected (MessageNew MessageExpunge))"); len(got) != 2 || !strings.HasSuffix(got[0], "EXISTS") {
		t.Errorf("%q", got)
	}
}

// testNotifyGone: a new message of which data could not be told before it was gone has none.
func testNotifyGone(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "notifygone", nil)
	r := st.rawUser("INBOX")
	r.ok("NOTIFY SET (selected (MessageNew (UID) MessageExpunge))")
	r.ok("UID SEARCH RETURN (UPDATE) SUBJECT x")
	st.mail.at(always("messages", client.ErrUnavailable))
	uid := st.appendMessage("INBOX", "Subject: x\r\n\r\n")
	r.hears("* 1 EXISTS")
	box, err := st.mail.Status(t.Context(), st.account, "INBOX")
	if err == nil {
		_, err = st.mail.Expunge(t.Context(), st.account, box.ID, roaring.BitmapOf(uid), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.hears("* 1 EXPUNGE")
	st.mail.at(nil)
	r.quiet()
}

func testNotifyNames(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "notifynames", nil)
	r, other := st.rawUser(""), st.rawUser("")
	r.ok("NOTIFY SET (personal (MailboxName SubscriptionChange))")
	r.ok("CREATE mine") // not told: the client knows
	other.ok("CREATE work")
	r.hears(`* LIST (\HasNoChildren) "/" "work"`)
	other.ok("CREATE work/x")
	r.hears(`* LIST (\HasNoChildren) "/" "work/x"`, `* LIST (\HasChildren) "/" "work"`)
	other.ok("SUBSCRIBE work")
	r.hears(`* LIST (\HasChildren \Subscribed) "/" "work"`)
	other.ok("RENAME work job")
	r.hears(`* LIST (\HasChildren) "/" "job" ("OLDNAME" ("work"))`)
	other.ok("UNSUBSCRIBE work")
	r.hears(`* LIST (\NonExistent) "/" "work"`)
	other.ok("SUBSCRIBE later")
	r.hears(`* LIST (\NonExistent \Subscribed) "/" "later"`)
	other.ok("UNSUBSCRIBE later")
	r.hears(`* LIST (\NonExistent) "/" "later"`)
	other.ok("DELETE job/x")
	r.hears(`* LIST (\NonExistent) "/" "job/x"`, `* LIST (\HasNoChildren) "/" "job"`)
	r.ok("RENAME job task")
	r.ok("SUBSCRIBE task")
	r.ok("DELETE task")
	st.mail.at(always("mailboxes", client.ErrUnavailable))
	other.ok("CREATE later")
	st.mail.at(nil) // a look that failed is made again
	r.hears(`* LIST (\HasNoChildren) "/" "later"`)
	r.quiet()
}

// testNotifyOwn: a client is not told what it did itself, but of what others did at the same time.
func testNotifyOwn(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "notifyown", nil)
	st.fill("INBOX", 5)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	var looks atomic.Int32
	st.mail.at(func(op string) error {
		if op == "mailboxes" {
			looks.Add(1)
		}
		return nil
	})
	r.ok("NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge)) (personal (MessageNew MessageExpunge FlagChange))")
	n := looks.Load()
	silent := func(cmd string) {
		t.Helper()
		r.ok(cmd)
		n++
		clustertest.Eventually(t, 10*time.Second, func() bool { return looks.Load() >= n }, func() string { return "the session looks at the mailboxes" })
		n = looks.Load()
		r.quiet()
	}
	silent("APPEND Drafts (\\Seen) {6+}\r\na: b\r\n")
	silent("APPEND Drafts {6+}\r\na: b\r\n {6+}\r\na: b\r\n")
	silent("UID COPY 1:2 Drafts")
	silent("UID MOVE 1,3 Drafts")
	silent("UID REPLACE 2 Drafts {6+}\r\na: b\r\n")
	st.appendMessage("Drafts", "a: b\r\n")
	r.hears(`* STATUS "Drafts" (MESSAGES 9 UIDNEXT 10 UNSEEN 8)`)
	other.ok("NOOP")
	other.ok("UID COPY 4 Drafts")
	r.hears(`* STATUS "Drafts" (MESSAGES 10 UIDNEXT 11 UNSEEN 9)`)

	r.expect("APPEND INBOX {6+}\r\na: b\r\n", "* 3 EXISTS")
	r.expect("UID COPY 4 INBOX", "* 4 EXISTS")
	other.ok("UID COPY 4 INBOX")
	r.hears("* 5 EXISTS", "* 5 FETCH (UID 8 FLAGS ())")

	// Of two changes at once both are told.
	st.mail.at(func(op string) error {
		if op == "copy" {
			st.mail.at(nil)
			st.appendMessage("Trash", "a: b\r\n")
		}
		return nil
	})
	r.ok("UID COPY 4 Trash")
	r.hears(`* STATUS "Trash" (MESSAGES 2 UIDNEXT 3 UNSEEN 2)`)
}

// TestNotifyOverflow holds what a client may ask for against its bounds.
func TestNotifyOverflow(t *testing.T) {
	many, names := make([]client.Mailbox, maxWatched+1), make([]string, maxNotices+1)
	for i := range many {
		many[i] = client.Mailbox{ID: uint32(i + 1), Name: "box" + decimal(uint32(i))}
	}
	for i := range names {
		names[i] = many[i].Name
	}
	k := newTalkWith(t, stub{boxes: many}, Limits{})
	k.send("a NOTIFY SET (personal (MailboxName))\r\nb NOTIFY SET (subtree box1 (MailboxName))\r\n")
	if got := k.until("a "); !strings.HasPrefix(got, "a NO [NOTIFICATIONOVERFLOW]") {
		t.Errorf("%q", got)
	}
	if got := k.until("b "); !strings.HasPrefix(got, "b OK") {
		t.Errorf("%q", got)
	}
	k.send("c LOGOUT\r\n")
	k.until("c ")

	asked := command.Notify{Groups: []command.EventGroup{{Filter: command.FilterPersonal, Events: command.EventName}}}
	base, _, _ := pipe(t)
	srv, heard := stubServer(nil), new(bytes.Buffer)
	s := newSession(srv, newConn(base, srv))
	defer s.close()
	s.out.SetWriter(heard)
	s.notify = newNotification(&asked)
	s.notify.learn(nil)
	s.tellOthers(s.notify, tree(existing(names...), nil))
	if err := s.out.Flush(); err != nil || heard.String() != "* OK [NOTIFICATIONOVERFLOW] Too much happens to tell of it\r\n" || s.wanted() != 0 || len(s.notify.others) != 0 {
		t.Errorf("%q, %v", heard, err)
	}
}
