package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const fetchmailrc = `set no bouncemail
set invisible
poll localhost protocol {protocol} port {port} timeout 60 {uidl} bad-header accept
  user "{user}" password "{password}" ssl sslcertck sslcertfile "{ca}"
  {options} norewrite nomimedecode nodropdelivered
  mda "sh {home}/keep.sh"
`

// keep writes what it is given to a file of its own.
const keep = `umask 077; cat > "$(mktemp {home}/got/XXXXXXXXXX)"`

// testFetchmail polls by both protocols: once keeping, once again without finding anything, then emptying the mailbox.
func testFetchmail(t *testing.T, w *world) {
	need(t, "fetchmail")
	for protocol, addr := range map[string]string{"pop3": w.Nodes[0].POP3S, "imap": w.Nodes[0].IMAPS} {
		t.Run(protocol, func(t *testing.T) {
			user := w.filled(t, w.corpus)
			home := t.TempDir()
			write(t, home, "keep.sh", keep, "home", home)
			got := filepath.Join(home, "got")
			poll := func(options string) int {
				t.Helper()
				if err := os.RemoveAll(got); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(got, 0o700); err != nil {
					t.Fatal(err)
				}
				uidl := ""
				if protocol == "pop3" {
					uidl = "uidl"
				}
				conf := write(t, home, "fetchmailrc", fetchmailrc, "protocol", protocol, "port", port(t, addr), "user", user, "password", password,
					"ca", w.CA, "options", options, "uidl", uidl, "home", home)
				out, err := try(t, home, "fetchmail", "-f", conf, "--nodetach", "--nosyslog", "-i", filepath.Join(home, "ids"), "--pidfile", filepath.Join(home, "pid"))
				files, globErr := filepath.Glob(filepath.Join(got, "*"))
				if globErr != nil || err != nil && err.Error() != "exit status 1" { // 1: there was no mail
					t.Fatalf("fetchmail: %v, %v\n%s", err, globErr, tail(out))
				}
				if strings.Contains(out, "rotocol error") {
					t.Errorf("%s", tail(out))
				}
				return len(files)
			}
			if n := poll("keep"); n != len(w.corpus) {
				t.Errorf("%d messages, want %d", n, len(w.corpus))
			}
			if n := poll("keep"); n != 0 {
				t.Errorf("the second poll fetched %d messages", n)
			}
			if n := poll("fetchall nokeep"); n != len(w.corpus) {
				t.Errorf("%d messages at last, want %d", n, len(w.corpus))
			}
			if left := w.download(t, user, "INBOX"); len(left) != 0 {
				t.Errorf("%d messages are left", len(left))
			}
		})
	}
}

const getmailrc = `[retriever]
type = Simple{protocol}SSLRetriever
server = localhost
port = {port}
username = {user}
password = {password}
ca_certs = {ca}

[destination]
type = MDA_external
path = /bin/sh
arguments = ("{home}/keep.sh",)
allow_root_commands = true

[options]
read_all = false
delete = {delete}
delivered_to = false
received = false
verbose = 1
`

// slow is keep for getmail, which takes notice of the end of what it has started only a moment after the start: on a busy machine it misses the end of
// one that is quick, waits for three minutes, and gives up (getmail6 6.18, ForkingBase.forkchild).
const slow = "sleep 0.3; " + keep

// testGetmail counts messages: getmail takes each apart and writes its header anew. It starts a process for each, and is given few.
func testGetmail(t *testing.T, w *world) {
	need(t, "getmail")
	messages := w.corpus[len(w.corpus)-20:]
	for protocol, addr := range map[string]string{"POP3": w.Nodes[0].POP3S, "IMAP": w.Nodes[0].IMAPS} {
		t.Run(protocol, func(t *testing.T) {
			user := w.filled(t, messages)
			home := t.TempDir()
			got := filepath.Join(home, "got")
			if err := os.Mkdir(got, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, home, "keep.sh", slow, "home", home)
			count := func() int {
				t.Helper()
				files, err := filepath.Glob(filepath.Join(got, "*"))
				if err != nil {
					t.Fatal(err)
				}
				return len(files)
			}
			poll := func(remove string) string {
				t.Helper()
				conf := write(t, home, "getmailrc", getmailrc, "protocol", protocol, "port", port(t, addr), "user", user, "password", password,
					"ca", w.CA, "home", home, "delete", remove)
				return run(t, home, "getmail", "--getmaildir", home, "--rcfile", conf)
			}
			poll("false")
			if n := count(); n != len(messages) {
				t.Fatalf("%d messages, want %d", n, len(messages))
			}
			if out := poll("false"); count() != len(messages) {
				t.Fatalf("the second poll fetched something:\n%s", tail(out))
			}
			poll("true")
			if left := w.download(t, user, "INBOX"); len(left) != 0 || count() != len(messages) {
				t.Errorf("%d messages are left", len(left))
			}
		})
	}
}
