package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
)

// fake knows one password for everybody and counts how often it is asked.
type fake struct {
	asked atomic.Int64
	err   error
	pause time.Duration
}

func (f *fake) Authenticate(_ context.Context, address, password string) (client.Account, error) {
	f.asked.Add(1)
	time.Sleep(f.pause)
	if f.err != nil {
		return client.Account{}, f.err
	}
	if password != "secret" {
		return client.Account{}, client.ErrBadCredentials
	}
	return client.Account{ID: 7, Address: address}, nil
}

var (
	home   = netip.MustParseAddr("192.0.2.1")
	abroad = netip.MustParseAddr("2001:db8::1")
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestOutcomes(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name, user, password string
		backend, want        error
		asked                int64
	}{
		{"right", "u@example.test", "secret", nil, nil, 1},
		{"wrong", "u@example.test", "Secret", nil, client.ErrBadCredentials, 1},
		{"no user", "", "secret", nil, client.ErrBadCredentials, 0},
		{"no password", "u@example.test", "", nil, client.ErrBadCredentials, 0},
		{"long password", "u@example.test", strings.Repeat("x", 1025), nil, client.ErrBadCredentials, 0},
		{"long user", strings.Repeat("x", 321), "secret", nil, client.ErrBadCredentials, 0},
		{"unavailable", "u@example.test", "secret", client.ErrUnavailable, client.ErrUnavailable, 1},
		{"unknown trouble", "u@example.test", "secret", broken, client.ErrUnavailable, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{err: c.backend}
				_, err := New(f, quiet()).Login(t.Context(), "imap", home, c.user, c.password)
				if !errors.Is(err, c.want) || f.asked.Load() != c.asked {
					t.Fatalf("%v, asked %d", err, f.asked.Load())
				}
			})
		})
	}
}

func TestFailuresAreAnsweredEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&fake{}, quiet())
		var waits []time.Duration
		for range userFailures {
			start := time.Now()
			if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "guess"); !errors.Is(err, client.ErrBadCredentials) {
				t.Fatal(err)
			}
			waits = append(waits, time.Since(start))
		}
		if waits[0] != firstDelay || waits[1] != 2*firstDelay || waits[userFailures-1] != maxDelay {
			t.Fatalf("%v", waits)
		}
	})
}

func TestUserLockSparesKnownAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := New(f, quiet())
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
		for range userFailures {
			_, _ = a.Login(t.Context(), "pop3", abroad, "U@Example.test", "guess")
		}
		asked := f.asked.Load()
		_, err := a.Login(t.Context(), "imap", abroad, "u@example.test", "secret")
		if !errors.Is(err, ErrThrottled) || !errors.Is(err, client.ErrUnavailable) || f.asked.Load() != asked {
			t.Fatalf("stranger: %v, asked %d more", err, f.asked.Load()-asked)
		}
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Fatalf("owner: %v", err)
		}
	})
}

func TestKnownPairLosesPrivilege(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&fake{}, quiet())
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
		for range userFailures {
			_, _ = a.Login(t.Context(), "imap", home, "u@example.test", "guess")
		}
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); !errors.Is(err, ErrThrottled) {
			t.Fatal(err)
		}
		time.Sleep(firstLock)
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Fatalf("after the lock: %v", err)
		}
	})
}

func TestAddressLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&fake{}, quiet())
		spray := func(from netip.Addr) {
			for i := range addrFailures {
				_, _ = a.Login(t.Context(), "imap", from, fmt.Sprintf("u%d@example.test", i), "guess")
			}
		}
		spray(abroad)
		neighbour := abroad.Next() // same /64
		if _, err := a.Login(t.Context(), "imap", neighbour, "other@example.test", "secret"); !errors.Is(err, ErrThrottled) {
			t.Fatal(err)
		}
		if _, err := a.Login(t.Context(), "imap", home, "other@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
		spray(netip.MustParseAddr("127.0.0.1"))
		if _, err := a.Login(t.Context(), "imap", netip.MustParseAddr("127.0.0.1"), "third@example.test", "secret"); err != nil {
			t.Fatalf("loopback: %v", err)
		}
	})
}

// Guesses that come together are checked as if they came one after the other: as many as the policy allows until the lock, and one
// whenever it has ended.
func TestGuessesAtOnceAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{pause: 100 * time.Millisecond}
		a := New(f, quiet())
		wave := func(want int64) {
			t.Helper()
			before := f.asked.Load()
			for i := range 1000 {
				from := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
				go func() { _, _ = a.Login(t.Context(), "imap", from, "u@example.test", "guess") }()
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if n := f.asked.Load() - before; n != want {
				t.Fatalf("%d guesses were looked at, want %d", n, want)
			}
		}
		wave(userFailures)
		for lock := firstLock; lock < maxLock; lock *= 2 {
			wave(0)
			time.Sleep(lock)
			wave(1)
		}
		g := a.guard
		if u := g.users.get(identify("u@example.test", home).user); u.pending != 0 || len(u.queue) != 0 {
			t.Errorf("%d checks and %d waiting are left", u.pending, len(u.queue))
		}
	})
}

// The same of one address that tries many users, and of a pair that is let past the locks.
func TestGuessesAtOnceOfAnAddressAndOfAPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{pause: 100 * time.Millisecond}
		a := New(f, quiet())
		for i := range 1000 {
			go func() { _, _ = a.Login(t.Context(), "imap", abroad, fmt.Sprintf("u%d@example.test", i), "guess") }()
		}
		time.Sleep(20 * time.Second)
		if n := f.asked.Load(); n != addrFailures {
			t.Errorf("%d guesses from one address were looked at, want %d", n, addrFailures)
		}
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
		f.asked.Store(0)
		for range 1000 {
			go func() { _, _ = a.Login(t.Context(), "imap", home, "u@example.test", "guess") }()
		}
		time.Sleep(20 * time.Second)
		if n := f.asked.Load(); n != userFailures {
			t.Errorf("%d guesses of a known pair were looked at, want %d", n, userFailures)
		}
	})
}

// A mail client opens many connections at once, the user has failed a few times, a lock has just ended: with the right password all get in
// without a noticeable wait, as soon as the first is known to be right.
func TestRightPasswordManyTimesAtOnce(t *testing.T) {
	for _, failed := range []int{0, 3, userFailures - 1, userFailures} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{pause: 50 * time.Millisecond}
			a := New(f, quiet())
			for range failed {
				_, _ = a.Login(t.Context(), "imap", abroad, "u@example.test", "guess")
			}
			time.Sleep(firstLock)
			start := time.Now()
			var work sync.WaitGroup
			for range 50 {
				work.Go(func() {
					if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
						t.Errorf("after %d failures: %v", failed, err)
					}
				})
			}
			work.Wait()
			if took := time.Since(start); took > 50*f.pause/2 {
				t.Errorf("after %d failures: took %v", failed, took)
			}
			if a.guard.users.get(identify("u@example.test", home).user) != nil {
				t.Error("a record without failures is kept")
			}
		})
	}
}

// Who waits for others' checks leaves when his client does, or after queueTime, and holds nobody up then.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{pause: 4 * queueTime}
		a := New(f, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		for range userFailures + 5 {
			go func() { _, _ = a.Login(ctx, "imap", home, "u@example.test", "guess") }()
		}
		synctest.Wait()
		start := time.Now()
		_, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret")
		if took := time.Since(start); !errors.Is(err, client.ErrUnavailable) || errors.Is(err, ErrThrottled) || took != queueTime {
			t.Errorf("%v after %v", err, took)
		}
		cancel()
		time.Sleep(f.pause)
		f.pause = 0
		time.Sleep(firstLock)
		if _, err := a.Login(t.Context(), "imap", home, "u@example.test", "secret"); err != nil {
			t.Error(err)
		}
	})
}

// A record that counts a check stays in its table, whoever fills that meanwhile.
func TestChecksUnderWayAreNotForgotten(t *testing.T) {
	g := newTable[int](3)
	g.put(0).pending = 1
	for i := range 10 {
		g.put(1 + i)
	}
	if r := g.get(0); r == nil || r.pending != 1 || len(g.items) != 3 {
		t.Errorf("%+v, %d items", r, len(g.items))
	}
}

func TestTablesStaySmall(t *testing.T) {
	g := newTable[int](100)
	for i := range 10_000 {
		g.put(i).failures = i
		g.get(0) // in use: stays
	}
	if len(g.items) != 100 || g.order.Len() != 100 || g.get(0) == nil || g.get(5000) != nil || g.get(9999).failures != 9999 {
		t.Fatalf("%d items", len(g.items))
	}
}

func TestAuditLineHasNoPassword(t *testing.T) {
	var out bytes.Buffer
	a := New(&fake{}, slog.New(slog.NewTextHandler(&out, nil)))
	if _, err := a.Login(t.Context(), "pop3", home, "u@example.test", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Login(t.Context(), "pop3", home, "u@example.test\nforged", "hunter2"); err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || strings.Contains(out.String(), "secret") || strings.Contains(out.String(), "hunter2") {
		t.Fatalf("%q", lines)
	}
	for _, part := range []string{"outcome=ok", "remote=192.0.2.1", "protocol=pop3", "user=u@example.test", "account=7"} {
		if !strings.Contains(lines[0], part) {
			t.Errorf("%q lacks %s", lines[0], part)
		}
	}
}

func TestParsePlain(t *testing.T) {
	for _, c := range []struct {
		raw, user, password string
		ok                  bool
	}{
		{"\x00u@example.test\x00secret", "u@example.test", "secret", true},
		{"u@example.test\x00u@example.test\x00secret", "u@example.test", "secret", true},
		{"other\x00u@example.test\x00secret", "", "", false},
		{"\x00\x00secret", "", "", false},
		{"\x00u", "", "", false},
		{"\x00u\x00p\x00x", "", "", false},
		{"\x00u\x00\xff", "", "", false},
		{"", "", "", false},
	} {
		user, password, err := ParsePlain(base64.StdEncoding.EncodeToString([]byte(c.raw)))
		if user != c.user || password != c.password || (err == nil) != c.ok {
			t.Errorf("%q: %q, %q, %v", c.raw, user, password, err)
		}
	}
	if _, _, err := ParsePlain("not base64!"); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func FuzzParsePlain(f *testing.F) {
	f.Add("AHVAZXhhbXBsZS50ZXN0AHNlY3JldA==")
	f.Fuzz(func(t *testing.T, s string) {
		user, password, err := ParsePlain(s)
		if err == nil && (user == "" || strings.ContainsRune(user+password, 0)) {
			t.Fatalf("%q, %q", user, password)
		}
	})
}

// TestSpellingsOfAUserAreOne: the directory finds the same account under all of them.
func TestSpellingsOfAUserAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := New(f, quiet())
		for i := range 3 * userFailures {
			user := strings.Repeat(" ", i) + "U@example.test" + strings.Repeat("\t", i%3)
			remote := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
			if _, err := a.Login(t.Context(), "imap", remote, user, "guess"); err == nil {
				t.Fatal("a guess was right")
			}
		}
		if n := f.asked.Load(); n != userFailures {
			t.Errorf("%d guesses of one user's password were checked, want %d", n, userFailures)
		}
	})
}
