package smtp

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"hongyan/cluster/client"
)

// fake is a cluster of a few accounts in memory that can be told to fail.
type fake struct {
	limit   int64
	deliver func(to client.Account) error // nil: always fine

	mu       sync.Mutex
	messages map[string][][]byte // by address
	open     int                 // drafts not closed
	resolve  error
	room     func(a client.Account, bytes uint64) error // nil: always
	closing  func(d *fakeDraft)                         // called before a draft is closed; nil: nothing
}

func newFake() *fake { return &fake{limit: 1 << 20, messages: map[string][][]byte{}} }

func (f *fake) MaxMessage() int64 { return f.limit }

func (f *fake) Room(_ context.Context, a client.Account, bytes uint64) error {
	if f.room == nil {
		return nil
	}
	return f.room(a, bytes)
}

// Recipient knows u1@example.test to u9@example.test, and alias@example.test for the first of them.
func (f *fake) Recipient(_ context.Context, address string) (client.Account, error) {
	if f.resolve != nil {
		return client.Account{}, f.resolve
	}
	local, domain, _ := strings.Cut(strings.ToLower(address), "@")
	if domain != "example.test" {
		return client.Account{}, client.ErrNotLocal
	}
	if local == "alias" || local == "postmaster" {
		local = "u1"
	}
	if len(local) != 2 || local[0] != 'u' || local[1] < '1' || local[1] > '9' {
		return client.Account{}, client.ErrNoUser
	}
	return client.Account{ID: uint64(local[1] - '0'), Address: local + "@example.test"}, nil
}

func (f *fake) NewDraft() draft {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &fakeDraft{f: f}
}

func (f *fake) Deliver(_ context.Context, d draft, to client.Delivery) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(to.Recipients))
	for i, a := range to.Recipients {
		if f.deliver != nil {
			errs[i] = f.deliver(a)
		}
		if errs[i] == nil {
			f.messages[a.Address] = append(f.messages[a.Address], bytes.Clone(d.(*fakeDraft).Bytes()))
		}
	}
	return errs
}

// inbox is what u has, without the trace header, and that header of the last one.
func (f *fake) inbox(t *testing.T, u string) (bodies []string, trace string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.messages[u+"@example.test"] {
		s := string(m)
		end := strings.Index(s, ";\r\n\t")
		if !strings.HasPrefix(s, "Return-Path: <") || end < 0 {
			t.Fatalf("no trace header: %q", s[:min(len(s), 400)])
		}
		end += strings.Index(s[end+3:], "\r\n") + 5
		bodies, trace = append(bodies, s[end:]), s[:end]
	}
	return bodies, trace
}

type fakeDraft struct {
	bytes.Buffer
	f      *fake
	closed bool
}

func (d *fakeDraft) Write(p []byte) (int, error) {
	if int64(d.Len()+len(p)) > d.f.limit {
		return 0, client.ErrLimit
	}
	return d.Buffer.Write(p)
}

func (d *fakeDraft) Close() error {
	if d.f.closing != nil {
		d.f.closing(d)
	}
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	if !d.closed {
		d.f.open--
	}
	d.closed = true
	return nil
}

// start serves SMTP or LMTP on loopback and returns where.
func start(t *testing.T, f *fake, cfg Config, lmtp bool) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := serveOn(t, f, cfg, lmtp, l)
	return srv, l.Addr().String()
}

func serveOn(t *testing.T, f *fake, cfg Config, lmtp bool, l net.Listener) *Server {
	t.Helper()
	cfg.Hostname = cmp.Or(cfg.Hostname, "mx.example.test")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	srv := newServer(cfg, f)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l, lmtp) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx) // cuts what the test left open
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return srv
}

// peer is a raw client.
type peer struct {
	t *testing.T
	net.Conn
	in  *bufio.Reader
	raw *holding // under TLS: what it runs on
}

func connect(t *testing.T, addr string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return newPeer(t, c)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, Conn: c, in: bufio.NewReader(c)}
	p.expect("220")
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := p.Write([]byte(s)); err != nil {
		p.t.Fatalf("send %.80q: %v", s, err)
	}
}

// expect reads one reply, which must begin with code, and returns its last line.
func (p *peer) expect(code string) string {
	p.t.Helper()
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			p.t.Fatalf("want %s, got %q and %v", code, line, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			p.t.Fatalf("want %s, got %q", code, line)
		}
		return strings.TrimRight(line, "\r\n")
	}
}

// do sends a line and expects a reply.
func (p *peer) do(line, code string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(code)
}
