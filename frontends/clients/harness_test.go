package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// password is that of every account of a development cluster.
const password = "secret"

// world is the cluster that all programs talk to, and the messages that they see.
type world struct {
	Nodes []struct {
		SMTP  string `json:"smtp"`
		IMAPS string `json:"imaps"`
		POP3  string `json:"pop3"`
		POP3S string `json:"pop3s"`
	} `json:"nodes"`
	Accounts []struct {
		Address string `json:"address"`
	} `json:"accounts"`
	CA string `json:"ca"`

	used   int // accounts that were given out
	roots  *x509.CertPool
	corpus [][]byte
}

// start runs a cluster in a new folder, and reads the corpus. Both end with the test.
func start(t *testing.T, accounts int) *world {
	t.Helper()
	archive := os.Getenv("HONGYAN_CLIENTS")
	if archive == "" {
		t.Skip("mail programs against a cluster: `make clients` runs them")
	}
	bin, err := filepath.Abs("../../bin/hongyan")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{corpus: unpack(t, archive)}
	dir := t.TempDir()
	cmd := exec.Command(bin, "dev", "--dir", dir, "--port-base", freePorts(t), "--accounts", fmt.Sprint(accounts), "--restart", "never")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a cluster (make build makes the program): %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		err := cmd.Process.Signal(syscall.SIGTERM)
		if err == nil {
			err = <-ended
		}
		if err != nil {
			t.Errorf("stop the cluster: %v\n%s", err, out.String())
		}
	})
	file := filepath.Join(dir, "cluster.json")
	until(t, "the cluster serves", func() bool { _, err := os.Stat(file); return err == nil })
	raw := read(t, file)
	if err := json.Unmarshal(raw, w); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	w.roots = x509.NewCertPool()
	if !w.roots.AppendCertsFromPEM(read(t, w.CA)) {
		t.Fatalf("no certificate in %s", w.CA)
	}
	return w
}

// freePorts is a port base whose ports nobody listens at. Another program could take one before the cluster does; then its start says so.
func freePorts(t *testing.T) string {
	t.Helper()
	for base := 30000; base < 32000; base += 400 {
		if free(base) {
			return fmt.Sprint(base)
		}
	}
	t.Fatal("no port base from 30000 to 32000 is free")
	return ""
}

func free(base int) bool {
	for node := range 3 {
		for _, port := range []int{1, 10, 24, 25, 43, 80, 87, 65, 93, 95} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+100*node+port))
			if err != nil {
				return false
			}
			_ = l.Close() // it was opened to see whether it could be
		}
	}
	return true
}

// unpack reads every twelfth message, all that are odd in a way that transports stumble over, and none above 256 KiB.
func unpack(t *testing.T, archive string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xJf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Skipf("needs the corpus of test messages, tar and xz: unpack %s: %v: %s", archive, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d messages in %s, %v", len(files), archive, err)
	}
	var list [][]byte
	seen := map[[32]byte]bool{}
	for i, f := range files {
		m := read(t, f)
		sum := sha256.Sum256(m)
		if len(m) <= 256<<10 && (i%12 == 0 || odd(m)) && !seen[sum] {
			list = append(list, m)
			seen[sum] = true
		}
	}
	return list
}

// odd says whether a message has NULs, CRs outside line ends, or a last line without end.
func odd(m []byte) bool {
	return bytes.IndexByte(m, 0) >= 0 || bytes.Count(m, []byte("\r")) != bytes.Count(m, []byte("\r\n")) || !bytes.HasSuffix(m, []byte("\n"))
}

// headed are the messages whose header has an end. mbsync takes no others up.
func headed(list [][]byte) [][]byte {
	return slices.DeleteFunc(slices.Clone(list), func(m []byte) bool { return !bytes.Contains(m, []byte("\r\n\r\n")) })
}

// tidy are those of them whose header consists of fields. mutt ends the others where it takes the body to begin, and loses lines.
func tidy(list [][]byte) [][]byte {
	field := regexp.MustCompile(`^([!-9;-~]+:|[ \t]+\S)`)
	return slices.DeleteFunc(headed(list), func(m []byte) bool {
		header, _, _ := bytes.Cut(m, []byte("\r\n\r\n"))
		return slices.ContainsFunc(bytes.Split(header, []byte("\r\n")), func(line []byte) bool { return !field.Match(line) })
	})
}

// withoutCRs is a message as programs keep it that drop CRs also where no LF follows.
func withoutCRs(m []byte) []byte { return bytes.ReplaceAll(m, []byte("\r"), nil) }

// account is one that no other test has.
func (w *world) account(t *testing.T) string {
	t.Helper()
	if w.used == len(w.Accounts) {
		t.Fatalf("more than %d accounts are used", w.used)
	}
	w.used++
	return w.Accounts[w.used-1].Address
}

// filled is an account whose INBOX holds messages.
func (w *world) filled(t *testing.T, messages [][]byte) string {
	t.Helper()
	user := w.account(t)
	w.upload(t, user, messages)
	return user
}

// dial logs in, by IMAP, to the second node: programs use the first.
func (w *world) dial(t *testing.T, user string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(w.Nodes[1].IMAPS, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: w.roots}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // most have logged out
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// upload appends to INBOX, some at a time.
func (w *world) upload(t *testing.T, user string, messages [][]byte) {
	t.Helper()
	c := w.dial(t, user)
	for part := range slices.Chunk(messages, 32) {
		var cmds []*imapclient.AppendCommand
		for _, m := range part {
			a := c.Append("INBOX", int64(len(m)), nil)
			_, err := a.Write(m)
			if err := errors.Join(err, a.Close()); err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, a)
		}
		for _, a := range cmds {
			if _, err := a.Wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Logout().Wait(); err != nil {
		t.Fatal(err)
	}
}

// stored is a message as the cluster has it.
type stored struct {
	body  []byte
	flags []string // sorted
}

// download reads all of a mailbox.
func (w *world) download(t *testing.T, user, mailbox string) []stored {
	t.Helper()
	c := w.dial(t, user)
	sel, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if sel.NumMessages == 0 {
		return nil
	}
	var all goimap.SeqSet
	all.AddRange(1, 0)
	got, err := c.Fetch(all, &goimap.FetchOptions{Flags: true, BodySection: []*goimap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var list []stored
	for _, m := range got {
		s := stored{body: m.FindBodySection(&goimap.FetchItemBodySection{Peek: true})}
		for _, f := range m.Flags {
			s.flags = append(s.flags, string(f))
		}
		slices.Sort(s.flags)
		list = append(list, s)
	}
	return list
}

// bodies are the bytes of what download gives.
func bodies(list []stored) [][]byte {
	var all [][]byte
	for _, s := range list {
		all = append(all, s.body)
	}
	return all
}

// need skips the test where a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// run runs a program with a home of its own, and returns what it printed. It must exit with status 0.
func run(t *testing.T, home, program string, args ...string) string {
	t.Helper()
	out, err := try(t, home, program, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, tail(out))
	}
	return out
}

// try is run of a program that may fail.
func try(t *testing.T, home, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TERM=xterm", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

// write makes a file of home, where {…} stand for values: pairs of name and value.
func write(t *testing.T, home, name, text string, values ...string) string {
	t.Helper()
	path := filepath.Join(home, name)
	var pairs []string
	for i := 0; i < len(values); i += 2 {
		pairs = append(pairs, "{"+values[i]+"}", values[i+1])
	}
	if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// maildir makes an empty Maildir.
func maildir(t *testing.T, path string) string {
	t.Helper()
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// kept are the messages of a Maildir.
func kept(t *testing.T, path string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(path, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			all = append(all, read(t, f))
		}
	}
	return all
}

// same compares two sets of messages after norm, which undoes what the program is known to change.
func same(t *testing.T, got, want [][]byte, norm func([]byte) []byte) {
	t.Helper()
	left := map[string]int{}
	for _, m := range want {
		left[string(norm(m))]++
	}
	for _, m := range got {
		key := string(norm(m))
		if left[key]--; left[key] < 0 {
			t.Errorf("not one that was stored: %q", head(key))
		}
	}
	for m, n := range left {
		if n > 0 {
			t.Errorf("missing: %q", head(m))
		}
	}
	if t.Failed() {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
}

func head(s string) string { return s[:min(len(s), 300)] }

// exact leaves a message as it is.
func exact(m []byte) []byte { return m }

// unixLines is a message with LF for each CRLF, as Maildirs have them.
func unixLines(m []byte) []byte { return bytes.ReplaceAll(m, []byte("\r\n"), []byte("\n")) }

// ended is a message whose last line ends: by POP3 it cannot be otherwise.
func ended(m []byte) []byte {
	if len(m) > 0 && !bytes.HasSuffix(m, []byte("\n")) {
		return append(slices.Clip(m), "\r\n"...)
	}
	return m
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// port is that of an address.
func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
