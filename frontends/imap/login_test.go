package imap

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func testClearText(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "clear", nil)
	r := st.rawPlain()
	if g := r.line(); !strings.Contains(g, "LOGINDISABLED") || !strings.Contains(g, "STARTTLS") || strings.Contains(g, "AUTH=") {
		t.Errorf("greeting %q", g)
	}
	login := fmt.Sprintf("%s %s", st.user, clustertest.Password)
	r.want("LOGIN "+login, "NO [PRIVACYREQUIRED]")
	r.want("AUTHENTICATE PLAIN", "NO [PRIVACYREQUIRED]")
	r.want("SELECT INBOX", "BAD")
	r.want("STARTTLS now", "BAD")
	r.send("l LOGIN {5+}\r\nEVIL \r\nEVIL NOOP\r\n") // the literal is skipped, what follows it is a command
	if got := r.until("EVIL"); !strings.HasPrefix(got[0], "l NO") || len(got) != 2 {
		t.Errorf("%q", got)
	}
	r.ok("NOOP")
	if caps := r.ok("CAPABILITY"); strings.Contains(caps[0], "AUTH=") {
		t.Errorf("%q", caps)
	}
	r.ok("STARTTLS")
	secure := newRaw(t, tls.Client(r.Conn, &tls.Config{InsecureSkipVerify: true}))
	caps := secure.ok("CAPABILITY") // no greeting comes first
	if strings.Contains(caps[0], "LOGINDISABLED") || strings.Contains(caps[0], "STARTTLS") || !strings.Contains(caps[0], "AUTH=PLAIN") {
		t.Errorf("after STARTTLS: %q", caps)
	}
	secure.ok("LOGIN " + login)
	secure.ok("SELECT INBOX")

	inject := st.rawPlain()
	inject.line()
	inject.send("a STARTTLS\r\nEVIL NOOP\r\n")
	if got := inject.eof(); !strings.HasPrefix(got, "* BYE") || strings.Contains(got, "EVIL") || strings.Contains(got, "a OK") {
		t.Errorf("commands after STARTTLS: %q", got)
	}
	for _, bad := range []string{strings.Repeat("x", 40_000), "a X {5000+}\r\n", "a \x00\r\n", strings.Repeat("a NOOP\r\n", 60)} {
		r := st.rawPlain()
		r.send(bad)
		if got := r.eof(); !strings.Contains(got, "* BYE") {
			t.Errorf("%.20q: %q", bad, got)
		}
	}
}

func testLogins(t *testing.T, c *clustertest.Cluster) {
	var remote netip.Addr
	throttled := errors.New("locked for a while")
	var st *stage
	st = serve(t, c, "logins", func(cfg *Config) {
		cfg.Auth = func(ctx context.Context, from netip.Addr, user, password string) (client.Account, error) {
			remote = from
			switch user {
			case "throttled":
				return client.Account{}, throttled
			case "unavailable":
				return client.Account{}, fmt.Errorf("shard 3: %w", client.ErrUnavailable)
			}
			return st.mail.Authenticate(ctx, user, password)
		}
	})
	plain := func(user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	}
	r := st.rawTLS()
	r.line()
	r.want("SELECT INBOX", "BAD")
	r.want("LOGIN "+st.user+" wrong", "NO [AUTHENTICATIONFAILED]")
	r.want("LOGIN nobody@example.test secret", "NO [AUTHENTICATIONFAILED]")
	r.want("LOGIN throttled x", "NO [UNAVAILABLE]")
	r.want("LOGIN unavailable x", "NO [UNAVAILABLE]")
	r.want("AUTHENTICATE PLAIN !!", "BAD")
	r.want("AUTHENTICATE CRAM-MD5", "NO")
	r.ok("AUTHENTICATE PLAIN " + plain(st.user, clustertest.Password))
	r.want("LOGIN a b", "BAD")
	if !remote.IsLoopback() {
		t.Errorf("login from %v", remote)
	}

	r = st.rawTLS()
	r.line()
	r.send("a AUTHENTICATE PLAIN\r\n")
	if l := r.line(); l != "+ " {
		t.Fatalf("%q", l)
	}
	r.send(plain(st.user, clustertest.Password) + "\r\n")
	if l := r.line(); !strings.HasPrefix(l, "a OK") {
		t.Fatalf("%q", l)
	}

	r = st.rawTLS()
	r.line()
	for range st.srv.cfg.Limits.MaxLogins {
		r.want("LOGIN "+st.user+" wrong", "NO [AUTHENTICATIONFAILED]")
	}
	r.send("a LOGIN " + st.user + " " + clustertest.Password + "\r\n")
	if got := r.eof(); !strings.HasPrefix(got, "* BYE") {
		t.Errorf("after too many logins: %q", got)
	}
	if s := st.srv.Stats(); s.Logins != 2 || s.LoginFailures != 3+5 {
		t.Errorf("%+v", s)
	}
}

func testLimits(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "limits", func(cfg *Config) {
		cfg.Limits = Limits{MaxPerAccount: 2, LoginTimeout: 2 * time.Second, MaxBad: 3, IdleTimeout: time.Second,
			MaxConns: 5}
	})
	a, b := st.rawUser(""), st.rawUser("")
	third := st.rawTLS()
	third.line()
	third.want(fmt.Sprintf("LOGIN %s %s", st.user, clustertest.Password), "NO [LIMIT]")
	a.send("x LOGOUT\r\n")
	a.eof()
	third.ok(fmt.Sprintf("LOGIN %s %s", st.user, clustertest.Password))

	silent, plain := st.rawTLS(), st.rawPlain()
	if got := b.eof(); !strings.HasPrefix(got, "* BYE Idle") {
		t.Errorf("idle client: %q", got)
	}
	silent.line()
	if got := silent.eof(); !strings.HasPrefix(got, "* BYE Login took too long") {
		t.Errorf("client that does not log in: %q", got)
	}
	plain.line()
	if got := plain.eof(); !strings.HasPrefix(got, "* BYE Login took too long") {
		t.Errorf("client that does not start TLS: %q", got)
	}
	d := st.rawUser("")
	for range 3 {
		d.want("NOSUCH", "BAD")
	}
	d.send("a NOOP\r\n")
	if got := d.eof(); !strings.HasPrefix(got, "* BYE Too many bad commands") {
		t.Errorf("bad client: %q", got)
	}
	for range 5 {
		st.rawPlain().line()
	}
	if got := st.rawPlain().eof(); !strings.HasPrefix(got, "* BYE [UNAVAILABLE] Too many connections") {
		t.Errorf("connection over the limit: %q", got)
	}
}

func testShutdown(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "shutdown", nil)
	idle, quiet, plain := st.rawUser("INBOX"), st.rawUser(""), st.rawPlain()
	plain.line()
	idle.send("i IDLE\r\n")
	idle.line()
	appending := st.rawUser("")
	appending.send("a APPEND INBOX {10}\r\n")
	appending.line()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- st.srv.Shutdown(ctx)
	}()
	for name, r := range map[string]*raw{"idle": idle, "quiet": quiet, "plain": plain} {
		if got := r.eof(); !strings.HasPrefix(got, "* BYE [UNAVAILABLE]") {
			t.Errorf("%s: %q", name, got)
		}
	}
	appending.send("0123456789\r\n") // a command under way is finished first
	got, err := io.ReadAll(appending.r)
	if s := string(got); err != nil || !strings.HasPrefix(s, "a OK [APPENDUID") || !strings.Contains(s, "* BYE") {
		t.Errorf("appending: %q %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
