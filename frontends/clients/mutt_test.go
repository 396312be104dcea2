package clients

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const muttrc = `set imap_user="{user}" imap_pass="{password}" folder="imaps://localhost:{port}/" spoolfile="+INBOX" record="+Sent"
set smtp_url="smtp://localhost:{smtp}/" ssl_force_tls=yes ssl_ca_certificates_file="{ca}" certificate_file="{home}/certs"
set from="{user}" realname="A" use_from=yes hostname=client.test
set mbox_type=Maildir confirmcreate=no confirmappend=no copy=yes quit=yes delete=yes wait_key=no sleep_time=0 imap_check_subscribed=no header_cache="" tmpdir="{home}"
`

// testMutt copies a mailbox message by message, deletes, and sends with a copy to Sent.
func testMutt(t *testing.T, w *world) {
	need(t, "mutt", "script")
	messages := tidy(w.corpus)
	user := w.filled(t, messages)
	home := t.TempDir()
	out := filepath.Join(home, "out")
	conf := write(t, home, "muttrc", muttrc, "port", port(t, w.Nodes[0].IMAPS), "smtp", port(t, w.Nodes[0].SMTP), "user", user, "password", password,
		"ca", w.CA, "home", home)
	// mutt wants a terminal, which script gives it.
	keys := write(t, home, "keys", "push '<tag-pattern>~A<enter><tag-prefix><copy-message>{out}<enter><tag-prefix><delete-message><sync-mailbox><quit>'\n", "out", out)
	run(t, home, "script", "-qec", "mutt -n -F "+conf+" -e 'source "+keys+"'", "/dev/null")
	same(t, kept(t, out), messages, muttered)
	if left := w.download(t, user, "INBOX"); len(left) != 0 {
		t.Errorf("%d messages are left", len(left))
	}
	letter := write(t, home, "letter", "by mutt\n.\n..dots\n")
	run(t, home, "sh", "-c", "mutt -n -F "+conf+" -s 'by mutt' "+user+" < "+letter)
	for _, box := range []string{"INBOX", "Sent"} {
		got := w.download(t, user, box)
		if len(got) != 1 || !strings.HasSuffix(string(got[0].body), "\r\n\r\nby mutt\r\n.\r\n..dots\r\n") {
			t.Fatalf("%s: %d messages: %q", box, len(got), got)
		}
	}
}

// muttered is a message without the fields that mutt writes anew into what it copies.
func muttered(m []byte) []byte {
	header, body, found := bytes.Cut(withoutCRs(m), []byte("\n\n"))
	header = regexp.MustCompile(`(?mi)^(Content-Length|Lines|Status|X-Status):.*\n?`).ReplaceAll(append(header, '\n'), nil)
	if !found {
		return header
	}
	return append(append(header, '\n'), body...)
}
