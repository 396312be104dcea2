package imap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/listen"
)

// stub is a mail of one empty mailbox, which agrees to everything and keeps what was appended.
type stub struct {
	mail
	appended *bytes.Buffer
	boxes    []client.Mailbox
}

func (stub) MaxMessage() int64 { return 10_000 }
func (s stub) NewDraft() draft { return stubDraft{new(bytes.Buffer)} }

func (s stub) Textual(d draft) (draft, int64, error) { return d, int64(d.(stubDraft).Len()), nil }
func (s stub) Append(_ context.Context, _ client.Account, _ string, d draft, _ client.Flags, _ client.Date) (uidValidity, uid uint32, err error) {
	_, err = s.appended.Write(d.(stubDraft).Bytes())
	return 1, 1, err
}
func (stub) Sharing() bool { return true }
func (stub) Annotations(context.Context, client.Account, string) ([]client.Annotation, error) {
	return nil, nil
}
func (stub) Annotate(context.Context, client.Account, string, []client.Annotation) error { return nil }
func (s stub) NewBatch(client.Account, string) batch {
	return &stubBatch{of: s}
}
func (s stub) Replace(ctx context.Context, a client.Account, _, _ uint32, name string, d draft, f client.Flags, date client.Date) (uidValidity, added uint32, err error) {
	return s.Append(ctx, a, name, d, f, date)
}
func (s stub) Mailboxes(context.Context, client.Account) ([]client.Mailbox, error) {
	return s.boxes, nil
}
func (stub) Resolve(context.Context, string) (client.Account, error) {
	return client.Account{}, client.ErrNoUser
}
func (stub) Visit(context.Context, client.Account, string) (client.Account, error) {
	return client.Account{}, client.ErrNoMailbox
}
func (stub) Rights(context.Context, client.Account, string) (client.Rights, error) {
	return client.RightsAll, nil
}
func (stub) Grants(context.Context, client.Account, string) ([]client.Grant, error) { return nil, nil }
func (stub) Share(context.Context, client.Account, string, client.Account, client.FlagOp, client.Rights) error {
	return nil
}
func (stub) Shared(context.Context, client.Account) ([]client.Shared, error) { return nil, nil }
func (stub) Quota(context.Context, client.Account) (client.Quota, error) {
	return client.Quota{}, nil
}
func (stub) Room(context.Context, client.Account, uint64) error              { return nil }
func (stub) Subscriptions(context.Context, client.Account) ([]string, error) { return nil, nil }
func (stub) Status(context.Context, client.Account, string) (client.Mailbox, error) {
	return client.Mailbox{}, client.ErrNoMailbox
}
func (stub) Select(_ context.Context, _ client.Account, name string) (client.Selected, error) {
	return client.Selected{Mailbox: client.Mailbox{Name: name}, UIDs: roaring.New(), Rights: client.RightsAll}, nil
}
func (stub) CreateMailbox(context.Context, client.Account, string, string) (client.Mailbox, error) {
	return client.Mailbox{}, nil
}
func (stub) DeleteMailbox(context.Context, client.Account, string) error         { return nil }
func (stub) RenameMailbox(context.Context, client.Account, string, string) error { return nil }
func (stub) Subscribe(context.Context, client.Account, string, bool) error       { return nil }
func (stub) Flagged(context.Context, client.Account, uint32, uint8) (*roaring.Bitmap, error) {
	return roaring.New(), nil
}
func (stub) Changes(context.Context, client.Account, uint32, uint64, ...uint64) (client.Changes, error) {
	return client.Changes{Vanished: roaring.New()}, nil
}
func (stub) WatchFunc(client.Account, uint32, func()) (cancel func()) { return func() {} }

// stubBatch enters nothing before it is committed.
type stubBatch struct {
	of   stub
	held bytes.Buffer
}

func (b *stubBatch) Add(_ context.Context, d draft, _ client.Flags, _ client.Date) error {
	_, err := b.held.Write(d.(stubDraft).Bytes())
	return err
}

func (b *stubBatch) Commit(context.Context) (uidValidity, first uint32, err error) {
	_, err = b.of.appended.Write(b.held.Bytes())
	return 1, 1, err
}

type stubDraft struct{ *bytes.Buffer }

func (stubDraft) Close() error { return nil }

// once is a listener with a single connection.
type once struct{ c chan net.Conn }

func (o once) Accept() (net.Conn, error) {
	c, ok := <-o.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (o once) Close() error   { return nil }
func (o once) Addr() net.Addr { return &net.UnixAddr{Name: "once"} }

// duplex is a connection in memory whose client can stop sending and go on listening.
type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) Close() error                     { return errors.Join(d.PipeReader.Close(), d.PipeWriter.Close()) }
func (d duplex) LocalAddr() net.Addr              { return once{}.Addr() }
func (d duplex) RemoteAddr() net.Addr             { return once{}.Addr() }
func (d duplex) SetDeadline(time.Time) error      { return nil }
func (d duplex) SetReadDeadline(time.Time) error  { return nil }
func (d duplex) SetWriteDeadline(time.Time) error { return nil }

// stubServer serves nothing by itself: tests hand it connections.
func stubServer(appended *bytes.Buffer) *Server {
	return newServer(Config{Hostname: "test"}, stub{appended: appended})
}

// pipe is a connection in memory: the server's end, and the client's two.
func pipe(t testing.TB) (base *listen.Conn, toServer *io.PipeWriter, fromServer *io.PipeReader) {
	t.Helper()
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	o := once{make(chan net.Conn, 1)}
	o.c <- duplex{in, out}
	c, err := listen.Wrap(o, listen.Config{Name: "test", Idle: 5 * time.Second}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*listen.Conn), toServer, fromServer
}

// conversation runs a session that is logged in, and returns what the client heard.
func conversation(t testing.TB, input []byte) (output, appended string, srv *Server) {
	t.Helper()
	base, toServer, fromServer := pipe(t)
	buf := new(bytes.Buffer)
	srv = stubServer(buf)
	go loggedIn(t, srv, base)
	go func() {
		// The server may hang up before it has read all.
		_, _ = toServer.Write(input)
		_ = toServer.Close()
	}()
	slow := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("no end of a conversation: %q", input)) })
	defer slow.Stop()
	heard, err := io.ReadAll(fromServer)
	if err != nil {
		t.Fatal(err)
	}
	return string(heard), buf.String(), srv
}

// talk is a session with a client in memory, logged in and past the greeting.
type talk struct {
	t    testing.TB
	w    io.Writer
	r    *bufio.Reader
	mail stub
	done chan struct{} // closed when the session is over
}

func newTalk(t testing.TB) *talk { return newTalkWith(t, stub{appended: new(bytes.Buffer)}, Limits{}) }

// newTalkWith is newTalk on another mail, with other limits.
func newTalkWith(t testing.TB, m stub, l Limits) *talk {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	base, err := listen.Wrap(ln, listen.Config{Name: "test", Idle: 20 * time.Second, WriteIdle: l.ProgressTimeout}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(Config{Hostname: "test", Limits: l}, m)
	done := make(chan struct{})
	go func() {
		defer close(done)
		loggedIn(t, srv, base.(*listen.Conn))
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	k := &talk{t: t, w: conn, r: bufio.NewReader(conn), mail: m, done: done}
	k.until("* OK")
	return k
}

func (k *talk) send(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k.w, s); err != nil {
		k.t.Fatal(err)
	}
}

// until reads lines up to one that starts with prefix.
func (k *talk) until(prefix string) string {
	k.t.Helper()
	var all strings.Builder
	for {
		l, err := k.r.ReadString('\n')
		all.WriteString(l)
		if err != nil {
			k.t.Fatalf("after %q: %v", all.String(), err)
		}
		if strings.HasPrefix(l, prefix) {
			return all.String()
		}
	}
}

// loggedIn runs a session whose client is logged in, over a connection that counts as secure.
func loggedIn(t testing.TB, srv *Server, base *listen.Conn) {
	c := newConn(base, srv)
	sess := newSession(srv, c)
	c.secured, sess.state = true, stateUser
	if err := c.loggedIn(srv.mail.MaxMessage()); err != nil {
		t.Error(err)
	}
	if err := sess.serve(); !errors.Is(err, errGoodbye) {
		c.inputFailed(err, false)
	}
	sess.close()
}
