package smtp

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/frontends/listen"
)

// held is a session whose message, which go-smtp has another goroutine receive, begins only when the test says so, or is received but not returned from.
type held struct {
	*session
	begins   bool
	release  chan struct{}
	received chan struct{}
}

func (h held) Data(r io.Reader) error {
	return h.take(func() error { return h.session.Data(r) })
}

func (h held) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	return h.take(func() error { return h.session.LMTPData(r, status) })
}

func (h held) take(message func() error) error {
	if h.begins {
		<-h.release
		return message()
	}
	err := message()
	close(h.received)
	<-h.release
	return err
}

// Reset comes behind the message's end, which go-smtp has brought about before it calls.
func (h held) Reset() {
	if !h.begins {
		<-h.received
	}
	h.session.Reset()
}

// TestChunksBehindTheirReset: go-smtp does not wait for the goroutine of a message that is broken off, nor for its beginning where a chunk is empty. It must
// not meet another transaction, nor what becomes of it another message.
func TestChunksBehindTheirReset(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, begins := range []bool{false, true} {
			for _, how := range []string{"RSET", "HELO", "STARTTLS"} {
				if how == "STARTTLS" && !begins { // Reset comes behind Logout there
					continue
				}
				if lmtp && begins { // go-smtp looks up unguarded, as late, whom to tell of the message, and the race detector says so; we tell nobody then
					continue
				}
				t.Run(fmt.Sprintf("%s, lmtp %v, begins %v", how, lmtp, begins), func(t *testing.T) {
					f := newFake()
					h := held{begins: begins, release: make(chan struct{}), received: make(chan struct{})}
					srv, addr := serveHeld(t, f, lmtp, h)
					p := connect(t, addr)
					_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
					hello := map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp]
					p.do(hello, "250")
					p.do("MAIL FROM:<>", "250")
					p.do("RCPT TO:<u1@example.test>", "250")
					if begins {
						p.do("BDAT 0", "250")
					} else {
						p.do("BDAT 2\r\n", "250")
					}
					switch how {
					case "RSET":
						p.do("RSET", "250")
						p.do("MAIL FROM:<>", "421 4.3.0")
					case "HELO":
						p.do(hello, "250")
						p.do("MAIL FROM:<>", "421 4.3.0")
					case "STARTTLS":
						p.do("STARTTLS", "220")
						p = over(t, p.Conn)
					}
					if rest, err := io.ReadAll(p.in); len(rest) > 0 || isTimeout(err) {
						t.Fatalf("goes on: %q, %v", rest, err)
					}
					close(h.release)
					eventually(t, func() bool {
						f.mu.Lock()
						defer f.mu.Unlock()
						return f.open == 0 && len(srv.slots) == 0
					})
				})
			}
		}
	}
}

// serveHeld serves one connection, with h as its session.
func serveHeld(t *testing.T, f *fake, lmtp bool, h held) (*Server, string) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listen.Wrap(raw, listen.Config{})
	t.Cleanup(func() { _ = l.Close() })
	srv := newServer(Config{Hostname: "mx.example.test", Log: slog.New(slog.DiscardHandler), TLS: testTLS(t)}, f)
	e := srv.newEngine(lmtp)
	e.Backend = gosmtp.BackendFunc(func(c *gosmtp.Conn) (gosmtp.Session, error) {
		var err error
		h.session, err = srv.newSession(c, lmtp)
		return h, err
	})
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = e.Serve(&lone{l, c})
		}
	}()
	return srv, raw.Addr().String()
}
