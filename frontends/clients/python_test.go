package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// testPython runs imaplib, poplib and smtplib: see testdata/libraries.py.
func testPython(t *testing.T, w *world) {
	need(t, "python3")
	user := w.filled(t, w.corpus)
	home := t.TempDir()
	script, err := filepath.Abs("testdata/libraries.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"imap", "pop3", "again"} {
		if err := os.Mkdir(filepath.Join(home, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n := w.Nodes[0]
	run(t, home, "python3", script, w.CA, user, password, port(t, n.IMAPS), port(t, n.POP3), port(t, n.POP3S), port(t, n.SMTP))
	for i, m := range w.corpus {
		name := fmt.Sprint(i + 1)
		for _, c := range []struct {
			dir  string
			want []byte
		}{{"imap", m}, {"again", m}, {"pop3", ended(m)}} {
			if got := read(t, filepath.Join(home, c.dir, name)); !bytes.Equal(got, c.want) {
				t.Errorf("%s, message %d: %d bytes, want %d: %q", c.dir, i+1, len(got), len(c.want), head(string(c.want)))
			}
		}
	}
}
