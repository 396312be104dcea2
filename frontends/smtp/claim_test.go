package smtp

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
	"hongyan/frontends/listen"
)

// quiet is a session that nobody talks to, in a transaction.
func quiet(t *testing.T, f *fake, lmtp bool) *session {
	t.Helper()
	pipes := newPipes()
	l := listen.Wrap(pipes, listen.Config{})
	go pipes.dial()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), l.Close() })
	s := newServer(Config{Hostname: "mx.example.test", Log: slog.New(slog.DiscardHandler)}, f)
	return &session{srv: s, lmtp: lmtp, engine: s.newEngine(lmtp), guard: c.(*listen.Conn), tx: forOne()}
}

func forOne() *transaction {
	tx := &transaction{id: "1", free: func() {}}
	tx.add("u1@example.test", client.Account{ID: 1, Address: "u1@example.test"})
	return tx
}

// statuses are the replies that a session gives by LMTP.
type statuses map[string]error

func (s statuses) SetStatus(to string, err error) { s[to] = err }

// TestResetBehindTheClaim: whoever has the transaction receives its message, without a moment in between that a Reset would not know of.
func TestResetBehindTheClaim(t *testing.T) {
	s := quiet(t, newFake(), false)
	if _, refusal := s.claim(); refusal != nil {
		t.Fatal(refusal)
	}
	s.Reset()
	if !s.brokeOff() {
		t.Fatal("not taken for broken off")
	}
}

// TestChunksBehindTheirReset: go-smtp's goroutine for a message in chunks was late, and a RSET came before it.
func TestChunksBehindTheirReset(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		take := func(s *session, r io.Reader) error {
			if lmtp {
				return s.LMTPData(r, statuses{})
			}
			return s.Data(r)
		}
		positive := func(err error) bool {
			var r *gosmtp.SMTPError
			return !errors.As(err, &r) || r.Code/100 == 2
		}
		gone, w := io.Pipe()
		_ = w.CloseWithError(gosmtp.ErrDataReset) // returns nil always

		f := newFake()
		s := quiet(t, f, lmtp)
		s.Reset()
		if err := take(s, gone); err != errNoTransaction || !s.brokeOff() {
			t.Fatalf("lmtp %v, without a transaction: %v, broken %v", lmtp, err, s.brokeOff())
		}

		s = quiet(t, f, lmtp)
		s.Reset()
		s.tx = forOne() // the next MAIL was faster as well
		if err := take(s, gone); positive(err) {
			t.Fatalf("lmtp %v, in the next transaction: %v", lmtp, err)
		}
		if err := s.Rcpt("u2@example.test", nil); positive(err) {
			t.Fatalf("lmtp %v, recipient of a transaction that was claimed: %v", lmtp, err)
		}
		whole, w := io.Pipe()
		_ = w.Close() // returns nil always
		if err := take(s, whole); err != errBroken {
			t.Fatalf("lmtp %v, the next message: %v", lmtp, err)
		}
		s.Reset()
		if _, err := s.guard.Read(make([]byte, 1)); !errors.Is(err, listen.ErrOverBudget) {
			t.Fatalf("lmtp %v, the connection goes on: %v", lmtp, err)
		}
		if got, _ := f.inbox(t, "u1"); got != nil || f.open != 0 {
			t.Fatalf("lmtp %v: %q delivered, %d drafts left open", lmtp, got, f.open)
		}
	}
}
