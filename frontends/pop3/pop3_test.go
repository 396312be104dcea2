package pop3

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	first  = "Subject: one\r\n\r\n.\r\n..dots\r\nline 3\r\n"
	second = "Subject: two\n\nbare\n.\nLFs"
)

func TestSession(t *testing.T) {
	f := newFake(first, second, "")
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	p.do("STAT", fmt.Sprintf("+OK 3 %d", len(first)+len(second)))
	p.do("LIST", "+OK 3")
	if got := p.multi(); got != fmt.Sprintf("1 %d\r\n2 %d\r\n3 0\r\n", len(first), len(second)) {
		t.Fatalf("LIST %q", got)
	}
	p.do("LIST 2", fmt.Sprintf("+OK 2 %d", len(second)))
	p.do("UIDL", "+OK")
	if got := p.multi(); got != "1 99.10\r\n2 99.20\r\n3 99.30\r\n" {
		t.Fatalf("UIDL %q", got)
	}
	p.do("UIDL 3", "+OK 3 99.30")
	for n, want := range map[int]string{1: first, 2: strings.ReplaceAll(second, "\n", "\r\n") + "\r\n", 3: ""} {
		p.do(fmt.Sprintf("RETR %d", n), "+OK")
		if got := p.multi(); got != want {
			t.Fatalf("RETR %d: %q", n, got)
		}
	}
	p.do("TOP 1 1", "+OK")
	if got := p.multi(); got != "Subject: one\r\n\r\n.\r\n" {
		t.Fatalf("TOP %q", got)
	}
	p.do("NOOP", "+OK")
	for _, bad := range []string{"RETR 0", "RETR 4", "RETR", "RETR x", "LIST 4", "UIDL 99999999999", "TOP 1", "TOP 1 -1", "TOP 9 1", "DELE 4", "USER u", "STLS", "STAT 1"} {
		p.do(bad, "-ERR")
	}
	if f.opened != 0 {
		t.Fatalf("%d bodies left open", f.opened)
	}
	p.do("QUIT", "+OK")
	p.ended()
	if got := f.left(); len(got) != 3 {
		t.Fatalf("left %v", got)
	}
}

func TestDeletion(t *testing.T) {
	f := newFake(first, second, "x\r\n")
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	p.do("DELE 1", "+OK")
	for _, gone := range []string{"DELE 1", "RETR 1", "LIST 1", "UIDL 1", "TOP 1 1"} {
		p.do(gone, "-ERR")
	}
	p.do("STAT", fmt.Sprintf("+OK 2 %d", len(second)+3))
	p.do("LIST", "+OK 2")
	if got := p.multi(); got != fmt.Sprintf("2 %d\r\n3 3\r\n", len(second)) {
		t.Fatalf("LIST %q", got)
	}
	p.do("UIDL", "+OK")
	if got := p.multi(); got != "2 99.20\r\n3 99.30\r\n" {
		t.Fatalf("UIDL %q", got)
	}
	p.do("RSET", "+OK 3")
	p.do("DELE 2", "+OK")
	p.do("QUIT", "+OK")
	if got := f.left(); !slices.Equal(got, []uint32{10, 30}) {
		t.Fatalf("left %v", got)
	}
	p = login(t, addr)
	p.do("DELE 1", "+OK")
	_ = p.conn.Close() // without QUIT nothing is removed
	p = login(t, addr)
	p.do("STAT", "+OK 2 ")
}

// Two sessions at once, as when one was stopped for long behind a look at its lock.
func TestTwoSessions(t *testing.T) {
	f := newFake(first, second)
	f.shared = true
	_, here := serve(t, f, f, true, io.Discard)
	_, there := serve(t, f, f, true, io.Discard) // another node
	a, b := login(t, here), login(t, there)
	a.do("DELE 1", "+OK")
	b.do("DELE 1", "+OK")
	b.do("RSET", "+OK")
	a.do("QUIT", "+OK")
	f.put(40, "new\r\n")
	b.do("RETR 1", "-ERR message was removed")
	b.do("LIST 1", "-ERR message was removed")
	b.do("UIDL 1", "+OK 1 99.10")
	b.do("RETR 2", "+OK")
	b.multi()
	b.do("LIST", "+OK")
	if got := b.multi(); got != fmt.Sprintf("2 %d\r\n", len(second)) {
		t.Fatalf("LIST %q", got)
	}
	b.do("DELE 1", "+OK")
	b.do("QUIT", "+OK")
	if got := f.left(); !slices.Equal(got, []uint32{20, 40}) {
		t.Fatalf("left %v", got)
	}
}

// One session of an account at a time; who comes second waits a little.
func TestLock(t *testing.T) {
	f := newFake(first)
	_, addr := serveWithin(t, f, f, true, io.Discard, Limits{LockWait: 100 * time.Millisecond})
	a, b := login(t, addr), connect(t, addr, true)
	b.do("USER u@example.test", "+OK")
	b.do("PASS secret", "-ERR [IN-USE]")
	b.do("STAT", "-ERR")
	a.do("STAT", "+OK 1 ")
	a.do("QUIT", "+OK")
	a.ended()

	_, addr = serveWithin(t, f, f, true, io.Discard, Limits{LockWait: time.Minute})
	a, b = login(t, addr), connect(t, addr, true)
	b.do("USER u@example.test", "+OK")
	b.send("PASS secret\r\n")
	a.do("DELE 1", "+OK")
	a.do("QUIT", "+OK")
	b.expect("+OK 0 messages")
	f.setDown(true)
	c := connect(t, addr, true)
	b.do("QUIT", "+OK")
	c.do("USER u@example.test", "+OK")
	c.do("PASS secret", "-ERR [SYS/TEMP]") // which leaves no lock behind
	f.setDown(false)
	c.do("USER u@example.test", "+OK")
	c.do("PASS secret", "+OK")
}

// A session that does not know whether it has its lock waits; one that has lost it ends, and removes nothing.
func TestLostLock(t *testing.T) {
	f := newFake(first, second)
	_, addr := serve(t, f, f, true, io.Discard)
	hurt := func(cut, lost bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cut = cut
		if lost {
			f.holder = &fakeLock{f}
		}
	}
	a := login(t, addr)
	a.do("DELE 1", "+OK")
	hurt(true, false)
	a.do("STAT", "-ERR [SYS/TEMP]")
	hurt(false, false)
	a.do("STAT", "+OK 1 ")
	hurt(true, false)
	a.do("QUIT", "-ERR [SYS/TEMP] temporarily unavailable, 0 of 1 ")
	a.ended()

	hurt(false, false)
	a = login(t, addr)
	a.do("DELE 1", "+OK")
	hurt(false, true)
	a.do("STAT", "-ERR [IN-USE]")
	a.ended()

	f.holder = nil
	a = login(t, addr)
	a.do("DELE 1", "+OK")
	hurt(false, true)
	a.do("QUIT", "-ERR [IN-USE] another session has the maildrop by now, 0 of 1 ")
	a.ended()

	f.holder = nil
	a = login(t, addr)
	hurt(false, true)
	a.do("QUIT", "+OK") // it removes nothing
	if got := f.left(); len(got) != 2 {
		t.Fatalf("left %v", got)
	}
}

// A mailbox that was restored meanwhile may have other messages under the same UIDs.
func TestRestoredMailbox(t *testing.T) {
	f := newFake(first, second)
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	p.do("DELE 1", "+OK")
	f.mu.Lock()
	f.restored = true
	f.mu.Unlock()
	p.do("QUIT", "-ERR the mailbox was replaced meanwhile, 0 of 1 ")
	p.ended()
	if got := f.left(); len(got) != 2 {
		t.Fatalf("left %v", got)
	}
}

func TestUTF8(t *testing.T) {
	f := newFake("Subject: \u4f60\u597d\r\n\r\n")
	_, addr := serve(t, f, f, false, io.Discard)
	p := connect(t, addr, false)
	p.do("UTF8", "-ERR TLS is needed")
	p.do("STLS", "+OK")
	p.encrypt()
	p.do("utf8", "+OK")
	p.do("UTF8 x", "-ERR")
	p.do("USER \u4f60@example.test", "+OK")
	p.do("PASS \u597d", "-ERR [AUTH]")
	p.do("USER u@example.test", "+OK")
	p.do("PASS secret", "+OK")
	p.do("UTF8", "-ERR")
	p.do("RETR 1", "+OK")
	if got := p.multi(); got != f.messages[10] {
		t.Fatalf("%q", got)
	}
}

func TestPasswordsOnlyUnderTLS(t *testing.T) {
	f := newFake(first)
	_, addr := serve(t, f, f, false, io.Discard)
	p := connect(t, addr, false)
	p.do("CAPA", "+OK")
	if got := p.multi(); !strings.Contains(got, "STLS\r\n") || strings.Contains(got, "USER") || strings.Contains(got, "SASL") {
		t.Fatalf("CAPA in the clear: %q", got)
	}
	plain := base64.StdEncoding.EncodeToString([]byte("\x00u@example.test\x00secret"))
	p.do("USER u@example.test", "-ERR")
	p.do("PASS secret", "-ERR")
	p.do("AUTH PLAIN "+plain, "-ERR")
	p.do("AUTH PLAIN", "-ERR")
	p.do("STAT", "-ERR")
	p.do("STLS", "+OK")
	p.encrypt()
	p.do("CAPA", "+OK")
	got := p.multi()
	for _, want := range []string{"TOP", "UIDL", "USER", "SASL PLAIN", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "UTF8 USER"} {
		if !strings.Contains(got, want+"\r\n") {
			t.Errorf("CAPA under TLS lacks %s", want)
		}
	}
	if strings.Contains(got, "STLS") {
		t.Error("STLS is offered twice")
	}
	p.do("STLS", "-ERR")
	p.do("PASS secret", "-ERR USER")
	p.do("AUTH", "+OK")
	if got := p.multi(); got != "PLAIN\r\n" {
		t.Fatalf("AUTH %q", got)
	}
	p.do("AUTH CRAM-MD5", "-ERR")
	p.do("AUTH PLAIN", "+ ")
	p.do("*", "-ERR")
	p.do("AUTH PLAIN !", "-ERR")
	p.do("AUTH PLAIN", "+ ")
	p.do(plain, "+OK 1 messages")
	p.do("CAPA", "+OK")
	if got := p.multi(); !strings.Contains(got, "UIDL") || strings.Contains(got, "STLS") {
		t.Fatalf("CAPA behind the login: %q", got)
	}
	p.do("STAT", "+OK 1 ")
}

func TestNothingBehindSTLS(t *testing.T) {
	f := newFake(first)
	_, addr := serve(t, f, f, false, io.Discard)
	p := connect(t, addr, false)
	p.send("STLS\r\nUSER evil@example.test\r\n")
	p.expect("-ERR commands behind STLS")
	p.ended()
}

func TestLoginFailures(t *testing.T) {
	f := newFake(first)
	var log bytes.Buffer
	srv, addr := serve(t, f, f, true, &log)
	p := connect(t, addr, true)
	p.do("USER u@example.test", "+OK")
	p.do("PASS hunter2", "-ERR [AUTH]")
	p.do("PASS secret", "-ERR USER")
	p.do("USER down@example.test", "+OK")
	p.do("PASS secret", "-ERR [SYS/TEMP]")
	f.setDown(true)
	p.do("USER u@example.test", "+OK")
	p.do("PASS secret", "-ERR [SYS/TEMP]")
	p.do("STAT", "-ERR")
	f.setDown(false)
	p.do("USER u@example.test", "+OK")
	p.do("PASS secret", "+OK")
	p.do("QUIT", "+OK")
	if err := srv.Shutdown(t.Context()); err != nil { // waits for the session's last line
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), "secret") {
		t.Fatal("password in the log")
	}
}

func TestUnavailableLater(t *testing.T) {
	f := newFake(first, second)
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	p.do("DELE 2", "+OK")
	f.setDown(true)
	for _, c := range []string{"RETR 1", "TOP 1 0", "LIST 1", "LIST", "STAT"} {
		p.do(c, "-ERR [SYS/TEMP]")
	}
	f.setDown(false)
	p.do("RETR 1", "+OK")
	p.multi()
	f.setDown(true)
	p.do("QUIT", "-ERR [SYS/TEMP]")
	p.ended()
	if got := f.left(); len(got) != 2 {
		t.Fatalf("left %v", got)
	}
}

func TestLostCopies(t *testing.T) {
	big := strings.Repeat("0123456789abcdef\r\n", 20_000)
	f := newFake(big)
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	f.mu.Lock()
	f.breaks = 3
	f.mu.Unlock()
	p.do("RETR 1", "+OK")
	if got := p.multi(); got != big {
		t.Fatalf("%d of %d bytes", len(got), len(big))
	}
	f.mu.Lock()
	f.breaks, f.dies = 1, true
	f.mu.Unlock()
	p.do("RETR 1", "+OK")
	got, _ := io.ReadAll(p.in)
	if len(got) >= len(big) || bytes.HasSuffix(got, []byte("\r\n.\r\n")) {
		t.Fatal("a message that was not whole was ended as if it were")
	}
}

// A message whose content is lost is refused for good, and the others are not.
func TestLostContent(t *testing.T) {
	f := newFake(first, second)
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	f.mu.Lock()
	f.lost = true
	f.mu.Unlock()
	p.do("RETR 1", "-ERR [SYS/PERM]")
	f.mu.Lock()
	f.lost = false
	f.mu.Unlock()
	p.do("RETR 2", "+OK")
	p.multi()
	p.do("QUIT", "+OK")
}

func TestPipelining(t *testing.T) {
	f := newFake(first, second)
	_, addr := serve(t, f, f, true, io.Discard)
	p := connect(t, addr, true)
	p.send("USER u@example.test\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nXYZZ\r\nQUIT\r\n")
	for _, want := range []string{"+OK", "+OK 2", "+OK 2 ", "+OK"} {
		p.expect(want)
	}
	if got := p.multi(); got != first {
		t.Fatalf("%q", got)
	}
	for _, want := range []string{"+OK", "-ERR", "+OK"} {
		p.expect(want)
	}
	p.ended()
	if got := f.left(); !slices.Equal(got, []uint32{20}) {
		t.Fatalf("left %v", got)
	}
}

func TestBounds(t *testing.T) {
	f := newFake(first)
	_, addr := serve(t, f, f, true, io.Discard)
	t.Run("long line", func(t *testing.T) {
		p := login(t, addr)
		p.send("NOOP " + strings.Repeat("x", 100_000) + "\r\nSTAT\r\n")
		p.expect("-ERR line is too long")
		p.expect("+OK 1 ")
	})
	t.Run("bad commands", func(t *testing.T) {
		p := login(t, addr)
		p.send(strings.Repeat("XYZZY\r\n", maxBad))
		for range maxBad {
			p.expect("-ERR")
		}
		p.ended()
	})
	t.Run("too much before a login", func(t *testing.T) {
		p := connect(t, addr, true)
		go func() { _, _ = p.conn.Write(bytes.Repeat([]byte("x"), 10*loginBudget)) }()
		p.ended()
	})
	t.Run("too many commands before a login", func(t *testing.T) {
		p := connect(t, addr, true)
		p.send(strings.Repeat("USER x\r\n", maxGreetings+1))
		for range maxGreetings {
			p.expect("+OK")
		}
		p.expect("-ERR")
		p.ended()
	})
}

// TestHuge: of a huge maildrop nothing is held but the set of UIDs.
func TestHuge(t *testing.T) {
	const n = 200_000
	f := newFake()
	f.uids = roaring.New()
	f.uids.AddRange(1, n+1)
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	for _, c := range []string{"LIST", "UIDL"} {
		p.do(c, "+OK")
		if got := strings.Count(p.multi(), "\r\n"); got != n {
			t.Fatalf("%s: %d lines", c, got)
		}
	}
	if f.largest > sizesChunk {
		t.Fatalf("%d messages asked about at once", f.largest)
	}
	p.do("DELE 200000", "+OK")
	p.do("UIDL 199999", "+OK 199999 99.199999")
	p.do("QUIT", "+OK")
	if got := f.uids.GetCardinality(); got != n-1 {
		t.Fatalf("left %d", got)
	}
}

func TestCommitInParts(t *testing.T) {
	f := newFake()
	f.uids.AddRange(1, 3*expungeChunk)
	m, err := openMaildrop(t.Context(), f, accountOf(f))
	if err != nil {
		t.Fatal(err)
	}
	m.deleted.AddRange(5, 3*expungeChunk)
	by, err := f.Exclusive(t.Context(), m.account, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := m.commit(t.Context(), by)
	if err != nil || removed != 3*expungeChunk-5 || len(f.left()) != 4 {
		t.Fatalf("removed %d, left %d, %v", removed, len(f.left()), err)
	}
}

func TestShutdown(t *testing.T) {
	f := newFake(first)
	srv, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	p.ended()
	wg.Wait()
}

// TestRandomBodies sends messages of line ends and dots through a real session.
func TestRandomBodies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	f := newFake()
	for uid := uint32(1); uid <= 300; uid++ {
		var b strings.Builder
		for range rng.IntN(40) {
			b.WriteString([]string{"\r\n", "\n", ".", "x", "\r"}[rng.IntN(5)])
		}
		f.put(uid, b.String())
	}
	_, addr := serve(t, f, f, true, io.Discard)
	p := login(t, addr)
	for uid := uint32(1); uid <= 300; uid++ {
		p.do(fmt.Sprintf("RETR %d", uid), fmt.Sprintf("+OK %d octets", len(f.messages[uid])))
		if got, want := p.multi(), lines(f.messages[uid]); got != want {
			t.Fatalf("%q: %q, want %q", f.messages[uid], got, want)
		}
	}
}
