package imap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// doAll sends commands at once and returns the lines of their answers, without tags.
func (r *raw) doAll(commands []string) (lines []string) {
	r.t.Helper()
	var text strings.Builder
	first := r.n + 1
	for _, c := range commands {
		r.n++
		fmt.Fprintf(&text, "t%d %s\r\n", r.n, c)
	}
	r.send(text.String())
	for i := range commands {
		lines = append(lines, r.until(fmt.Sprintf("t%d", first+i))...)
	}
	return lines
}

// testStoreRun: STOREs that differ in their messages only are one command of the cluster, and each is answered for itself.
func testStoreRun(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "storerun", nil)
	st.fill("INBOX", 5)
	r, other := st.rawUser("INBOX"), st.rawUser("INBOX")
	var stores atomic.Int32
	count := func(op string) error {
		if op == "store" {
			stores.Add(1)
		}
		return nil
	}
	all := func(calls int32, commands []string, want ...string) {
		t.Helper()
		stores.Store(0)
		st.mail.at(count)
		got := r.doAll(commands)
		st.mail.at(nil)
		if !slices.Equal(got, want) {
			t.Errorf("%q:\ngot  %q\nwant %q", commands, got, want)
		}
		if n := stores.Load(); n != calls {
			t.Errorf("%q: the cluster was asked %d times, want %d", commands, n, calls)
		}
	}
	ok := "OK STORE completed"
	all(1, []string{`STORE 1 +FLAGS (\Seen)`, `store 3:4 +flags \seen`, `STORE 1 +FLAGS (\Seen)`},
		`* 1 FETCH (FLAGS (\Seen))`, ok, `* 3 FETCH (FLAGS (\Seen))`, `* 4 FETCH (FLAGS (\Seen))`, ok, `* 1 FETCH (FLAGS (\Seen))`, ok)
	all(2, []string{`STORE 1 -FLAGS (\Seen)`, `STORE 2 +FLAGS (\Seen)`}, `* 1 FETCH (FLAGS ())`, ok, `* 2 FETCH (FLAGS (\Seen))`, ok)
	all(2, []string{`STORE 1 +FLAGS.SILENT (\Draft)`, `STORE 2 +FLAGS.SILENT (\Draft)`, `NOOP`, `STORE 3 +FLAGS.SILENT (\Draft)`}, ok, ok, "OK NOOP completed", ok)
	all(3, []string{`UID STORE 1 FLAGS ($Work)`, `UID STORE 99 FLAGS ($Work)`, `UID STORE 2 FLAGS ($work)`, `STORE 9 FLAGS ($Work)`, `STORE 3 FLAGS ($Work)`},
		`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)`,
		`* 1 FETCH (UID 1 FLAGS ($Work))`, "OK UID STORE completed", "OK UID STORE completed", `* 2 FETCH (UID 2 FLAGS ($Work))`, "OK UID STORE completed",
		"BAD [CLIENTBUG] No message has such a sequence number", `* 3 FETCH (FLAGS ($Work))`, ok)

	// What others did meanwhile is told once all are answered, and nothing older after it.
	st.mail.at(func(op string) error {
		if op == "store" {
			st.mail.at(nil)
			other.ok(`STORE 4:5 FLAGS (\Flagged)`)
		}
		return nil
	})
	got := r.doAll([]string{`STORE 1 FLAGS.SILENT (\Seen)`, `STORE 4 FLAGS.SILENT (\Seen)`})
	if want := []string{ok, `* 4 FETCH (FLAGS (\Seen))`, `* 5 FETCH (UID 5 FLAGS (\Flagged))`, ok}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	st.mail.at(always("store", client.ErrUnavailable))
	for _, l := range r.doAll([]string{`STORE 1 +FLAGS (\Draft)`, `STORE 2 +FLAGS (\Draft)`}) {
		if !strings.HasPrefix(l, "NO [UNAVAILABLE]") {
			t.Errorf("got %q while the cluster gave no answer", l)
		}
	}
	st.mail.at(nil)
	r.ok("ENABLE CONDSTORE")
	stores.Store(0)
	st.mail.at(count)
	r.doAll([]string{`STORE 1 +FLAGS (\Draft)`, `STORE 2 +FLAGS (\Draft)`})
	st.mail.at(nil)
	if n := stores.Load(); n != 2 {
		t.Errorf("a client that counts on modification sequences had its STOREs joined: the cluster was asked %d times", n)
	}
}

// testStoreRuns has one client send at once what another sends one by one: both are answered the same.
func testStoreRuns(t *testing.T, c *clustertest.Cluster) {
	rng := rand.New(rand.NewPCG(5, 29))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	st := serve(t, c, "storeruns", nil)
	slow := st.rawUser("INBOX")
	slow.ok("CREATE Other")
	st.fill("INBOX", 8)
	st.fill("Other", 8)
	slow.ok("SELECT INBOX")
	fast := st.rawUser("Other")
	for range 30 {
		var commands []string
		uid, rest := pick("", "UID "), ""
		for range 1 + rng.IntN(20) {
			if rest == "" || rng.IntN(4) == 0 {
				uid, rest = pick("", "UID "), pick("+", "-", "")+pick("FLAGS", "FLAGS.SILENT")+pick(` (\Seen)`, ` \Flagged $Work`, " ()", ` (a b)`, ` (\Recent)`)
			}
			set := pick(fmt.Sprint(1+rng.IntN(9)), "1:3", "*", "2,5", "7:*", "$")
			commands = append(commands, pick(uid+"STORE "+set+" "+rest, uid+"STORE "+set+" "+rest, uid+"STORE "+set+" "+rest, "NOOP", "FETCH 1:* FLAGS", "STORE"))
		}
		var want []string
		for _, cmd := range commands {
			want = append(want, slow.do(cmd)...)
		}
		if got := fast.doAll(commands); !slices.Equal(got, want) {
			t.Fatalf("%q:\nat once    %q\none by one %q", commands, got, want)
		}
	}
}
