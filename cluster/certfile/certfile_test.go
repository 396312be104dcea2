package certfile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/pki"
)

// A certificate is renewed in the worst way: first one file, then the other. The clock is synctest's, the files are real.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca, err := pki.EnsureCA(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := func(name string) string { return filepath.Join(dir, name) }
		for _, name := range []string{"old", "new"} {
			if err := ca.EnsureServer([]string{name + ".example.test"}, nil, path(name+".pem"), path(name+".key")); err != nil {
				t.Fatal(err)
			}
		}
		place := func(from, to string) {
			t.Helper()
			if err := os.Rename(path(from), path(to)); err != nil {
				t.Fatal(err)
			}
		}
		place("old.pem", "mail.pem")
		place("old.key", "mail.key")
		var log bytes.Buffer
		f, err := Server(path("mail.pem"), path("mail.key"), Every, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		shows := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			if got := f.Now().Leaf.DNSNames[1]; got != want+".example.test" {
				t.Errorf("it shows the certificate of %s, expected %s", got, want)
			}
		}
		shows(0, "old")
		place("new.pem", "mail.pem")
		shows(Every-1, "old")
		for range 3 { // a pair that does not fit
			shows(Every, "old")
		}
		if got := strings.Count(log.String(), "level=WARN"); got != 1 || !strings.Contains(log.String(), "load certificate "+path("mail.pem")) {
			t.Errorf("logged %q; want one warning that names the file", log.String())
		}
		place("new.key", "mail.key")
		shows(Every, "new")
		if err := os.Remove(path("mail.pem")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			shows(Every, "new")
		}
		if got := strings.Count(log.String(), "level=WARN"); got != 2 || strings.Count(log.String(), "level=INFO") != 1 {
			t.Errorf("logged %q; want one more warning, and one renewal", log.String())
		}
	})
}

func TestTheFirstMustLoad(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "mail.pem")
	if _, err := Server(missing, missing, Every, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("got %v", err)
	}
}
