package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// busy are IMAP sessions of one account that do all that a session can be in the middle of while a leader falls: they wait in IDLE, fetch the whole
// mailbox over and over, and append. None of them may see more than a pause.
type busy struct {
	idle     []*idler
	fetches  int
	appended int
	failed   []error // guarded by mu
	mu       sync.Mutex
	stop     atomic.Bool
	work     sync.WaitGroup
	mail     *imapclient.Client // for the end
}

// idler is a session in IDLE, which counts what it hears.
type idler struct {
	c        *imapclient.Client
	wait     *imapclient.IdleCommand
	messages atomic.Uint32
}

const (
	idlersEach = 10
	appendedTo = "Appended"
)

// occupy starts them.
func (r *crashRun) occupy(nodes []Member, user Account, messages uint32) *busy {
	r.t.Helper()
	b := new(busy)
	dial := func(n Member, o imapclient.Options) *imapclient.Client {
		o.TLSConfig = r.tls
		c, err := imapclient.DialTLS(n.IMAPS, &o)
		if err == nil {
			err = c.Login(user.Address, user.Password).Wait()
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = c.Close() })
		return c
	}
	b.mail = dial(nodes[0], imapclient.Options{})
	if err := b.mail.Create(appendedTo, nil).Wait(); err != nil {
		r.t.Fatal(err)
	}
	for _, n := range nodes {
		for range idlersEach {
			b.idle = append(b.idle, newIdler(r.t, func(o imapclient.Options) *imapclient.Client { return dial(n, o) }))
		}
	}
	reader, writer := dial(nodes[0], imapclient.Options{}), dial(nodes[1], imapclient.Options{})
	if _, err := reader.Select("INBOX", nil).Wait(); err != nil {
		r.t.Fatal(err)
	}
	b.repeat(func() error { return b.fetch(reader) })
	b.repeat(func() error { return b.append(writer) })
	return b
}

// repeat does something until the end or until it fails.
func (b *busy) repeat(do func() error) {
	b.work.Go(func() {
		for !b.stop.Load() {
			if err := do(); err != nil {
				b.mu.Lock()
				b.failed = append(b.failed, err)
				b.mu.Unlock()
				return
			}
		}
	})
}

func newIdler(t testing.TB, dial func(imapclient.Options) *imapclient.Client) *idler {
	i := new(idler)
	i.c = dial(imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(m *imapclient.UnilateralDataMailbox) {
			if m.NumMessages != nil {
				i.messages.Store(*m.NumMessages)
			}
		},
	}})
	if _, err := i.c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var err error
	if i.wait, err = i.c.Idle(); err != nil {
		t.Fatal(err)
	}
	return i
}

// fetch reads the mailbox whole: its numbers go up by one, and with them the UIDs.
func (b *busy) fetch(c *imapclient.Client) error {
	section := &goimap.FetchItemBodySection{Peek: true}
	f := c.Fetch(goimap.SeqSet{{Start: 1, Stop: 0}}, &goimap.FetchOptions{UID: true, Flags: true, BodySection: []*goimap.FetchItemBodySection{section}})
	seq, uid := uint32(0), goimap.UID(0)
	var wrong error
	for m := f.Next(); m != nil; m = f.Next() {
		buf, err := m.Collect()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		body := buf.FindBodySection(section)
		if body == nil { // an update of flags that came in between
			continue
		}
		if buf.SeqNum != seq+1 || buf.UID <= uid || !bytes.Contains(body, []byte("Subject: ")) {
			wrong = fmt.Errorf("message %d with UID %d and %d bytes behind %d with UID %d", buf.SeqNum, buf.UID, len(body), seq, uid)
		}
		seq, uid = buf.SeqNum, buf.UID
	}
	b.fetches++
	return errors.Join(f.Close(), wrong)
}

func (b *busy) append(c *imapclient.Client) error {
	raw := fmt.Appendf(nil, "Subject: %d\r\n\r\nappended under a falling leader\r\n", b.appended)
	a := c.Append(appendedTo, int64(len(raw)), nil)
	_, err := io.Copy(a, bytes.NewReader(raw))
	if err = errors.Join(err, a.Close()); err == nil {
		_, err = a.Wait()
	}
	if err == nil {
		b.appended++
	}
	return err
}

// end stops them: every session is still there, has heard of all messages, and every append is in once.
func (b *busy) end(t *testing.T, messages uint32) {
	t.Helper()
	b.stop.Store(true)
	b.work.Wait()
	if err := errors.Join(b.failed...); err != nil {
		t.Fatalf("after %d fetches and %d appends: %v", b.fetches, b.appended, err)
	}
	began := time.Now()
	for n, i := range b.idle {
		eventuallyWithin(t, 10*time.Second, fmt.Sprintf("session %d in IDLE heard of all messages", n), func() bool { return i.messages.Load() == messages })
		if err := errors.Join(i.wait.Close(), i.wait.Wait(), i.c.Noop().Wait()); err != nil {
			t.Errorf("session %d in IDLE: %v", n, err)
		}
	}
	heard := time.Since(began)
	status, err := b.mail.Status(appendedTo, &goimap.StatusOptions{NumMessages: true}).Wait()
	if err != nil || int(*status.NumMessages) != b.appended {
		t.Fatalf("%v messages appended, acknowledged %d: %v", status, b.appended, err)
	}
	t.Logf("%d sessions in IDLE heard all, the last within %v of the end; %d fetches of the mailbox, %d appends", len(b.idle), heard.Round(time.Millisecond), b.fetches, b.appended)
}
