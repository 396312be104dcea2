package imap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// stage is a server with its listeners, on an account of its own.
type stage struct {
	t          *testing.T
	srv        *Server
	mail       *hooked
	user       string
	account    client.Account
	plain, tls string // addresses
}

// hooked is the real door, with a hook before each question: it may fail it, or change the mailbox meanwhile.
type hooked struct {
	mail
	mu   sync.Mutex
	hook func(op string) error
	// stored may change what was stored, as when others were at it before the flags of many messages were read
	stored func(*client.Stored)
	cut    func() int64           // bytes after which a stream breaks; negative: it does not
	odd    func(uid uint32) error // what opening a message's bytes gives, if not nil
	part   int                    // changes that an answer has at most; 0: as the cluster has it
	scan   atomic.Bool            // no full-text index answers
	recent bool                   // messages may be \Recent, which most tests have no use for
	reads  atomic.Int64           // of messages' bytes
	told   atomic.Int64           // mailboxes of which it was noted what sessions were told
}

func (h *hooked) Candidates(ctx context.Context, a client.Account, mailbox, uidValidity uint32, text string) (uint32, *roaring.Bitmap) {
	if h.scan.Load() {
		return 0, roaring.New()
	}
	return h.mail.Candidates(ctx, a, mailbox, uidValidity, text)
}

func (h *hooked) at(fn func(op string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = fn
}

func (h *hooked) before(op string) error {
	h.mu.Lock()
	fn := h.hook
	h.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(op)
}

func testTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// serve runs a server in front of a cluster, with a new account.
func serve(t *testing.T, c *clustertest.Cluster, local string, edit func(*Config)) *stage {
	t.Helper()
	c.Account(t, local)
	return serveAt(t, c, 0, local, edit)
}

func serveAt(t *testing.T, c *clustertest.Cluster, node int, local string, edit func(*Config)) *stage {
	t.Helper()
	st := &stage{t: t, user: local + "@" + clustertest.Domain, mail: &hooked{mail: door{c.Nodes[node].Client()}}}
	var err error
	if st.account, err = c.Nodes[node].Client().Resolve(t.Context(), st.user); err != nil {
		t.Fatal(err)
	}
	cfg := Config{TLS: testTLS(t), Hostname: "test"}
	if edit != nil {
		edit(&cfg)
	}
	st.srv = newServer(cfg, st.mail)
	for _, implicit := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if implicit {
			st.tls = l.Addr().String()
		} else {
			st.plain = l.Addr().String()
		}
		go func() {
			if err := st.srv.Serve(l, implicit); err != nil {
				t.Error(err)
			}
		}()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := st.srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if n := st.srv.Stats().Panics; n != 0 {
			t.Errorf("%d panics", n)
		}
	})
	return st
}

// dial opens a logged-in imapclient connection.
func (st *stage) dial(o *imapclient.Options) *imapclient.Client {
	st.t.Helper()
	if o == nil {
		o = new(imapclient.Options)
	}
	o.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	c, err := imapclient.DialTLS(st.tls, o)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(st.user, clustertest.Password).Wait(); err != nil {
		st.t.Fatal(err)
	}
	return c
}

// raw is a connection on which a test writes and reads lines.
type raw struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
	n int
}

func (st *stage) rawPlain() *raw {
	st.t.Helper()
	c, err := net.Dial("tcp", st.plain)
	if err != nil {
		st.t.Fatal(err)
	}
	return newRaw(st.t, c)
}

func (st *stage) rawTLS() *raw {
	st.t.Helper()
	c, err := tls.Dial("tcp", st.tls, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		st.t.Fatal(err)
	}
	return newRaw(st.t, c)
}

// rawUser is logged in; with a mailbox, that is selected.
func (st *stage) rawUser(mailbox string) *raw {
	st.t.Helper()
	r := st.rawTLS()
	r.line()
	r.ok(fmt.Sprintf("LOGIN %s %s", st.user, clustertest.Password))
	if mailbox != "" {
		r.ok("SELECT " + mailbox)
	}
	return r
}

func newRaw(t *testing.T, c net.Conn) *raw {
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &raw{t: t, Conn: c, r: bufio.NewReader(c)}
}

func (r *raw) send(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.Conn, s); err != nil {
		r.t.Fatalf("send %q: %v", s, err)
	}
}

// line reads a line without its end.
func (r *raw) line() string {
	r.t.Helper()
	s, err := r.r.ReadString('\n')
	if err != nil {
		r.t.Fatalf("after %q: %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// eof expects the connection's end, and returns what came before.
func (r *raw) eof() string {
	r.t.Helper()
	b, err := io.ReadAll(r.r)
	if err != nil {
		r.t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// do sends a command and returns all lines up to its tagged response, which is last, without the tag.
func (r *raw) do(cmd string) []string {
	r.t.Helper()
	r.n++
	tag := fmt.Sprintf("t%d", r.n)
	r.send(tag + " " + cmd + "\r\n")
	return r.until(tag)
}

func (r *raw) until(tag string) []string {
	r.t.Helper()
	var lines []string
	for {
		l := r.line()
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			return append(lines, rest)
		}
		lines = append(lines, l)
	}
}

func (r *raw) ok(cmd string) []string {
	r.t.Helper()
	lines := r.do(cmd)
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "OK") {
		r.t.Fatalf("%s: %q", cmd, lines)
	}
	return lines
}

// want expects the tagged response to start with prefix.
func (r *raw) want(cmd, prefix string) []string {
	r.t.Helper()
	lines := r.do(cmd)
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, prefix) {
		r.t.Fatalf("%s: want %s, got %q", cmd, prefix, lines)
	}
	return lines
}

// appendMessage puts a message into a mailbox past the server.
func (st *stage) appendMessage(mailbox, raw string) uint32 {
	st.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d := st.mail.mail.NewDraft()
	defer d.Close()
	if _, err := io.WriteString(d, raw); err != nil {
		st.t.Fatal(err)
	}
	_, uid, err := st.mail.mail.Append(ctx, st.account, mailbox, d, client.Flags{}, client.Date{Unix: 1750000000, Zone: 480})
	if err != nil {
		st.t.Fatal(err)
	}
	return uid
}

func (h *hooked) Messages(ctx context.Context, a client.Account, box uint32, uids *roaring.Bitmap, want client.Want, fn func(*client.Message) error) error {
	if err := h.before("messages"); err != nil {
		return err
	}
	return h.mail.Messages(ctx, a, box, uids, want, fn)
}

func (h *hooked) StoreFlags(ctx context.Context, a client.Account, box uint32, uids *roaring.Bitmap, op client.FlagOp, f client.Flags, since uint64) (client.Stored, error) {
	if err := h.before("store"); err != nil {
		return client.Stored{}, err
	}
	done, err := h.mail.StoreFlags(ctx, a, box, uids, op, f, since)
	if fn := h.stored; fn != nil && err == nil {
		h.stored = nil
		fn(&done)
	}
	return done, err
}

func (h *hooked) Changes(ctx context.Context, a client.Account, box uint32, since uint64, but ...uint64) (client.Changes, error) {
	if err := h.before("changes"); err != nil {
		return client.Changes{}, err
	}
	ch, err := h.mail.Changes(ctx, a, box, since, but...)
	for n := h.part; n > 0 && n < len(ch.Changed); n++ { // at the end of a modseq, as the index does
		if last := ch.Changed[n-1].ModSeq; ch.Changed[n].ModSeq != last {
			ch.Changed, ch.HighestModSeq, ch.More = ch.Changed[:n], last, true
		}
	}
	return ch, err
}

func (h *hooked) Expunge(ctx context.Context, a client.Account, box uint32, uids *roaring.Bitmap, onlyDeleted bool) (*roaring.Bitmap, error) {
	if err := h.before("expunge"); err != nil {
		return nil, err
	}
	return h.mail.Expunge(ctx, a, box, uids, onlyDeleted)
}

func (h *hooked) NewBatch(a client.Account, mailbox string) batch {
	return hookedBatch{h.mail.NewBatch(a, mailbox), h}
}

type hookedBatch struct {
	batch
	h *hooked
}

func (b hookedBatch) Commit(ctx context.Context) (uidValidity, first uint32, err error) {
	if err := b.h.before("commit"); err != nil {
		return 0, 0, err
	}
	return b.batch.Commit(ctx)
}

func (h *hooked) Mailboxes(ctx context.Context, a client.Account) ([]client.Mailbox, error) {
	if err := h.before("mailboxes"); err != nil {
		return nil, err
	}
	return h.mail.Mailboxes(ctx, a)
}

func (h *hooked) Copy(ctx context.Context, a client.Account, box uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error) {
	if err := h.before("copy"); err != nil {
		return client.CopyResult{}, err
	}
	return h.mail.Copy(ctx, a, box, uids, to)
}

func (h *hooked) Move(ctx context.Context, a client.Account, box uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error) {
	if err := h.before("move"); err != nil {
		return client.CopyResult{}, err
	}
	return h.mail.Move(ctx, a, box, uids, to)
}

func (h *hooked) Select(ctx context.Context, a client.Account, name string) (client.Selected, error) {
	if err := h.before("select"); err != nil {
		return client.Selected{}, err
	}
	got, err := h.mail.Select(ctx, a, name)
	got.Counts = got.Counts && h.recent
	if err == nil {
		err = h.before("selected")
	}
	return got, err
}

func (h *hooked) Status(ctx context.Context, a client.Account, name string) (client.Mailbox, error) {
	box, err := h.mail.Status(ctx, a, name)
	if !h.recent {
		box.Recent = 0
	}
	return box, err
}

// always is a hook that fails one question.
func always(op string, err error) func(string) error {
	return func(got string) error {
		if got == op {
			return err
		}
		return nil
	}
}

// serveNode runs a server at another node, for an account that there is already.
func serveNode(t *testing.T, c *clustertest.Cluster, node int, user string) *stage {
	t.Helper()
	local, _, _ := strings.Cut(user, "@")
	return serveAt(t, c, node, local, nil)
}
