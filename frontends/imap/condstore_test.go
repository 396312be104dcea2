package imap

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// like sends a command and compares all of its answer with lines in which "#" is any number, "…" any text. It returns the numbers.
func (r *raw) like(cmd string, want ...string) (numbers []uint64) {
	r.t.Helper()
	return r.alike(cmd, r.do(cmd), want)
}

func (r *raw) alike(cmd string, got, want []string) (numbers []uint64) {
	r.t.Helper()
	if len(got) != len(want) {
		r.t.Fatalf("%s\ngot  %q\nwant %q", cmd, got, want)
	}
	for i, w := range want {
		p := strings.NewReplacer("#", `(\d+)`, "…", ".*").Replace(regexp.QuoteMeta(w))
		m := regexp.MustCompile("^" + p + "$").FindStringSubmatch(got[i])
		if m == nil {
			r.t.Fatalf("%s\ngot  %q\nwant %q", cmd, got, want)
		}
		for _, n := range m[1:] {
			numbers = append(numbers, uint64(number(n)))
		}
	}
	return numbers
}

func ascending(t *testing.T, numbers ...uint64) {
	t.Helper()
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			t.Errorf("modification sequences do not grow: %v", numbers)
		}
	}
}

// testCondstore goes through the examples of RFC 7162 section 3.1.
func testCondstore(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "condstore", nil)
	st.fill("INBOX", 4)
	a, b := st.rawUser(""), st.rawUser("INBOX")
	sel := a.ok("SELECT INBOX (CONDSTORE)")
	i := slices.IndexFunc(sel, func(l string) bool { return strings.HasPrefix(l, "* OK [HIGHESTMODSEQ ") })
	if i < 0 {
		t.Fatalf("%q", sel)
	}
	m := a.like("FETCH 1:4 MODSEQ", "* 1 FETCH (MODSEQ (#))", "* 2 FETCH (MODSEQ (#))", "* 3 FETCH (MODSEQ (#))", "* 4 FETCH (MODSEQ (#))", "OK…")
	ascending(t, m...)
	if !strings.HasPrefix(sel[i], fmt.Sprintf("* OK [HIGHESTMODSEQ %d]", m[3])) {
		t.Errorf("%q, want %d", sel[i], m[3])
	}
	// The first command of its kind makes a session one that is told.
	b.like("STORE 1 +FLAGS (\\Answered)", `* 1 FETCH (FLAGS (\Answered))`, "OK…")
	n := b.like("UID FETCH 1 (FLAGS MODSEQ)", "* OK [HIGHESTMODSEQ #]…", `* 1 FETCH (UID 1 FLAGS (\Answered) MODSEQ (#))`, "OK…")
	if n[0] != n[1] {
		t.Error(n)
	}
	now := b.like("STORE 2 +FLAGS (\\Seen)", `* 2 FETCH (FLAGS (\Seen) MODSEQ (#))`, "OK…")[0]
	ascending(t, m[3], n[1], now)
	// Others' changes, ours of a silent STORE, and what reading sets.
	got := a.like("NOOP", `* 1 FETCH (UID 1 FLAGS (\Answered) MODSEQ (#))`, `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`, "OK…")
	if !slices.Equal(got, []uint64{n[1], now}) {
		t.Error(got)
	}
	silent := a.like("STORE 3 +FLAGS.SILENT (\\Flagged)", "* 3 FETCH (MODSEQ (#))", "OK…")[0]
	seen := a.like("FETCH 4 (BODY[TEXT]<0.1>)", `* 4 FETCH (FLAGS (\Seen) MODSEQ (#) BODY[TEXT]<0> {1}`, "b)", "OK…")[0]
	ascending(t, now, silent, seen)
	a.like("NOOP", "OK…")
	// Only what changed.
	a.like(fmt.Sprintf("FETCH 1:* (FLAGS) (CHANGEDSINCE %d)", now), fmt.Sprintf(`* 3 FETCH (FLAGS (\Flagged) MODSEQ (%d))`, silent), fmt.Sprintf(`* 4 FETCH (FLAGS (\Seen) MODSEQ (%d))`, seen), "OK…")
	a.like(fmt.Sprintf("UID FETCH 1:3 (UID) (CHANGEDSINCE %d)", now), fmt.Sprintf(`* 3 FETCH (UID 3 MODSEQ (%d))`, silent), "OK…")
	a.like(fmt.Sprintf("FETCH 1:* FLAGS (CHANGEDSINCE %d)", seen), "OK…")
	a.like("STATUS INBOX (HIGHESTMODSEQ)", fmt.Sprintf("* STATUS INBOX (HIGHESTMODSEQ %d)", seen), "OK…")
	if l := b.ok(`LIST "" INBOX RETURN (STATUS (HIGHESTMODSEQ))`); !slices.Contains(l, fmt.Sprintf("* STATUS INBOX (HIGHESTMODSEQ %d)", seen)) {
		t.Errorf("%q", l)
	}
	searchModSeqs(a, now, silent, seen)
	a.want("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD")
	a.want("SELECT INBOX (QRESYNC (1 1))", "BAD")
	a.like("ENABLE CONDSTORE", "* ENABLED", "OK…")
	a.like("STORE 1 +FLAGS (\\Deleted)", "* 1 FETCH…", "OK…")
	h := a.like("EXPUNGE", "* 1 EXPUNGE", "OK [HIGHESTMODSEQ #]…")[0]
	b.like("STATUS INBOX (HIGHESTMODSEQ)", fmt.Sprintf("* STATUS INBOX (HIGHESTMODSEQ %d)", h), "* 1 EXPUNGE", "OK…")
	a.like("EXPUNGE", "OK [HIGHESTMODSEQ #]…")
}

func searchModSeqs(r *raw, now, silent, seen uint64) {
	r.t.Helper()
	for _, c := range []struct{ cmd, want string }{
		{`SEARCH MODSEQ %d`, fmt.Sprintf("* SEARCH 2 3 4 (MODSEQ %d)", seen)},
		{`SEARCH MODSEQ "/flags/\\draft" all %d UNSEEN`, fmt.Sprintf("* SEARCH 3 (MODSEQ %d)", silent)},
		{`UID SEARCH NOT MODSEQ %d SUBJECT 1`, `* SEARCH 1 (MODSEQ #)`},
		{`SEARCH OR MODSEQ %d SUBJECT "message 1"`, fmt.Sprintf("* SEARCH 1 2 3 4 (MODSEQ %d)", seen)},
		{`SEARCH RETURN (MIN) MODSEQ %d`, fmt.Sprintf(`* ESEARCH (TAG "#") MIN 2 MODSEQ %d`, now)},
		{`SEARCH RETURN (MIN COUNT) MODSEQ %d`, fmt.Sprintf(`* ESEARCH (TAG "#") MIN 2 COUNT 3 MODSEQ %d`, seen)},
		{`UID SEARCH RETURN () MODSEQ %d 1:3`, fmt.Sprintf(`* ESEARCH (TAG "#") UID ALL 2:3 MODSEQ %d`, silent)},
		{`SEARCH MODSEQ %d DRAFT`, "* SEARCH"},
		{`SEARCH MODSEQ 1 NOT MODSEQ %d ANSWERED`, "* SEARCH 1 (MODSEQ #)"},
		{`SEARCH MODSEQ 0 MODSEQ 9%d`, "* SEARCH"},
	} {
		r.like(fmt.Sprintf(c.cmd, now), strings.ReplaceAll(c.want, `"#"`, `"t#"`), "OK…")
	}
}

// testConditionalStore is RFC 7162 section 3.1.3.
func testConditionalStore(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "conditional", nil)
	st.fill("INBOX", 5)
	a, b := st.rawUser("INBOX"), st.rawUser("INBOX")
	start := a.like("STATUS INBOX (HIGHESTMODSEQ)", "* OK [HIGHESTMODSEQ #]…", "* STATUS INBOX (HIGHESTMODSEQ #)", "OK…")[1]
	cond := func(format string) string { return fmt.Sprintf(format, start) }
	b.ok("STORE 2,4 +FLAGS (\\Flagged)")
	a.like(cond("STORE 1:5 (UNCHANGEDSINCE %d) +FLAGS.SILENT ($Processed)"), "* FLAGS…$Processed)",
		"* 1 FETCH (MODSEQ (#))", "* 3 FETCH (MODSEQ (#))", "* 5 FETCH (MODSEQ (#))",
		`* 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ (#))`, `* 4 FETCH (UID 4 FLAGS (\Flagged) MODSEQ (#))`, "OK [MODIFIED 2,4]…")
	a.like(cond("UID STORE 2:4 (UNCHANGEDSINCE %d) FLAGS ()"), "OK [MODIFIED 2:4]…")
	a.like("STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)", "OK [MODIFIED 1]…")
	a.like("STORE 1 (UNCHANGEDSINCE 9223372036854775807) +FLAGS ($Processed)", `* 1 FETCH (FLAGS ($Processed) MODSEQ (#))`, "OK STORE…")
	a.like("STORE 1:2 (UNCHANGEDSINCE 9223372036854775807) -FLAGS.SILENT ($Processed)", `* 1 FETCH (MODSEQ (#))`, `* 2 FETCH (MODSEQ (#))`, "OK STORE…")
	a.want("STORE 1 (UNCHANGEDSINCE x) FLAGS ()", "BAD")
	b.ok("STORE 3 +FLAGS (\\Deleted)")
	b.ok("EXPUNGE")
	a.like(cond("STORE 3:4 (UNCHANGEDSINCE %d) +FLAGS (\\Seen)"), "NO [MODIFIED 4]…")
	a.like("NOOP", "* 3 EXPUNGE", "OK…")
}

// testQresync goes through the examples of RFC 7162 section 3.2.
func testQresync(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "qresync", nil)
	st.fill("INBOX", 9)
	a, b := st.rawUser(""), st.rawUser("INBOX")
	a.want("SELECT INBOX (QRESYNC (1 1))", "BAD")
	a.like("ENABLE QRESYNC X", "* ENABLED QRESYNC", "OK…")
	a.like("ENABLE CONDSTORE QRESYNC", "* ENABLED", "OK…")
	a.ok("SELECT INBOX")
	n := a.like("STATUS INBOX (UIDVALIDITY HIGHESTMODSEQ)", "* STATUS INBOX (UIDVALIDITY # HIGHESTMODSEQ #)", "OK…")
	validity, start := n[0], n[1]
	b.ok("STORE 3,5:7 +FLAGS (\\Deleted)")
	b.ok("EXPUNGE")
	b.ok("STORE 2 +FLAGS (\\Seen)")
	// In place of EXPUNGE, and not while numbers must keep their meaning; nor anything behind it.
	a.like("FETCH 1 UID", "* 1 FETCH (UID 1)", "OK…")
	a.like("STORE 1 +FLAGS (\\Flagged)", `* 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (#))`, "OK…")
	a.like("UID FETCH 8 UID", "* 8 FETCH (UID 8)", "* VANISHED 3,5:7", `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`, "OK…")
	a.like("FETCH 1:* UID", "* 1 FETCH (UID 1)", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 4)", "* 4 FETCH (UID 8)", "* 5 FETCH (UID 9)", "OK…")
	for _, q := range []struct {
		known string
		want  []string
	}{
		{"", []string{"* VANISHED (EARLIER) 3,5:7", `* 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (#))`, `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`}},
		{" 1:9", []string{"* VANISHED (EARLIER) 3,5:7", `* 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (#))`, `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`}},
		{" 2,4:6,8 (1,2 1,2)", []string{"* VANISHED (EARLIER) 5:6", `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`}},
		{" 9:4294967295", nil},
	} {
		a.resync(fmt.Sprintf("%d %d%s", validity, start, q.known), q.want...)
	}
	a.resync(fmt.Sprintf("%d %d", validity+1, start))
	a.resync(fmt.Sprintf("%d %d", validity, uint64(1<<62)))
	a.like(fmt.Sprintf("UID FETCH 4:* (FLAGS) (CHANGEDSINCE %d VANISHED)", start), "* VANISHED (EARLIER) 5:7", "OK…")
	a.like(fmt.Sprintf("UID FETCH 1:2,7:8 (FLAGS) (VANISHED CHANGEDSINCE %d)", start), "* VANISHED (EARLIER) 7",
		`* 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (#))`, `* 2 FETCH (UID 2 FLAGS (\Seen) MODSEQ (#))`, "OK…")
	a.want(fmt.Sprintf("FETCH 1:2 FLAGS (CHANGEDSINCE %d VANISHED)", start), "BAD")
	testQresyncExpunge(t, st, a, b, validity)
}

// resync opens INBOX with what the client remembers; want comes behind the mailbox's figures.
func (r *raw) resync(args string, want ...string) {
	r.t.Helper()
	cmd := "SELECT INBOX (QRESYNC (" + args + "))"
	got := r.ok(cmd)
	figures := slices.IndexFunc(got, func(l string) bool { return strings.HasPrefix(l, "* OK [HIGHESTMODSEQ ") })
	r.alike(cmd, got[figures+1:], append(slices.Clone(want), "OK [READ-WRITE]…"))
}

func testQresyncExpunge(t *testing.T, st *stage, a, b *raw, validity uint64) {
	at := func() uint64 {
		box, err := st.mail.Status(t.Context(), st.account, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		return box.HighestModSeq
	}
	same := func(got uint64) {
		t.Helper()
		if want := at(); got != want {
			t.Errorf("HIGHESTMODSEQ %d, want %d", got, want)
		}
	}
	a.ok("STORE 1,3 +FLAGS (\\Deleted)")
	same(a.like("UID EXPUNGE 4", "* VANISHED 4", "OK [HIGHESTMODSEQ #]…")[0])
	same(a.like("EXPUNGE", "* VANISHED 1", "OK [HIGHESTMODSEQ #]…")[0])
	b.like("NOOP", "* 3 EXPUNGE", "* 1 EXPUNGE", "OK…")
	a.like("UID MOVE 8 Trash", "* OK [COPYUID # 8 1]…", "* VANISHED 8", "OK [HIGHESTMODSEQ #]…")
	a.ok("STORE 1 +FLAGS (\\Deleted)")
	same(a.like("CLOSE", "OK [HIGHESTMODSEQ #]…")[0])
	// CLOSE with changes of others before it and in its middle: the client comes back to what it does not know.
	a.ok("SELECT INBOX")
	st.fill("INBOX", 2) // 10, 11
	a.ok("NOOP")
	a.ok("UID STORE 9 +FLAGS (\\Deleted)")
	b.like("NOOP", "* 2 EXPUNGE", "* 1 EXPUNGE", "* 3 EXISTS", "* 1 FETCH…", "OK…")
	b.ok("UID STORE 10 +FLAGS (\\Flagged)")
	before := at()
	deleted := false
	st.mail.at(func(op string) error {
		if op == "expunge" && !deleted {
			deleted = true
			b.ok("UID STORE 11 +FLAGS (\\Deleted \\Answered)")
		}
		return nil
	})
	got := a.like("CLOSE", `* 2 FETCH (UID 10 FLAGS (\Flagged) MODSEQ (#))`, "OK [HIGHESTMODSEQ #]…")[1]
	st.mail.at(nil)
	if got != before {
		t.Errorf("HIGHESTMODSEQ %d, want %d", got, before)
	}
	a.resync(fmt.Sprintf("%d %d", validity, got), "* VANISHED (EARLIER) 9", `* 2 FETCH (UID 11 FLAGS (\Answered \Deleted) MODSEQ (#))`)
	a.ok("UNSELECT")
	a.ok("EXAMINE INBOX")
	a.like("CLOSE", "OK CLOSE…")
	asked := make(map[string]int) // what a client costs that missed nothing
	st.mail.at(func(op string) error { asked[op]++; return nil })
	a.resync(fmt.Sprintf("%d %d 1:11", validity, at()))
	if asked["messages"] != 0 || asked["changes"] > 2 {
		t.Errorf("%v", asked)
	}
	st.mail.at(always("changes", client.ErrUnavailable))
	a.want(fmt.Sprintf("SELECT INBOX (QRESYNC (%d 1))", validity), "NO [UNAVAILABLE]")
	st.mail.at(nil)
	a.want("FETCH 1 UID", "BAD")
}

// testCondstoreLibrary is CONDSTORE as a client library uses it.
func testCondstoreLibrary(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "condlib", nil)
	st.fill("INBOX", 3)
	cl := st.dial(nil)
	if caps := cl.Caps(); !caps.Has(goimap.CapCondStore) || !caps.Has(goimap.CapQResync) {
		t.Errorf("%v", caps)
	}
	box, err := cl.Select("INBOX", &goimap.SelectOptions{CondStore: true}).Wait()
	if err != nil || box.HighestModSeq == 0 {
		t.Fatalf("%+v %v", box, err)
	}
	seen := &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagSeen}}
	list, err := cl.Store(goimap.SeqSetNum(2), seen, &goimap.StoreOptions{UnchangedSince: box.HighestModSeq}).Collect()
	if err != nil || len(list) != 1 || list[0].ModSeq <= box.HighestModSeq {
		t.Fatalf("%+v %v", list, err)
	}
	changed, err := cl.Fetch(goimap.SeqSet{{Start: 1}}, &goimap.FetchOptions{Flags: true, ModSeq: true, ChangedSince: box.HighestModSeq}).Collect()
	if err != nil || len(changed) != 1 || changed[0].ModSeq != list[0].ModSeq || changed[0].SeqNum != 2 {
		t.Errorf("%+v %v", changed, err)
	}
	found, err := cl.Search(&goimap.SearchCriteria{ModSeq: &goimap.SearchCriteriaModSeq{ModSeq: list[0].ModSeq}}, nil).Wait()
	if err != nil || !slices.Equal(found.AllSeqNums(), []uint32{2}) || found.ModSeq != list[0].ModSeq {
		t.Errorf("%+v %v", found, err)
	}
	status, err := cl.Status("INBOX", &goimap.StatusOptions{HighestModSeq: true}).Wait()
	if err != nil || status.HighestModSeq != list[0].ModSeq {
		t.Errorf("%+v %v", status, err)
	}
}

func TestVanishedLines(t *testing.T) {
	uids := roaring.New()
	for i := range uint32(2*vanishedRanges + 1) {
		uids.Add(4_000_000_000 + 2*i)
	}
	base, _, from := pipe(t)
	srv := stubServer(nil)
	s := newSession(srv, newConn(base, srv))
	go func() {
		s.tellVanished(vanishedEarlier, uids)
		_ = s.out.Flush()
		s.close()
	}()
	b := make([]byte, 64<<10)
	n := 0
	for err := error(nil); err == nil; {
		var k int
		k, err = from.Read(b[n:])
		n += k
	}
	lines := strings.Split(strings.TrimSuffix(string(b[:n]), "\r\n"), "\r\n")
	if len(lines) != 3 || lines[2] != "* VANISHED (EARLIER) 4000001200" || len(lines[0]) > 8192 {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// racing is a mailbox from which messages vanish between the two questions of a SELECT with QRESYNC: of five messages one that the client knows and one that it does not.
type racing struct {
	stub
	parts bool // the changes come in two
}

func (racing) Select(context.Context, client.Account, string) (client.Selected, error) {
	box := client.Mailbox{ID: 1, Name: "INBOX", UIDNext: 6, UIDValidity: 7, HighestModSeq: 10, Messages: 5}
	return client.Selected{Mailbox: box, UIDs: roaring.BitmapOf(1, 2, 3, 4, 5), Unseen: roaring.BitmapOf(2, 5), Rights: client.RightsAll}, nil
}

func (m racing) Changes(_ context.Context, _ client.Account, _ uint32, since uint64, _ ...uint64) (client.Changes, error) {
	first := client.Changes{HighestModSeq: 9, UIDNext: 6, Vanished: roaring.New(), More: true, Changed: []client.FlagChange{
		{UID: 5, ModSeq: 8}, {UID: 3, ModSeq: 9, Flags: client.Flags{Keywords: []string{"work"}}},
	}}
	second := client.Changes{HighestModSeq: 12, UIDNext: 6, Vanished: roaring.BitmapOf(2, 4)}
	switch {
	case since >= 9:
		return second, nil
	case m.parts:
		return first, nil
	}
	first.HighestModSeq, first.Vanished, first.More = second.HighestModSeq, second.Vanished, false
	return first, nil
}

func (racing) Messages(_ context.Context, _ client.Account, _ uint32, uids *roaring.Bitmap, _ client.Want, fn func(*client.Message) error) error {
	for it := uids.Iterator(); it.HasNext(); {
		if err := fn(&client.Message{UID: it.Next(), ModSeq: 9}); err != nil {
			return err
		}
	}
	return nil
}

// TestVanishedWhileSelecting has the count of messages, their numbers and what is told of them agree, whatever vanishes while the answer is made.
func TestVanishedWhileSelecting(t *testing.T) {
	for _, parts := range []bool{false, true} {
		base, to, from := pipe(t)
		go loggedIn(t, newServer(Config{Hostname: "test"}, racing{parts: parts}), base)
		go func() {
			_, _ = io.WriteString(to, "a ENABLE QRESYNC\r\nb SELECT INBOX (QRESYNC (7 5))\r\nc LOGOUT\r\n")
			_ = to.Close()
		}()
		heard, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		got := string(heard)
		for _, want := range []string{"* 3 EXISTS\r\n", "[UNSEEN 3]", "[HIGHESTMODSEQ 10]", "* VANISHED (EARLIER) 2,4\r\n", "* 2 FETCH (UID 3 FLAGS (", "* 3 FETCH (UID 5 FLAGS ("} {
			if !strings.Contains(got, want) {
				t.Errorf("in parts: %v, no %q in %q", parts, want, got)
			}
		}
		if strings.Count(got, "FETCH") != 2 {
			t.Errorf("in parts: %v, %q", parts, got)
		}
	}
}
