package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/auth"
)

// fake is a cluster with one INBOX, u@example.test's, that can be told to fail.
type fake struct {
	mu       sync.Mutex
	messages map[uint32]string
	uids     *roaring.Bitmap
	lost     bool // content of all messages
	dies     bool // it is lost once a read breaks
	restored bool // the mailbox is another one
	down     bool // everything is unavailable
	breaks   int  // reads that end in the middle
	opened   int  // bodies not closed
	largest  int  // most messages asked about at once
	shared   bool // anybody gets the lock
	holder   *fakeLock
	cut      bool // who has the lock does not know whether it still has it
}

// fakeLock is a session's lock. One that is not the fake's holder any more is lost.
type fakeLock struct{ f *fake }

func (f *fake) Exclusive(ctx context.Context, _ client.Account, patience time.Duration) (lock, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		f.mu.Lock()
		free := f.holder == nil || f.shared
		l := &fakeLock{f}
		if free {
			f.holder = l
		}
		f.mu.Unlock()
		if free {
			return l, nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, client.ErrInUse
		}
	}
}

func (l *fakeLock) Hold(context.Context) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	switch {
	case l.f.shared:
		return nil
	case l.f.cut:
		return client.ErrUnavailable
	case l.f.holder != l:
		return client.ErrInUse
	}
	return nil
}

func (l *fakeLock) Release() {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if l.f.holder == l {
		l.f.holder = nil
	}
}

func newFake(messages ...string) *fake {
	f := &fake{messages: map[uint32]string{}, uids: roaring.New()}
	for i, m := range messages {
		f.put(uint32(10*i+10), m)
	}
	return f
}

func (f *fake) put(uid uint32, m string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages[uid] = m
	f.uids.Add(uid)
}

func (f *fake) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *fake) left() []uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.uids.ToArray()
}

// size of a message; those of a huge mailbox have no bytes.
func (f *fake) size(uid uint32) uint64 { return uint64(len(f.messages[uid])) }

func (f *fake) Authenticate(_ context.Context, address, password string) (client.Account, error) {
	if address == "down@example.test" {
		return client.Account{}, client.ErrUnavailable
	}
	if address != "u@example.test" || password != "secret" {
		return client.Account{}, client.ErrBadCredentials
	}
	return client.Account{ID: 7, Address: address}, nil
}

func (f *fake) Select(_ context.Context, a client.Account, name string) (client.Selected, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || name != "INBOX" || a.ID != 7 {
		return client.Selected{}, client.ErrUnavailable
	}
	sel := client.Selected{UIDs: f.uids.Clone(), Mailbox: client.Mailbox{ID: 3, UIDValidity: 99}}
	for _, m := range f.messages {
		sel.Mailbox.Size += uint64(len(m))
	}
	return sel, nil
}

func (f *fake) Status(_ context.Context, a client.Account, name string) (client.Mailbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || name != "INBOX" || a.ID != 7 {
		return client.Mailbox{}, client.ErrUnavailable
	}
	if f.restored {
		return client.Mailbox{ID: 3, UIDValidity: 100}, nil
	}
	return client.Mailbox{ID: 3, UIDValidity: 99}, nil
}

func (f *fake) Messages(_ context.Context, _ client.Account, box uint32, uids *roaring.Bitmap, want client.Want, fn func(*client.Message) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || box != 3 || want != wantImmutable {
		return client.ErrUnavailable
	}
	f.largest = max(f.largest, int(uids.GetCardinality()))
	for it := roaring.And(f.uids, uids).Iterator(); it.HasNext(); {
		uid := it.Next()
		if err := fn(&client.Message{UID: uid, Size: f.size(uid), Ref: client.Ref{Record: uint64(uid)}}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Expunge(_ context.Context, _ client.Account, box uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || box != 3 || onlyDeleted {
		return nil, client.ErrUnavailable
	}
	gone := roaring.And(f.uids, uids)
	f.uids.AndNot(gone)
	return gone, nil
}

func (f *fake) Open(_ context.Context, _ client.Account, _, _ uint32, ref client.Ref, off, n uint64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return nil, client.ErrLost
	}
	if f.down {
		return nil, client.ErrUnavailable
	}
	m := f.messages[uint32(ref.Record)][off:]
	m = m[:min(n, uint64(len(m)))]
	f.opened++
	r := &fakeBody{f: f, Reader: strings.NewReader(m)}
	if f.breaks > 0 {
		f.breaks--
		f.lost = f.dies
		r.Reader = io.MultiReader(strings.NewReader(m[:len(m)/2]), broken{})
	}
	return r, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("copy is lost") }

type fakeBody struct {
	f *fake
	io.Reader
}

func (b *fakeBody) Close() error {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	b.f.opened--
	return nil
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"pop.example.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// serve runs a server of st on loopback and returns where.
func serve(t testing.TB, st store, v auth.Verifier, secure bool, log io.Writer) (*Server, string) {
	t.Helper()
	return serveWithin(t, st, v, secure, log, Limits{})
}

func serveWithin(t testing.TB, st store, v auth.Verifier, secure bool, log io.Writer, limits Limits) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	srv := newServer(Config{Hostname: "pop.example.test", Log: logger, Auth: auth.New(v, logger), TLS: testTLS(t), Limits: limits}, st)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l, secure) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx) // cuts what the test left open
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return srv, l.Addr().String()
}

// peer is a raw client.
type peer struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func connect(t testing.TB, addr string, secure bool) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := &peer{t: t, conn: c, in: bufio.NewReader(c)}
	if secure {
		p.encrypt()
	}
	p.expect("+OK")
	return p
}

func (p *peer) encrypt() {
	p.conn = tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	p.in = bufio.NewReader(p.conn)
}

// login connects by POP3S and logs in.
func login(t testing.TB, addr string) *peer {
	t.Helper()
	p := connect(t, addr, true)
	p.do("USER u@example.test", "+OK")
	p.do("PASS secret", "+OK")
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.t.Fatalf("send %.80q: %v", s, err)
	}
}

func (p *peer) expect(prefix string) string {
	p.t.Helper()
	line, err := p.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("want %q, got %q, %v", prefix, line, err)
	}
	return strings.TrimRight(line, "\r\n")
}

func (p *peer) do(line, prefix string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(prefix)
}

// multi reads the lines of a response up to the dot, unstuffed.
func (p *peer) multi() string {
	p.t.Helper()
	var b bytes.Buffer
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			p.t.Fatalf("after %.200q: %v", b.String(), err)
		}
		if line == ".\r\n" {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// ended checks that the server closes without another word.
func (p *peer) ended() {
	p.t.Helper()
	if line, err := p.in.ReadString('\n'); err == nil {
		p.t.Fatalf("connection goes on: %q", line)
	}
}

func accountOf(f *fake) client.Account {
	a, err := f.Authenticate(context.Background(), "u@example.test", "secret")
	if err != nil {
		panic(err)
	}
	return a
}
