package imap

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/effort"
)

// many is a mail of n mailboxes.
func many(n int) stub {
	m := stub{appended: new(bytes.Buffer)}
	for i := range n {
		m.boxes = append(m.boxes, client.Mailbox{Name: fmt.Sprintf("a%03d/%d", i%1000, i)})
	}
	return m
}

// A hundred thousand mailboxes are listed, and the worst of patterns costs no more than others.
func TestManyMailboxes(t *testing.T) {
	n := effort.Of(10_000, 100_000, 100_000)
	k := newTalkWith(t, many(n), Limits{})
	for pattern, want := range map[string]int{"*": n + 1000, "%": 1000, strings.Repeat("%*", 400): n + 1000, strings.Repeat("a%", 450): 0, "a007/%": n / 1000} {
		start := time.Now()
		k.send("a LIST \"\" " + pattern + "\r\n")
		if got := strings.Count(k.until("a OK"), "* LIST "); got != want {
			t.Errorf("%.10s: %d names, want %d", pattern, got, want)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%.10s took %v", pattern, took)
		}
	}
}

// over waits until the server has given the session up.
func (k *talk) over() {
	k.t.Helper()
	select {
	case <-k.done:
	case <-time.After(15 * time.Second):
		k.t.Fatal("the session goes on")
	}
}

// A client that takes nothing of what it asked for, or sends nothing more of what it began, is not waited for.
func TestStandstill(t *testing.T) {
	limits := Limits{ProgressTimeout: 300 * time.Millisecond}
	reader := newTalkWith(t, many(100_000), limits)
	reader.send(strings.Repeat("a LIST \"\" *\r\n", 5))
	reader.over()
	for name, begun := range map[string]string{"command": "a NOO", "literal": "a APPEND x {100}\r\nhalf", "kept literal": "a LOGIN {100}\r\nhalf", "skipped literal": "a NOSUCH {100+}\r\nhalf"} {
		writer := newTalkWith(t, many(0), limits)
		writer.send(begun)
		heard, err := io.ReadAll(writer.r)
		if _, cut := err.(net.Error); err != nil && !cut || !strings.Contains(string(heard), "* BYE ") {
			t.Errorf("%s: %q %v", name, heard, err)
		}
		writer.over()
	}
}

// testNames makes mailboxes of names that mean something to a file system: here they are names, or are refused.
func testNames(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "names", nil)
	r := st.rawUser("")
	for _, name := range []string{"..", "../../etc/passwd", "a/../b", "./x", "~root", "C:x", "con", ".hidden", "x.lock", "a\\\\b", "%2e%2e", "-rf", "$HOME", "`id`"} {
		got := r.do(fmt.Sprintf("CREATE %q", strings.ReplaceAll(name, `\\`, `\`)))
		if strings.HasPrefix(got[0], "NO [CANNOT]") {
			continue
		}
		if !strings.HasPrefix(got[0], "OK") {
			t.Errorf("%s: %q", name, got)
			continue
		}
		st.appendMessage(strings.ReplaceAll(name, `\\`, `\`), "a: b\r\n\r\nc\r\n")
		if lines := r.ok(fmt.Sprintf("LIST \"\" %q", strings.ReplaceAll(name, `\\`, `\`))); len(lines) != 2 {
			t.Errorf("%s: %q", name, lines)
		}
	}
	for _, name := range []string{`"/"`, `"/abs"`, `"a//b"`, `"&AAo-"`, `"` + strings.Repeat("x", 5000) + `"`, `"` + strings.Repeat("x/", 400) + `x"`} {
		r.want("CREATE "+name, "NO")
	}
	r.want("CREATE {3+}\r\na\x00b", "BAD")
}
