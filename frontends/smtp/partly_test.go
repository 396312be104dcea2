package smtp

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// mail sends a message to some recipients by SMTP and expects the reply.
func mail(t *testing.T, server, from, body, want string, to ...string) {
	t.Helper()
	mailTo(connect(t, server), from, body, want, to...)
}

func mailTo(p *peer, from, body, want string, to ...string) {
	p.t.Helper()
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<"+from+">", "250")
	for _, one := range to {
		p.do("RCPT TO:<"+one+"@example.test>", "250")
	}
	p.do("DATA", "354")
	p.send(stuff(body) + ".\r\n")
	p.expect(want)
	p.do("QUIT", "221")
}

// testDiffering: a message is too large for one recipient, and its sender tries again until there is room.
func testDiffering(t *testing.T, c *clustertest.Cluster, mx string) {
	full, good, door := c.Account(t, "full"), c.Account(t, "good"), c.Nodes[0].Client()
	limit, none := uint64(4<<10), uint64(0)
	if err := c.Nodes[0].SetQuota(t.Context(), full.Address, client.QuotaChange{Bytes: &limit}); err != nil {
		t.Fatal(err)
	}
	holds := func(a client.Account, want int) {
		t.Helper()
		if got := stored(t, door, a); len(got) != want {
			t.Fatalf("%s has %d messages, want %d", a.Address, len(got), want)
		}
	}
	message := "Message-ID: <large@remote.test>\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 100)
	for range 3 {
		mail(t, mx, "a@remote.test", message, "451", "full", "good")
		holds(full, 0)
		holds(good, 1)
	}
	if err := c.Nodes[0].SetQuota(t.Context(), full.Address, client.QuotaChange{Bytes: &none}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ { // the second is meant
		mail(t, mx, "a@remote.test", message, "250", "full", "good")
		holds(full, n)
		holds(good, n)
	}
}

// fails makes f fail for the account u1.
func fails(f *fake, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliver = func(a client.Account) error {
		if a.ID == 1 {
			return err
		}
		return nil
	}
}

// has expects so many messages in u's inbox.
func (f *fake) has(t *testing.T, u string, want int) {
	t.Helper()
	if got, _ := f.inbox(t, u); len(got) != want {
		t.Fatalf("%s has %d messages, want %d", u, len(got), want)
	}
}

// tried is a message that its sender can try again.
const tried = "mESSAGE-id: <1@remote.test>\r\n\r\none\r\n"

// Who has a message that was answered with 451 does not get it again, together with others or alone; another message he does.
func TestTriedAgain(t *testing.T) {
	f := newFake()
	_, mx := start(t, f, Config{}, false)
	fails(f, client.ErrUnavailable)
	mail(t, mx, "a@remote.test", tried, "451", "u1", "u2", "u3")
	fails(f, &client.QuotaError{Permanent: true})
	mail(t, mx, "a@remote.test", tried, "451", "u1", "u2", "u3", "u4")
	f.has(t, "u2", 1)
	f.has(t, "u4", 1)
	mail(t, mx, "a@remote.test", tried+"two\r\n", "250", "u2") // other bytes
	mail(t, mx, "b@remote.test", tried, "250", "u2")           // another sender
	f.has(t, "u2", 3)
	mail(t, mx, "a@remote.test", tried, "552", "u1") // what is wrong for good is said
	fails(f, nil)
	mail(t, mx, "a@remote.test", tried, "250", "u1", "u2")
	f.has(t, "u1", 1)
	f.has(t, "u2", 3)
	mail(t, mx, "a@remote.test", tried, "250", "u3") // split, alone
	f.has(t, "u3", 1)
	mail(t, mx, "a@remote.test", tried, "250", "u2", "u3") // after a positive reply: new ones
	f.has(t, "u2", 4)
	f.has(t, "u3", 2)
	mail(t, mx, "a@remote.test", tried, "250", "u4")
	f.has(t, "u4", 1)
	mail(t, mx, "a@remote.test", tried, "250", "u4")
	f.has(t, "u4", 2)
}

// By chunks the same message is the same.
func TestTriedAgainInChunks(t *testing.T) {
	f := newFake()
	_, mx := start(t, f, Config{}, false)
	fails(f, client.ErrUnavailable)
	mail(t, mx, "a@remote.test", tried, "451", "u1", "u2")
	fails(f, nil)
	p := connect(t, mx)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<a@remote.test>", "250")
	p.do("RCPT TO:<u2@example.test>", "250")
	p.do("RCPT TO:<alias@example.test>", "250")
	p.send("BDAT 2\r\n" + tried[:2])
	p.expect("250")
	p.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(tried)-2, tried[2:]))
	p.expect("250")
	f.has(t, "u1", 1)
	f.has(t, "u2", 1)
}

// A message that nothing tells from the next one that says the same is delivered each time it comes.
func TestNotKnownAgain(t *testing.T) {
	f := newFake()
	_, mx := start(t, f, Config{}, false)
	fails(f, client.ErrUnavailable)
	for n := 1; n <= 2; n++ {
		mail(t, mx, "a@remote.test", "Subject: Message-ID: x\r\n\r\nMessage-ID: <1@remote.test>\r\n", "451", "u1", "u2")
		f.has(t, "u2", n)
	}
}

// Who tries a message for ever is not believed for ever.
func TestTriedForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		pipes := newPipes()
		serveOn(t, f, Config{}, false, pipes)
		fails(f, client.ErrUnavailable)
		for _, want := range []int{1, 1, 1, 1, 1, 2, 2} {
			mailTo(newPeer(t, pipes.dial()), "a@remote.test", tried, "451", "u1", "u2")
			f.has(t, "u2", want)
			time.Sleep(partlyFor / 5)
		}
	})
}

// LMTP has a reply for each: who was told that it is delivered and sends it again means it.
func TestLMTPRemembersNothing(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{}, true)
	fails(f, client.ErrUnavailable)
	for range 2 {
		p := connect(t, addr)
		p.do("LHLO c", "250")
		p.do("MAIL FROM:<a@remote.test>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.do("RCPT TO:<u2@example.test>", "250")
		p.do("DATA", "354")
		p.do("x\r\n.", "451")
		p.expect("250")
	}
	f.has(t, "u2", 2)
}

// Keys differ by all that makes a message another one for somebody.
func TestKeysOfAMessage(t *testing.T) {
	seen := make(map[partKey]bool)
	add := func(from, body string, a client.Account) {
		tx := &transaction{from: from, accounts: []client.Account{a, {ID: 99}}}
		h := (&session{}).digest(tx)
		h.Write([]byte("Message-ID: <1@remote.test>\r\n" + body))
		seen[h.keys(tx)[0]] = true
	}
	for range 2 {
		add("a", "x", client.Account{ID: 1})
		add("a", "x", client.Account{ID: 2})
		add("a", "x", client.Account{ID: 1, Detail: "d"})
		add("ad", "x", client.Account{ID: 1})
		add("", "x", client.Account{ID: 1})
		add("a", "", client.Account{ID: 1})
	}
	if len(seen) != 6 {
		t.Errorf("%d keys, want 6", len(seen))
	}
}

// The memory is bounded in size and time.
func TestPartlyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPartly(10)
		key := func(i int) partKey { return partKey{byte(i), byte(i >> 8)} }
		for i := range 1000 {
			p.put(key(i))
		}
		if len(p.items) != 10 || p.order.Len() != 10 || !p.has(key(990)) || !p.has(key(999)) || p.has(key(989)) {
			t.Fatalf("%d items", len(p.items))
		}
		time.Sleep(partlyFor / 2)
		p.put(key(999)) // not for longer
		time.Sleep(partlyFor / 2)
		if p.has(key(999)) {
			t.Error("remembered for longer")
		}
		p.drop(key(999))
		if p.has(key(999)) || p.order.Len() != 9 {
			t.Error("not dropped")
		}
	})
}
