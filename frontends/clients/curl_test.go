package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testCurl fetches by number and UID, and sends.
func testCurl(t *testing.T, w *world) {
	need(t, "curl")
	user := w.filled(t, w.corpus)
	home := t.TempDir()
	n := w.Nodes[0]
	for _, c := range []struct {
		name, url string
		norm      func([]byte) []byte
	}{
		{"imaps", "imaps://" + n.IMAPS + "/INBOX;UID=%d", exact},
		{"pop3s", "pop3s://" + n.POP3S + "/%d", ended},
		{"pop3", "pop3://" + n.POP3 + "/%d", ended}, // STLS, since TLS is required
	} {
		dir := filepath.Join(home, c.name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for i := range w.corpus {
			fmt.Fprintf(&b, "url = %q\noutput = %q\nuser = %q\ncacert = %q\nssl-reqd\nsilent\nshow-error\nnext\n",
				fmt.Sprintf(c.url, i+1), filepath.Join(dir, fmt.Sprint(i+1)), user+":"+password, w.CA)
		}
		run(t, home, "curl", "-K", write(t, home, c.name+".conf", strings.TrimSuffix(b.String(), "next\n")))
		for i, m := range w.corpus {
			if got := read(t, filepath.Join(dir, fmt.Sprint(i+1))); !bytes.Equal(got, c.norm(m)) {
				t.Errorf("%s, message %d: %d bytes, want %d", c.name, i+1, len(got), len(m))
			}
		}
	}
	login := []string{"-sS", "--cacert", w.CA, "--ssl-reqd", "-u", user + ":" + password}
	out := run(t, home, "curl", append(login, "imaps://"+n.IMAPS+"/")...)
	if !strings.Contains(out, "INBOX") || !strings.Contains(out, `\Sent`) {
		t.Errorf("LIST: %q", out)
	}
	if out = run(t, home, "curl", append(login, "imaps://"+n.IMAPS+"/INBOX?UID%201")...); strings.TrimSpace(out) != "* SEARCH 1" {
		t.Errorf("SEARCH: %q", out)
	}
	if out = run(t, home, "curl", append(login, "pop3s://"+n.POP3S+"/")...); strings.Count(out, "\n") != len(w.corpus) {
		t.Errorf("LIST by POP3: %d lines", strings.Count(out, "\n"))
	}
	letter := "Subject: by curl\r\n\r\n.\r\n..dots\r\n"
	file := write(t, home, "letter", letter)
	run(t, home, "curl", append(login[:4:4], "smtp://"+n.SMTP+"/client.test", "--mail-from", "a@example.net", "--mail-rcpt", user, "-T", file)...)
	run(t, home, "curl", append(login, "imaps://"+n.IMAPS+"/Sent", "-T", file)...)
	if got := bodies(w.download(t, user, "INBOX")); !bytes.HasSuffix(got[len(got)-1], []byte(letter)) {
		t.Errorf("delivered: %q", got[len(got)-1])
	}
	if got := bodies(w.download(t, user, "Sent")); !slices.ContainsFunc(got, func(m []byte) bool { return string(m) == letter }) {
		t.Errorf("uploaded: %q", got)
	}
}
