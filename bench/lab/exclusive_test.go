package lab

import (
	"crypto/tls"
	"fmt"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"hongyan/bench/history"
	"hongyan/bench/lab/labtest"
)

// longestLock is how long the POP3 session of a node that is frozen or dead may keep others out.
const longestLock = 30 * time.Second

// TestExclusivePOP3 freezes and kills nodes whose POP3 sessions have the mailbox. Others get it soon, and never two of them: who was frozen hears that it is over.
func TestExclusivePOP3(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for half a minute")
	}
	r := &crashRun{t: t, bin: labtest.Build(t, "../.."), dir: t.TempDir(), history: history.New()}
	r.start()
	defer r.stop()
	nodes := r.cluster.Nodes
	first, answer := r.pop(nodes[0])
	if !strings.HasPrefix(answer, "+OK") {
		t.Fatal(answer)
	}
	if _, answer := r.pop(nodes[1]); !strings.HasPrefix(answer, "-ERR [IN-USE]") {
		t.Fatal(answer)
	}
	r.control("pause", nodes[0].ID)
	second := r.popAtLast(nodes[1], "frozen")
	r.control("resume", nodes[0].ID)
	if answer := say(t, first, "DELE 1"); !strings.HasPrefix(answer, "-ERR [IN-USE]") {
		t.Errorf("who was frozen is told %q", answer)
	}
	if answer := say(t, second, "NOOP"); !strings.HasPrefix(answer, "+OK") {
		t.Errorf("who has it now is told %q", answer)
	}
	r.control("kill", nodes[1].ID)
	third := r.popAtLast(nodes[2], "dead")
	if answer := say(t, third, "QUIT"); !strings.HasPrefix(answer, "+OK") {
		t.Error(answer)
	}
	if last, answer := r.pop(nodes[0]); !strings.HasPrefix(answer, "+OK") || say(t, last, "QUIT") == "" {
		t.Error(answer)
	}
	r.control("start", nodes[1].ID)
}

// pop logs the first account in, and returns the answer to the password.
func (r *crashRun) pop(n Member) (*textproto.Conn, string) {
	r.t.Helper()
	raw, err := tls.Dial("tcp", n.POP3S, r.tls)
	if err != nil {
		r.t.Fatal(err)
	}
	c := textproto.NewConn(raw)
	r.t.Cleanup(func() { _ = c.Close() })
	if _, err := c.ReadLine(); err != nil {
		r.t.Fatal(err)
	}
	say(r.t, c, "USER "+r.cluster.Accounts[0].Address)
	return c, say(r.t, c, "PASS "+r.cluster.Accounts[0].Password)
}

// popAtLast is pop until it works: of the one who has the mailbox the node is gone.
func (r *crashRun) popAtLast(n Member, node string) (c *textproto.Conn) {
	r.t.Helper()
	began := time.Now()
	answers := map[string]int{}
	for {
		var answer string
		if c, answer = r.pop(n); strings.HasPrefix(answer, "+OK") {
			break
		}
		answers[answer]++
		if time.Since(began) > longestLock {
			r.t.Fatalf("the node is %s, and after %v there were %v", node, longestLock, answers)
		}
	}
	r.t.Logf("%s node: free after %v; before, %v", node, time.Since(began).Round(time.Millisecond), answers)
	return c
}

func say(t testing.TB, c *textproto.Conn, line string) string {
	t.Helper()
	if err := c.PrintfLine("%s", line); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", line, err))
	}
	answer, err := c.ReadLine()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", line, err))
	}
	return answer
}
