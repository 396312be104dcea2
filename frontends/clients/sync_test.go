package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mbsyncrc syncs every mailbox both ways.
const mbsyncrc = `IMAPAccount there
Host localhost
Port {port}
User {user}
Pass {password}
SSLType IMAPS
CertificateFile {ca}

IMAPStore there
Account there

MaildirStore here
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :there:
Near :here:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
`

// testMbsync: what comes down is what is there, what goes up is what was here, and a second run moves nothing.
func testMbsync(t *testing.T, w *world) {
	need(t, "mbsync")
	half := len(w.corpus) / 2
	user := w.filled(t, w.corpus[:half])
	home := t.TempDir()
	maildir(t, filepath.Join(home, "mail"))
	conf := write(t, home, "mbsyncrc", mbsyncrc, "port", port(t, w.Nodes[0].IMAPS), "user", user, "password", password, "ca", w.CA, "home", home)
	nothing := func(when string) {
		t.Helper()
		out := run(t, home, "mbsync", "-V", "-c", conf, "all")
		if moved := regexp.MustCompile(`[+*#][1-9]`).FindString(out); moved != "" {
			t.Fatalf("%s moved %s:\n%s", when, moved, tail(out))
		}
	}
	run(t, home, "mbsync", "-V", "-c", conf, "all")
	inbox := filepath.Join(home, "mail", "INBOX")
	same(t, kept(t, inbox), w.corpus[:half], synced)
	nothing("the second run")

	// New messages and flags on either side.
	up := headed(w.corpus[half:])
	for i, m := range up {
		write(t, filepath.Join(inbox, "new"), fmt.Sprintf("1700000000.%d.here", i), string(unixLines(m)))
	}
	w.upload(t, user, [][]byte{[]byte("Subject: later\r\n\r\n")})
	run(t, home, "mbsync", "-V", "-c", conf, "all")
	nothing("the run behind an exchange")
	got := bodies(w.download(t, user, "INBOX"))
	same(t, got, slices.Concat(w.corpus[:half], up, [][]byte{[]byte("Subject: later\r\n\r\n")}), synced)

	flagged := flagFirst(t, inbox)
	run(t, home, "mbsync", "-V", "-c", conf, "all")
	nothing("the run behind a flag")
	if !slices.ContainsFunc(w.download(t, user, "INBOX"), func(s stored) bool {
		return slices.Contains(s.flags, `\Flagged`) && slices.Contains(s.flags, `\Seen`) && bytes.Equal(synced(s.body), synced(flagged))
	}) {
		t.Error("a flag that was set here is not there")
	}
}

// synced is a message without what mbsync changes in it: it adds a field by which it finds again what it stored, and drops CRs.
func synced(m []byte) []byte {
	return regexp.MustCompile(`(?m)^X-TUID: .{12}\n`).ReplaceAll(withoutCRs(m), nil)
}

// flagFirst sets \Flagged and \Seen of a message of a Maildir, and returns its bytes.
func flagFirst(t *testing.T, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*:2,"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no message without flags in %s, %v", dir, err)
	}
	raw := read(t, files[0])
	if err := os.Rename(files[0], filepath.Join(dir, "cur", filepath.Base(files[0])+"FS")); err != nil {
		t.Fatal(err)
	}
	return raw
}

const offlineimaprc = `[general]
accounts = a
metadata = {home}/state
maxsyncaccounts = 1

[Account a]
localrepository = here
remoterepository = there

[Repository here]
type = Maildir
localfolders = {home}/mail

[Repository there]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {user}
remotepass = {password}
ssl = yes
sslcacertfile = {ca}
maxconnections = 2
`

// testOfflineIMAP counts messages: offlineimap takes each apart and puts it together again, which changes those that are malformed.
func testOfflineIMAP(t *testing.T, w *world) {
	need(t, "offlineimap")
	half := len(w.corpus) / 2
	user := w.filled(t, w.corpus[:half])
	home := t.TempDir()
	conf := write(t, home, "offlineimaprc", offlineimaprc, "port", port(t, w.Nodes[0].IMAPS), "user", user, "password", password, "ca", w.CA, "home", home)
	sync := func() string { return run(t, home, "offlineimap", "-o", "-c", conf, "-u", "basic") }
	nothing := func(when string) {
		t.Helper()
		if out := sync(); strings.Contains(out, "Copy message") || strings.Contains(out, "flag") || strings.Contains(out, "Delet") {
			t.Fatalf("%s moved something:\n%s", when, tail(out))
		}
	}
	sync()
	inbox := filepath.Join(home, "mail", "INBOX")
	if n := len(kept(t, inbox)); n != half {
		t.Fatalf("%d messages, want %d", n, half)
	}
	nothing("the second run")
	for i, m := range w.corpus[half:] {
		write(t, filepath.Join(inbox, "new"), fmt.Sprintf("1700000000_%d.1.here", i), string(unixLines(m)))
	}
	sync()
	nothing("the run behind new messages")
	if n := len(w.download(t, user, "INBOX")); n != len(w.corpus) {
		t.Fatalf("%d messages there, want %d", n, len(w.corpus))
	}
	flagFirst(t, inbox)
	sync()
	if !slices.ContainsFunc(w.download(t, user, "INBOX"), func(s stored) bool {
		return slices.Contains(s.flags, `\Flagged`) && slices.Contains(s.flags, `\Seen`)
	}) {
		t.Error("a flag that was set here is not there")
	}
}
