package imap

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func testUnavailable(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "unavailable", nil)
	st.fill("INBOX", 2)
	r := st.rawUser("INBOX")
	for _, c := range []struct{ op, cmd string }{
		{"messages", "FETCH 1 FLAGS"}, {"messages", "FETCH 1:2 (FLAGS ENVELOPE)"}, {"messages", "SEARCH SUBJECT x"},
		{"store", "STORE 1 +FLAGS (\\Seen)"}, {"store", "FETCH 1 BODY[]"}, {"read", "FETCH 1 BODY.PEEK[]"},
		{"read", "SEARCH BODY x"}, {"copy", "COPY 1 Trash"},
	} {
		st.mail.at(always(c.op, fmt.Errorf("shard 2: %w", client.ErrUnavailable)))
		r.want(c.cmd, "NO [UNAVAILABLE]")
	}
	st.mail.at(nil)
	r.ok("NOOP")
	r.ok("STORE 2 +FLAGS (\\Flagged)")
	st.mail.at(always("messages", client.ErrUnavailable))
	r.want("STORE 1:2 +FLAGS (\\Flagged)", "NO [UNAVAILABLE]")
	r.expect("NOOP", `* 1 FETCH (UID 1 FLAGS (\Flagged))`) // it was stored, which the client does not know yet
	st.mail.at(always("read", client.ErrUnavailable))
	r.want("FETCH 2 BODY[]", "NO [UNAVAILABLE]")
	r.expect("NOOP", `* 2 FETCH (UID 2 FLAGS (\Flagged \Seen))`)
	st.mail.at(nil)
	r.ok("STORE 1:2 FLAGS.SILENT ()")
	st.mail.at(always("messages", errors.New("a bug")))
	r.want("FETCH 1 FLAGS", "NO [SERVERBUG]")
	st.mail.at(always("changes", client.ErrUnavailable))
	st.fill("INBOX", 1)
	r.expect("NOOP")                                  // the command is done; what is new comes later
	r.expect("FETCH 1 FLAGS", "* 1 FETCH (FLAGS ())") // and what is known is served
	st.mail.at(nil)
	r.expect("FETCH 1 FLAGS", "* 1 FETCH (FLAGS ())", "* 3 EXISTS")
	st.mail.at(always("select", client.ErrUnavailable))
	r.want("SELECT INBOX", "NO [UNAVAILABLE]")
	st.mail.at(nil)
	r.ok("SELECT INBOX")
}

func testDeletedMailbox(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "deleted", nil)
	a, b := st.rawUser(""), st.rawUser("")
	a.ok("CREATE x/y")
	st.fill("x/y", 2)
	a.ok("SELECT x/y")
	b.ok("SELECT x/y")
	idle := st.rawUser("x/y")
	idle.send("i IDLE\r\n")
	idle.line()
	// Renamed under it, a mailbox stays open.
	b.ok("RENAME x z")
	a.expect("FETCH 1 UID", "* 1 FETCH (UID 1)")
	a.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
	// Who deletes the mailbox that it has open goes on without one.
	got := b.ok("DELETE z/y")
	if !strings.HasPrefix(got[0], "* OK [CLOSED]") {
		t.Errorf("%q", got)
	}
	b.want("FETCH 1 FLAGS", "NO [NONEXISTENT]")
	b.ok("NOOP")
	b.ok("SELECT INBOX")
	// Others are told and have to start anew.
	a.send("a NOOP\r\n")
	for {
		l := a.line()
		if strings.HasPrefix(l, "* BYE [NONEXISTENT]") {
			break
		}
		if strings.HasPrefix(l, "a ") {
			t.Fatalf("%q", l)
		}
	}
	if got := idle.eof(); !strings.Contains(got, "* BYE [NONEXISTENT]") {
		t.Errorf("%q", got)
	}
}

func testPanic(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "panic", nil)
	st.fill("INBOX", 3)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	st.mail.at(func(op string) error {
		if op == "messages" || op == "read" {
			panic("in the middle of a command")
		}
		return nil
	})
	a.send("a FETCH 1 FLAGS\r\n")
	if got := a.eof(); strings.Contains(got, "a OK") {
		t.Errorf("%q", got)
	}
	var once atomic.Bool // of the messages that are read ahead, one: a later panic could be counted when this test is over
	st.mail.at(func(op string) error {
		if op == "read" && !once.Swap(true) {
			panic("in a goroutine of a command")
		}
		return nil
	})
	b.want("FETCH 1:3 BODY.PEEK[]", "NO [SERVERBUG]")
	st.mail.at(nil)
	b.ok("FETCH 1:3 BODY.PEEK[]")
	clustertest.Eventually(t, 10*time.Second, func() bool { return st.srv.stats.panics.Load() >= 2 }, func() string { return "two panics are counted" })
	st.srv.stats.panics.Store(0)
}
