package exact

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/lab/labtest"
	"hongyan/engine/effort"
)

const password = "secret"

// TestExact holds what we say of the corpus against Dovecot, whose answers differ only for the messages that testdata/differences.txt names: each with
// the reason, which docs/imap-exactness.md explains. It takes two minutes, so it runs at night.
func TestExact(t *testing.T) {
	if !effort.Nightly() {
		t.Skip("takes two minutes: HONGYAN_NIGHTLY is not set")
	}
	files := corpus(t)
	theirs := startDovecot(t, "")
	ours := startHongyan(t)
	var kept, clean []Message
	for _, m := range files {
		kept = append(kept, m)
		if whole := lines(m.Raw); bytes.IndexByte(whole, 0) < 0 && len(whole) > 0 {
			clean = append(clean, Message{m.Name, whole})
		}
	}
	t.Run("as it is", func(t *testing.T) { unchanged(t, ours, kept) })
	t.Run("delivered", func(t *testing.T) { delivered(t, ours, slices.DeleteFunc(slices.Clone(clean), bareCR)) })
	t.Run("compared", func(t *testing.T) { compared(t, ours, theirs, clean) })
}

// server is where one listens.
type server struct {
	imaps, lmtp, pop3s string
	pid                int      // all its processes are below that
	nodes              []string // imaps of all nodes
}

// lines are a message's with CRLF, as SMTP has them.
func lines(raw []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// bareCR says whether a message has a CR that ends no line, which SMTP must not carry (RFC 5321 section 2.3.8).
func bareCR(m Message) bool {
	return bytes.Count(m.Raw, []byte("\r")) != bytes.Count(m.Raw, []byte("\r\n"))
}

func corpus(t *testing.T) (list []Message) {
	archive, err := filepath.Abs("../../../shared/corpus.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err != nil {
		archive = "/work/shared/corpus.tar.xz"
	}
	if _, err := os.Stat(archive); err != nil {
		t.Skipf("needs the corpus of test messages: %v", err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xJf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Skipf("needs tar and xz to unpack the corpus of test messages: %v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d messages in %s, %v", len(files), archive, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Message{filepath.Base(f), raw})
	}
	return list
}

// unchanged appends every message as the file has it, bare line feeds, NUL and all, and takes it back. The literals are ordinary ones: in a literal8 a part that is
// binary and has NUL, as one of these messages has, would come back in base64 (docs/imap.md, BINARY).
func unchanged(t *testing.T, s server, list []Message) {
	c := open(t, s, "u0001@example.test")
	if err := c.do("CREATE AsItIs", nil); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if err := c.do(fmt.Sprintf("APPEND AsItIs {%d+}\r\n%s", len(m.Raw), m.Raw), nil); err != nil {
			t.Fatal(m.Name, err)
		}
	}
	if err := c.do("SELECT AsItIs", nil); err != nil {
		t.Fatal(err)
	}
	for i, m := range list {
		got := answers{}
		if err := c.do(fmt.Sprintf("FETCH %d (RFC822.SIZE BODY.PEEK[] BINARY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])", i+1), got); err != nil {
			t.Fatal(m.Name, err)
		}
		a, want := got[i+1], string(m.Raw)
		if a["BODY[]"].Text != want || a["BINARY[]"].Text != want || a["RFC822.SIZE"].Text != fmt.Sprint(len(want)) || a["BODY[HEADER]"].Text+a["BODY[TEXT]"].Text != want {
			t.Errorf("%s does not come back as it was", m.Name)
		}
	}
	t.Logf("%d messages by APPEND, BODY[], BINARY[], BODY[HEADER] and BODY[TEXT]", len(list))
}

// delivered takes messages in by LMTP and back by IMAP and POP3. In front of them are the fields of their way.
func delivered(t *testing.T, s server, list []Message) {
	const user = "u0002@example.test"
	if err := lmtp(s.lmtp, []string{user}, list); err != nil {
		t.Fatal(err)
	}
	c := open(t, s, user)
	if err := c.do("SELECT INBOX", nil); err != nil {
		t.Fatal(err)
	}
	got := answers{}
	if err := c.do("FETCH 1:* (RFC822.SIZE BODY.PEEK[])", got); err != nil {
		t.Fatal(err)
	}
	check := func(way string, n int, raw []byte) {
		m := list[n-1]
		if !bytes.HasSuffix(raw, ended(m.Raw)) || !bytes.HasPrefix(raw, []byte("Return-Path: <a@exact.test>\r\n")) && !bytes.HasPrefix(raw, []byte("Received: ")) {
			t.Errorf("%s does not come back as it was by %s", m.Name, way)
		}
	}
	for n := 1; n <= len(list); n++ {
		check("IMAP", n, []byte(got[n]["BODY[]"].Text))
	}
	n := 0
	err := pop3(s.pop3s, user, password, func(i int, raw []byte) error { check("POP3", i, raw); n++; return nil })
	if err != nil || n != len(list) {
		t.Errorf("%d of %d messages by POP3: %v", n, len(list), err)
	}
	t.Logf("%d messages by LMTP, BODY[] and RETR", n)
}

func open(t *testing.T, s server, user string) *imap {
	t.Helper()
	c, err := dialIMAP(s.imaps, user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.c.Close() })
	return c
}

// compared asks both servers for everything.
func compared(t *testing.T, ours, theirs server, list []Message) {
	raws := make([][]byte, len(list))
	for i := range list {
		raws[i] = list[i].Raw
	}
	a, b := open(t, ours, "u0003@example.test"), open(t, theirs, "u0003@example.test")
	for _, c := range []*imap{a, b} {
		if err := c.appendAll("Compared", raws); err != nil {
			t.Fatal(err)
		}
	}
	diffs, n, err := compare(a, b, list)
	if err != nil {
		t.Fatal(err)
	}
	known, reasons := differences(t)
	found := make(map[string]bool)
	for _, d := range diffs {
		found[d.Message.Name] = true
		if known[d.Message.Name] == "" {
			t.Errorf("%s %s\n  ours   %.2000s\n  theirs %.2000s", d.Message.Name, d.Item, d.Ours, d.Theirs)
		}
	}
	for name := range known {
		if !found[name] {
			t.Errorf("%s is the same now: take it out of testdata/differences.txt", name)
		}
	}
	t.Logf("%d answers of %d messages compared; %d differ, of %d messages, for %d reasons", n, len(list), len(diffs), len(found), len(reasons))
}

// differences are the messages that may differ, each with its reasons; every reason is a heading of the page.
func differences(t *testing.T) (known map[string]string, reasons []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	known, all := make(map[string]string), make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		name, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		known[name] = why
		for _, r := range strings.Fields(why) {
			all[r] = true
		}
	}
	return known, slices.Sorted(maps.Keys(all))
}

// TestReasons holds the page against the list, without any server.
func TestReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/imap-exactness.md")
	if err != nil {
		t.Fatal(err)
	}
	known, reasons := differences(t)
	for _, r := range reasons {
		n := 0
		for _, why := range known {
			if slices.Contains(strings.Fields(why), r) {
				n++
			}
		}
		if row := fmt.Sprintf("| `%s` | %d |", r, n); !strings.Contains(string(page), row) {
			t.Errorf("docs/imap-exactness.md has no row %q", row)
		}
	}
}

// startHongyan runs a cluster of the real program.
func startHongyan(t testing.TB) server { return startProgram(t, labtest.Build(t, "../..")) }

// startProgram runs a cluster of a program.
func startProgram(t testing.TB, program string, flags ...string) server {
	dir := t.TempDir()
	pid := run(t, dir, program, append([]string{"dev", "--dir", dir, "--port-base", fmt.Sprint(freePorts(t)), "--accounts", "3", "--restart", "never"}, flags...)...)
	var c *lab.Cluster
	eventually(t, "the cluster is ready", func() (err error) { c, err = lab.Read(dir); return err })
	n, s := c.Nodes[0], server{pid: pid}
	s.imaps, s.lmtp, s.pop3s = n.IMAPS, n.LMTP, n.POP3S
	for _, n := range c.Nodes {
		s.nodes = append(s.nodes, n.IMAPS)
	}
	return s
}

// run starts a program that ends with the test.
func run(t testing.TB, dir, program string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(program, args...)
	log, err := os.Create(filepath.Join(dir, "out.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
		_ = cmd.Wait()
		_ = log.Close()
	})
	return cmd.Process.Pid
}

func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within a minute: %v", what, err)
}

// freePorts is the first of some hundred ports of which the first is free.
func freePorts(t testing.TB) int {
	for base := 20000; base < 32000; base += 500 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+25)); err == nil {
			_ = l.Close()
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}
