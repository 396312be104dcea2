package imap

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/index"
)

// fill appends n small messages.
func (st *stage) fill(mailbox string, n int) {
	st.t.Helper()
	for i := range n {
		st.appendMessage(mailbox, fmt.Sprintf("Subject: message %d\r\n\r\nbody %d\r\n", i+1, i+1))
	}
}

func (r *raw) expect(cmd string, want ...string) {
	r.t.Helper()
	got := r.ok(cmd)
	if !slices.Equal(got[:len(got)-1], want) {
		r.t.Errorf("%s\ngot  %q\nwant %q", cmd, got[:len(got)-1], want)
	}
}

// testOneMoment: what SELECT tells is all of one moment, so that UIDNEXT lies above every message that its EXISTS counts.
func testOneMoment(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "moment", nil)
	st.fill("INBOX", 1)
	r := st.rawUser("INBOX")
	st.mail.at(func(op string) error {
		if op == "changes" {
			t.Error("SELECT asks for what came since")
		}
		return nil
	})
	for _, cmd := range []string{"SELECT INBOX", "EXAMINE INBOX"} {
		got := r.ok(cmd)
		if n := len(slices.DeleteFunc(got, func(line string) bool { return !strings.HasSuffix(line, " EXISTS") })); n != 1 {
			t.Errorf("%s: %d lines say EXISTS", cmd, n)
		}
	}
	st.mail.at(nil)
}

func testFlags(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "flags", nil)
	st.fill("INBOX", 3)
	r := st.rawUser("INBOX")
	const known = `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $A`
	r.expect(`STORE 1 +FLAGS (\Seen $A)`, known+")", `* 1 FETCH (FLAGS (\Seen $A))`)
	r.expect(`STORE 1:2 FLAGS (\Flagged)`, `* 1 FETCH (FLAGS (\Flagged))`, `* 2 FETCH (FLAGS (\Flagged))`)
	r.expect(`STORE 1 +FLAGS \Flagged`, `* 1 FETCH (FLAGS (\Flagged))`) // as if fetched, though nothing changed
	r.expect(`UID STORE 2 -FLAGS (\Flagged)`, `* 2 FETCH (UID 2 FLAGS ())`)
	r.expect(`STORE 3 +FLAGS.SILENT ($b)`, known+" $b)")
	r.expect(`FETCH 3 FLAGS`, `* 3 FETCH (FLAGS ($b))`)
	r.expect(`STORE 3 FLAGS ()`, `* 3 FETCH (FLAGS ())`)
	r.expect(`UID STORE 77 +FLAGS (\Seen)`)
	r.want(`STORE 77 +FLAGS (\Seen)`, "BAD")
	r.want(`STORE 1 +FLAGS (\Recent)`, "BAD")
	r.want(`STORE 1 +LABELS (x)`, "BAD")
	got := r.ok("SELECT INBOX")
	if !slices.Contains(got, `* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $A $b \*)] Permanent flags`) {
		t.Errorf("%q", got)
	}
	r.expect(`STORE 1:3 +FLAGS.SILENT (\Deleted)`)
	r.expect("UID EXPUNGE 2:99", "* 3 EXPUNGE", "* 2 EXPUNGE")
	r.expect("EXPUNGE", "* 1 EXPUNGE")
	r.expect("EXPUNGE")
	st.fill("INBOX", 2)
	r.expect("NOOP", "* 2 EXISTS")
	r.ok(`STORE 1 +FLAGS (\Deleted)`)
	r.ok("CLOSE")
	r.want("FETCH 1 FLAGS", "BAD")
	r.expect("STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 1)")
	r.ok("SELECT INBOX")
	r.ok(`STORE 1 +FLAGS (\Deleted)`)
	r.ok("UNSELECT")
	r.expect("STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 1)")
}

// testKeywords: when a mailbox takes no more keywords its clients are told that they cannot make any.
func testKeywords(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "keywords", nil)
	st.fill("INBOX", 1)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	store := func(from, to int) string {
		var list []string
		for i := from; i < to; i++ {
			list = append(list, fmt.Sprintf("k%d", i))
		}
		return "STORE 1 +FLAGS.SILENT (" + strings.Join(list, " ") + ")"
	}
	permanent := func(lines []string) string {
		t.Helper()
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "* OK [PERMANENTFLAGS ") })
		if i < 0 {
			return ""
		}
		return lines[i]
	}
	if got := permanent(r.ok(store(0, index.MaxKeywords-1))); got != "" {
		t.Errorf("%q", got)
	}
	if got := permanent(other.ok("SELECT INBOX")); !strings.Contains(got, ` k254 \*)]`) {
		t.Errorf("%q", got)
	}
	last := store(index.MaxKeywords-1, index.MaxKeywords)
	for what, lines := range map[string][]string{"STORE": r.ok(last), "another session": other.ok("NOOP"), "SELECT": other.ok("SELECT INBOX")} {
		if got := permanent(lines); !strings.Contains(got, " k255)]") {
			t.Errorf("%s: %q", what, got)
		}
	}
	r.want("STORE 1 +FLAGS (more)", "NO [LIMIT]")
	r.ok(last)
}

func testReadOnly(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "readonly", nil)
	st.fill("INBOX", 2)
	w := st.rawUser("INBOX")
	w.ok(`STORE 1 +FLAGS (\Deleted)`)
	r := st.rawUser("")
	got := r.ok("EXAMINE INBOX")
	if !slices.Contains(got, "* OK [PERMANENTFLAGS ()] Permanent flags") || !strings.HasPrefix(got[len(got)-1], "OK [READ-ONLY]") {
		t.Errorf("%q", got)
	}
	r.want(`STORE 1 +FLAGS (\Seen)`, "NO [NOPERM]")
	r.want("EXPUNGE", "NO [NOPERM]")
	r.want("UID EXPUNGE 1", "NO [NOPERM]")
	r.want("MOVE 1 Trash", "NO [NOPERM]")
	r.expect("FETCH 2 BODY[TEXT]", "* 2 FETCH (BODY[TEXT] {8}", "body 2", ")")
	r.expect("FETCH 2 FLAGS", "* 2 FETCH (FLAGS ())")
	r.ok("COPY 2 Trash")
	r.ok("CLOSE")
	r.expect("STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 2)")
}

func testCopyMove(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "move", nil)
	st.fill("INBOX", 5)
	r := st.rawUser("INBOX")
	got := r.ok("COPY 1,3:4 Trash")
	if !regexp.MustCompile(`^OK \[COPYUID \d+ 1,3:4 1:3\]`).MatchString(got[0]) {
		t.Errorf("%q", got)
	}
	got = r.ok("UID MOVE 2:3,77 Trash")
	if len(got) != 4 || !regexp.MustCompile(`^\* OK \[COPYUID \d+ 2:3 4:5\]`).MatchString(got[0]) || got[1] != "* 3 EXPUNGE" || got[2] != "* 2 EXPUNGE" {
		t.Errorf("%q", got)
	}
	r.expect("FETCH 1:* UID", "* 1 FETCH (UID 1)", "* 2 FETCH (UID 4)", "* 3 FETCH (UID 5)")
	r.want("COPY 1 nowhere", "NO [TRYCREATE]")
	r.want("MOVE 1 nowhere", "NO [TRYCREATE]")
	r.want("UID COPY 77 nowhere", "NO [TRYCREATE]")
	r.want("UID MOVE 77 nowhere", "NO [TRYCREATE]")
	r.ok("UID COPY 77 Trash")
	r.ok("UID MOVE 77 Trash")
	r.want("COPY 9 Trash", "BAD")
	r.expect("STATUS Trash (MESSAGES)", `* STATUS "Trash" (MESSAGES 5)`)
	got = r.ok("COPY 1 INBOX") // into itself: the copy is new
	if len(got) != 2 || got[0] != "* 4 EXISTS" {
		t.Errorf("%q", got)
	}
}

func testUpdates(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "updates", nil)
	st.fill("INBOX", 4)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	a.ok(`STORE 2 +FLAGS (\Flagged $new)`)
	b.expect("NOOP", `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $new)`, `* 2 FETCH (UID 2 FLAGS (\Flagged $new))`)
	a.expect("NOOP")
	a.ok(`STORE 1,3 +FLAGS (\Deleted)`)
	a.expect("EXPUNGE", "* 3 EXPUNGE", "* 1 EXPUNGE")
	st.fill("INBOX", 1)
	// Until b may be told, its numbers mean what they meant.
	b.expect("FETCH 2 UID", "* 2 FETCH (UID 2)", "* 5 EXISTS")
	b.expect("FETCH 4:5 (UID)", "* 4 FETCH (UID 4)", "* 5 FETCH (UID 5)")
	b.want("FETCH 1:2 FLAGS", "NO [EXPUNGEISSUED]")
	b.want("STORE 3 +FLAGS (\\Seen)", "OK [EXPUNGEISSUED]")
	b.expect("SEARCH ALL", "* SEARCH 2 4 5")
	b.expect("STORE 2 +FLAGS (\\Seen)", `* 2 FETCH (FLAGS (\Flagged \Seen $new))`)
	b.expect("UID FETCH 1:2 UID", "* 2 FETCH (UID 2)", "* 3 EXPUNGE", "* 1 EXPUNGE")
	b.expect("FETCH 1:* UID", "* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)", "* 3 FETCH (UID 5)")
	// A session in another region, through that node's own door.
	far := serveNode(t, c, 2, st.user)
	f := far.rawUser("INBOX")
	b.ok("STORE 2 +FLAGS (\\Answered)")
	clustertest.Eventually(t, 5*time.Second, func() bool {
		return slices.Contains(f.ok("NOOP"), `* 2 FETCH (UID 4 FLAGS (\Answered))`)
	}, func() string { return "no update in the other region" })
	// A command that is refused tells as well, so that its client learns which number is void; not that the cluster cannot be asked keeps the refusal away.
	a.ok("NOOP")
	a.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
	a.ok("EXPUNGE")
	st.mail.at(always("changes", client.ErrUnavailable))
	if got := b.want("COPY 9 Trash", "BAD"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got := b.want("COPY 1 nowhere", "NO [TRYCREATE]"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	st.mail.at(nil)
	b.expect("FETCH 2 UID", "* 2 FETCH (UID 4)")
	if got := b.want("COPY 1 Trash", "NO [EXPUNGEISSUED]"); !slices.Equal(got[:len(got)-1], []string{"* 1 EXPUNGE"}) {
		t.Errorf("%q", got)
	}
	b.ok("COPY 1 Trash")
}

// testParts lets changes come in parts: those of a new message that was marked behind those of newer ones.
func testParts(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "parts", nil)
	st.fill("INBOX", 2)
	st.mail.part = 2
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	st.fill("INBOX", 5)
	a.ok("NOOP")
	a.ok(`STORE 3 +FLAGS (\Flagged)`)
	a.ok(`STORE 1 +FLAGS (\Seen)`)
	b.expect("NOOP", "* 7 EXISTS", `* 1 FETCH (UID 1 FLAGS (\Seen))`)
	b.expect("FETCH 3:4 (UID FLAGS)", `* 3 FETCH (UID 3 FLAGS (\Flagged))`, "* 4 FETCH (UID 4 FLAGS ())")
}

func testVanished(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "vanish", nil)
	st.fill("INBOX", 6)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	// Messages vanish between a command's look-up of its messages and its question for them.
	vanish := func(op, uid string) {
		st.mail.at(func(got string) error {
			if got == op {
				st.mail.at(nil)
				a.ok("UID STORE " + uid + " +FLAGS (\\Deleted)")
				a.ok("UID EXPUNGE " + uid)
			}
			return nil
		})
	}
	vanish("messages", "2")
	got := b.want("FETCH 1:3 FLAGS", "NO [EXPUNGEISSUED]")
	if !slices.Equal(got[:2], []string{"* 1 FETCH (FLAGS ())", "* 3 FETCH (FLAGS ())"}) {
		t.Errorf("%q", got)
	}
	b.expect("NOOP", "* 2 EXPUNGE")
	vanish("messages", "3")
	b.expect("UID FETCH 1:4 FLAGS", "* 1 FETCH (UID 1 FLAGS ())", "* 3 FETCH (UID 4 FLAGS ())", "* 2 EXPUNGE")
	vanish("store", "4")
	b.want("STORE 1:2 +FLAGS (\\Seen)", "OK [EXPUNGEISSUED]")
	b.expect("NOOP", "* 2 EXPUNGE")
	vanish("copy", "5")
	b.ok("COPY 1:2 Trash")
	b.expect("FETCH 1:* UID", "* 1 FETCH (UID 1)", "* 2 FETCH (UID 6)")
}

func testSilentStore(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "silent", nil)
	st.fill("INBOX", 2)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	st.mail.at(func(op string) error { // another session is faster, by a moment
		if op == "store" {
			st.mail.at(nil)
			a.ok(`STORE 1 +FLAGS (\Flagged)`)
		}
		return nil
	})
	b.expect(`STORE 1:2 +FLAGS.SILENT (\Seen)`, `* 1 FETCH (FLAGS (\Flagged \Seen))`)
	b.expect("NOOP")
	b.expect(`STORE 1:2 +FLAGS.SILENT (\Answered)`)
	b.expect(`STORE 1:2 -FLAGS.SILENT (\Answered)`)
	b.expect("FETCH 1:2 FLAGS", `* 1 FETCH (FLAGS (\Flagged \Seen))`, `* 2 FETCH (FLAGS (\Seen))`)
	b.expect("NOOP")
	a.ok("NOOP")
	st.mail.stored = func(done *client.Stored) { // another session is there before the flags are read
		a.ok(`STORE 1 +FLAGS (\Draft)`)
		box, err := st.mail.Status(t.Context(), st.account, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		for i := range done.Changed {
			if done.Changed[i].UID == 1 {
				done.Changed[i].ModSeq = box.HighestModSeq
				done.Changed[i].Flags.System |= index.FlagDraft
			}
		}
	}
	b.expect(`STORE 1:2 -FLAGS.SILENT (\Seen)`, `* 1 FETCH (UID 1 FLAGS (\Flagged \Draft))`)
	b.expect("NOOP")
}

// testStoreOvertaken: another session changes all that was stored, and one message more, before the flags of many messages are read, so that no modseq that is read is of the STORE. What
// the other did is told.
func testStoreOvertaken(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "overtaken", nil)
	st.fill("INBOX", 3)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	overtake := func(op, flag string, bit uint8) {
		st.mail.stored = func(done *client.Stored) {
			a.ok("STORE 1:3 " + op + "FLAGS (" + flag + ")")
			box, err := st.mail.Status(t.Context(), st.account, "INBOX")
			if err != nil {
				t.Fatal(err)
			}
			for i := range done.Changed {
				done.Changed[i].ModSeq = box.HighestModSeq
				done.Changed[i].Flags.System ^= bit
			}
			done.Own = nil
		}
	}
	overtake("+", `\Flagged`, index.FlagFlagged)
	b.expect(`STORE 1:2 +FLAGS.SILENT (\Draft)`, `* 1 FETCH (UID 1 FLAGS (\Flagged \Draft))`, `* 2 FETCH (UID 2 FLAGS (\Flagged \Draft))`, `* 3 FETCH (UID 3 FLAGS (\Flagged))`)
	overtake("-", `\Flagged`, index.FlagFlagged)
	b.expect(`STORE 1 -FLAGS (\Draft)`, `* 1 FETCH (FLAGS ())`, `* 1 FETCH (UID 1 FLAGS ())`, `* 2 FETCH (UID 2 FLAGS (\Draft))`, `* 3 FETCH (UID 3 FLAGS ())`)
	overtake("+", `\Flagged`, index.FlagFlagged)
	b.expect(`FETCH 1 BODY[TEXT]<0.1>`, `* 1 FETCH (FLAGS (\Flagged \Seen) BODY[TEXT]<0> {1}`, "b)",
		`* 1 FETCH (UID 1 FLAGS (\Flagged \Seen))`, `* 2 FETCH (UID 2 FLAGS (\Flagged \Draft))`, `* 3 FETCH (UID 3 FLAGS (\Flagged))`)

	// A client that counts on modseqs hears of none without the flags.
	b.ok("ENABLE CONDSTORE")
	overtake("-", `\Flagged`, index.FlagFlagged)
	b.like(`STORE 1 -FLAGS.SILENT (\Seen)`, `* 1 FETCH (FLAGS () MODSEQ (#))`, `* 1 FETCH (UID 1 FLAGS () MODSEQ (#))`, `* 2 FETCH…`, `* 3 FETCH…`, "OK…")
	overtake("+", `\Flagged`, index.FlagFlagged)
	b.like(`STORE 1 (UNCHANGEDSINCE 9223372036854775807) +FLAGS.SILENT (\Seen)`, `* 1 FETCH (FLAGS (\Flagged \Seen) MODSEQ (#))`,
		`* 1 FETCH (UID 1 FLAGS (\Flagged \Seen) MODSEQ (#))`, `* 2 FETCH…`, `* 3 FETCH…`, "OK…")
	b.expect("NOOP")

	// Where nobody does, a silent STORE of many is that.
	for range 7 {
		a.ok("COPY 1:* INBOX")
	}
	b = st.rawUser("INBOX")
	a.ok("CREATE other") // an entry of the log between what the view knows and the STORE
	b.expect(`STORE 1:* +FLAGS.SILENT ($Work)`, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)")
	b.expect(`STORE 1:* -FLAGS.SILENT ($Work)`)
}

// What a session remembers of its own changes is certain to be that, and bounded also while its client wants to hear of none.
func TestOwnChanges(t *testing.T) {
	change := func(modseqs ...uint64) (list []client.FlagChange) {
		for _, m := range modseqs {
			list = append(list, client.FlagChange{ModSeq: m})
		}
		return list
	}
	for _, step := range []struct {
		done client.Stored
		want []uint64
	}{
		{client.Stored{}, nil},
		{client.Stored{Changed: change(17, 15), Own: []uint64{15}}, []uint64{15}},
		{client.Stored{Changed: change(17, 15)}, nil},
		{client.Stored{Changed: change(17, 11, 15)}, []uint64{11}}, // the first behind the view's
	} {
		sel := newSelected(client.Account{}, client.Selected{Mailbox: client.Mailbox{HighestModSeq: 10}}, false)
		if got := sel.claim(&step.done); !slices.Equal(got, step.want) || !sel.stale || len(sel.own) != len(step.want) {
			t.Errorf("%+v: %v is the session's own, want %v", step.done, got, step.want)
		}
	}
	sel := newSelected(client.Account{}, client.Selected{}, false)
	for m := range uint64(5 * maxOwn) {
		if sel.claim(&client.Stored{Own: []uint64{m}}); len(sel.own) > maxOwn || !sel.knows(m) {
			t.Fatalf("%d changes are remembered, the last one is known: %v", len(sel.own), sel.knows(m))
		}
	}
}

func testIdle(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "idle", nil)
	st.fill("INBOX", 2)
	far := serveNode(t, c, 1, st.user)
	r, w := far.rawUser("INBOX"), st.rawUser("INBOX")
	st.fill("INBOX", 1) // before IDLE, perhaps without a wake-up in it
	r.send("i IDLE\r\n")
	if l := r.line(); !strings.HasPrefix(l, "+ ") {
		// The command before may have been told already.
		t.Fatalf("%q", l)
	}
	if l := r.line(); l != "* 3 EXISTS" {
		t.Fatalf("%q", l)
	}
	for i := range 20 {
		st.fill("INBOX", 1)
		if l := r.line(); l != fmt.Sprintf("* %d EXISTS", 4+i) {
			t.Fatalf("%q", l)
		}
	}
	w.ok("NOOP")
	w.ok(`STORE 1 +FLAGS (\Deleted)`)
	if l := r.line(); l != `* 1 FETCH (UID 1 FLAGS (\Deleted))` {
		t.Fatalf("%q", l)
	}
	w.ok("EXPUNGE")
	if l := r.line(); l != "* 1 EXPUNGE" {
		t.Fatalf("%q", l)
	}
	// Updates that cannot be learned come as soon as they can.
	far.mail.at(always("changes", client.ErrUnavailable))
	st.fill("INBOX", 1)
	time.AfterFunc(300*time.Millisecond, func() { far.mail.at(nil) })
	if l := r.line(); l != "* 23 EXISTS" {
		t.Fatalf("%q", l)
	}
	r.send("DONE\r\n")
	if l := r.line(); !strings.HasPrefix(l, "i OK") {
		t.Fatalf("%q", l)
	}
	if n := far.srv.Stats().Idle; n != 0 {
		t.Errorf("%d sessions in IDLE", n)
	}
	// Without a mailbox IDLE only waits; and a connection may end in it.
	n := far.rawUser("")
	n.send("i IDLE\r\n")
	n.line()
	n.send("done\r\n")
	if l := n.line(); !strings.HasPrefix(l, "i OK") {
		t.Fatalf("%q", l)
	}
	r.send("i IDLE\r\n")
	r.line()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	clustertest.Eventually(t, 5*time.Second, func() bool { return far.srv.Stats().Sessions == 1 },
		func() string { return "a session outlives its connection" })
}
