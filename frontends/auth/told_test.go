package auth

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/member"
)

// hub carries words between the authenticators of a test.
type hub struct {
	t     *testing.T
	mu    sync.Mutex // guards what follows
	hear  []func(word []byte)
	words [][]byte
}

// spoke is one node's end of a hub.
type spoke struct {
	hub  *hub
	self int
}

func (h *hub) spoke() *spoke {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hear = append(h.hear, func([]byte) {})
	return &spoke{h, len(h.hear) - 1}
}

func (s *spoke) Tell(about member.Subject, word []byte) {
	if about != member.Logins || len(word) == 0 || len(word) > member.MaxWord {
		s.hub.t.Errorf("%d bytes about %d are told", len(word), about)
	}
	s.hub.mu.Lock()
	s.hub.words = append(s.hub.words, bytes.Clone(word))
	hear := slices.Clone(s.hub.hear)
	s.hub.mu.Unlock()
	for i, fn := range hear {
		if i != s.self {
			fn(word)
		}
	}
}

func (s *spoke) Hear(_ member.Subject, fn func([]byte)) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.hear[s.self] = fn
}

// told are the words so far.
func (h *hub) told() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.words)
}

// nodes are some that tell each other, in front of one directory.
func nodes(t *testing.T, f *fake, count int) (*hub, []*Authenticator) {
	h := &hub{t: t}
	var all []*Authenticator
	for range count {
		a := New(f, quiet())
		a.Share(h.spoke())
		all = append(all, a)
	}
	return h, all
}

func login(t *testing.T, a *Authenticator, from netip.Addr, password string) error {
	t.Helper()
	_, err := a.Login(t.Context(), "imap", from, "u@example.test", password)
	return err
}

// Who guesses at several nodes has as many guesses as at one, and is locked out at all of them.
func TestGuessesAtSeveralNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		_, all := nodes(t, f, 3)
		for i := range 3 * userFailures {
			_ = login(t, all[i%3], netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), "guess")
		}
		if n := f.asked.Load(); n != userFailures {
			t.Errorf("%d guesses were looked at, want %d", n, userFailures)
		}
		for i, a := range all {
			if err := login(t, a, abroad, "secret"); !errors.Is(err, ErrThrottled) {
				t.Errorf("node %d: %v", i, err)
			}
		}
	})
}

func TestAddressIsLockedEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all := nodes(t, &fake{}, 3)
		for i := range addrFailures {
			_, _ = all[i%3].Login(t.Context(), "imap", abroad, fmt.Sprintf("u%d@example.test", i), "guess")
		}
		for i, a := range all {
			if err := login(t, a, abroad, "secret"); !errors.Is(err, ErrThrottled) {
				t.Errorf("node %d: %v", i, err)
			}
		}
	})
}

// An owner who is known at one node is let past a lock at another, until that pair fails, wherever it does.
func TestOwnerIsKnownEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, all := nodes(t, &fake{}, 3)
		if err := login(t, all[0], home, "secret"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tellEvery)
		synctest.Wait()
		for range userFailures {
			_ = login(t, all[1], abroad, "guess")
		}
		for i, a := range all {
			if err := login(t, a, home, "secret"); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		}
		time.Sleep(tellEvery)
		synctest.Wait()
		for i := range userFailures {
			_ = login(t, all[i%3], home, "guess")
		}
		for i, a := range all {
			if err := login(t, a, home, "secret"); !errors.Is(err, ErrThrottled) {
				t.Errorf("node %d, after guesses of the pair: %v", i, err)
			}
		}
	})
}

// A success clears the user's failures at all nodes; it is told when it is news, and then not again.
func TestSuccessIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := nodes(t, &fake{}, 2)
		for range userFailures - 1 {
			_ = login(t, all[0], abroad, "guess")
		}
		for range 20 {
			for _, a := range all {
				if err := login(t, a, home, "secret"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tellEvery)
				synctest.Wait()
			}
		}
		for i, a := range all {
			if a.guard.users.get(identify("u@example.test", home).user) != nil {
				t.Errorf("node %d keeps failures", i)
			}
		}
		if len(h.told()) != userFailures {
			t.Errorf("%d words, want %d", len(h.told()), userFailures)
		}
		time.Sleep(trustAgain)
		_ = login(t, all[1], home, "secret")
		time.Sleep(tellEvery)
		synctest.Wait()
		if len(h.told()) != userFailures+1 {
			t.Errorf("a day later: %d words, want %d", len(h.told()), userFailures+1)
		}
	})
}

// What waits to be told is bounded, a word as well, and successes leave room for failures.
func TestTellingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := nodes(t, &fake{}, 2)
		told := &all[0].teller
		waiting := func() int {
			told.mu.Lock()
			defer told.mu.Unlock()
			return len(told.waiting)
		}
		id := identify("u@example.test", home)
		for range 2 * maxToTell {
			told.add(result{id, true})
		}
		if n := waiting(); n != maxGood*resultSize {
			t.Errorf("%d bytes of successes wait", n)
		}
		for range 2 * maxToTell {
			told.add(result{id, false})
		}
		if n := waiting(); n != maxToTell*resultSize {
			t.Errorf("%d bytes wait", n)
		}
		time.Sleep(10 * tellEvery)
		synctest.Wait()
		if len(h.told()) > 10 {
			t.Errorf("%d words in %v", len(h.told()), 10*tellEvery)
		}
		time.Sleep(time.Minute)
		total := 0
		for _, w := range h.told() {
			total += len(w)
		}
		if total != maxToTell*resultSize {
			t.Errorf("%d bytes were told", total)
		}
	})
}

// The form of a word, which nodes of neighbouring versions understand.
func TestWordForm(t *testing.T) {
	word := result{identify(" U@Example.test", netip.MustParseAddr("2001:db8::1")), false}.append(nil)
	word = result{identify("u@example.test", netip.MustParseAddr("127.0.0.1")), true}.append(word)
	user, addr := "c14acafe2a0e7f68809d11320762b4ce", "b22e912162f83195c2043c77ed6a9509" // sha256sum of u@example.test and 2001:db8::/64
	want := "00" + user + addr + "01" + user + "00000000000000000000000000000000"
	if got := hex.EncodeToString(word); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzHeard(f *testing.F) {
	id := identify("u@example.test", home)
	f.Add(result{id, true}.append(result{id, false}.append(nil)))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, word []byte) {
		a := New(&fake{}, quiet())
		a.heard(word)
		if n := len(a.guard.users.items) + len(a.guard.known.items); n > len(word)/resultSize {
			t.Errorf("%d records of %d bytes", n, len(word))
		}
	})
}

// Whoever logs in from thousands of addresses makes no other pair be forgotten.
func TestPairsOfAUserAreFew(t *testing.T) {
	g := newGuard()
	now := time.Now()
	g.succeeded(identify("owner@example.test", home), now)
	for i := range 5000 {
		g.succeeded(identify("many@example.test", netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})), now)
	}
	if n := len(g.known.items); n > 257 {
		t.Errorf("%d pairs are kept", n)
	}
	last := identify("many@example.test", netip.AddrFrom4([4]byte{198, 51, byte(4999 >> 8), byte(4999 & 255)}))
	if g.pair(last) == nil || g.pair(identify("owner@example.test", home)) == nil || g.pair(identify("many@example.test", home)) != nil {
		t.Error("the wrong pairs are known")
	}
}

// Over a real cluster: ten guesses at one node lock the user at the other.
func TestLockOverACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := clustertest.Start(t, "south", "north")
	u := c.Account(t, "u")
	var all []*Authenticator
	for _, n := range c.Nodes {
		a := New(n.Client(), quiet())
		a.Share(n)
		all = append(all, a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	try := func(node int, from netip.Addr, password string) error {
		_, err := all[node].Login(ctx, "imap", from, u.Address, password)
		return err
	}
	id := identify(u.Address, home)
	clustertest.Eventually(t, 30*time.Second, func() bool { // a word may be lost while the link for it is dialled, or gossip does not know the other yet
		if err := try(0, home, clustertest.Password); err != nil {
			t.Fatal(err)
		}
		all[0].teller.add(result{id, true})
		all[1].guard.mu.Lock()
		defer all[1].guard.mu.Unlock()
		return all[1].guard.pair(id) != nil
	}, func() string { return "the second node has not heard of the owner" })
	var work sync.WaitGroup
	for range userFailures {
		work.Go(func() {
			if err := try(0, abroad, "guess"); !errors.Is(err, client.ErrBadCredentials) {
				t.Error(err)
			}
		})
	}
	work.Wait()
	clustertest.Eventually(t, 30*time.Second, func() bool {
		all[1].guard.mu.Lock()
		defer all[1].guard.mu.Unlock()
		return all[1].guard.users.get(id.user).locked(time.Now())
	}, func() string { return "the user is not locked at the second node" })
	if err := try(1, abroad, clustertest.Password); !errors.Is(err, ErrThrottled) {
		t.Errorf("a stranger at the second node: %v", err)
	}
	if err := try(1, home, clustertest.Password); err != nil {
		t.Errorf("the owner at the second node: %v", err)
	}
}
