package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
)

func TestNetSMTPDelivers(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{}, false)
	body := "Subject: x\r\n\r\n.\r\n..\r\n.leading\r\n中文\r\n"
	err := netsmtp.SendMail(addr, nil, "a@remote.test", []string{"u1@example.test", "u2@example.test"}, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"u1", "u2"} {
		got, trace := f.inbox(t, u)
		if !slices.Equal(got, []string{body}) {
			t.Fatalf("%s has %q", u, got)
		}
		if strings.Contains(trace, " for ") || !strings.Contains(trace, " with UTF8SMTP\r\n") || strings.Contains(trace, "u1@") {
			t.Fatalf("trace %q", trace)
		}
	}
}

func TestConversation(t *testing.T) {
	type step struct{ say, want string }
	hello := step{"EHLO c.remote.test", "250"}
	from, rcpt := step{"MAIL FROM:<a@remote.test>", "250"}, step{"RCPT TO:<u1@example.test>", "250"}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"unknown user", []step{hello, from, {"RCPT TO:<nobody@example.test>", "550 5.1.1"}, {"DATA", "502"}}},
		{"relay", []step{hello, from, {"RCPT TO:<x@elsewhere.test>", "550 5.7.1"}}},
		{"relay by percent", []step{hello, from, {"RCPT TO:<x%elsewhere.test@example.test>", "550 5.1.1"}}},
		{"relay by route", []step{hello, from, {"RCPT TO:<@example.test:x@elsewhere.test>", "550 5.7.1"}}},
		{"relay by quoting", []step{hello, from, {`RCPT TO:<"x@elsewhere.test"@example.test>`, "550 5.1.1"}}},
		{"nested mail", []step{hello, from, rcpt, {"MAIL FROM:<b@remote.test>", "503"}, {"RSET", "250"}, from}},
		{"second ehlo resets", []step{hello, from, rcpt, hello, {"DATA", "502"}}},
		{"no mail", []step{hello, rcpt502("RCPT TO:<u1@example.test>")}},
		{"no greeting", []step{{"MAIL FROM:<a@remote.test>", "502"}}},
		{"bad paths", []step{hello, {"MAIL FROM:a b", "501"}, {"MAIL FROM:<a@>", "501"}, {"MAIL FROM:<@x>", "501"},
			{"MAIL FROM:<a@b..c>", "501"}, {"MAIL FROM:<a\x01@b.test>", "501"}, from, {"RCPT TO:<u1>", "501"}, {"RCPT TO:", "501"},
			{"RCPT TO:<u1@exa mple.test>", "501"}}},
		{"null sender", []step{hello, {"MAIL FROM:<>", "250"}, rcpt}},
		{"too big declared", []step{hello, {"MAIL FROM:<a@remote.test> SIZE=2000000", "552 5.3.4"}}},
		{"utf8 needs saying", []step{hello, {"MAIL FROM:<é@remote.test>", "553 5.6.7"},
			{"MAIL FROM:<é@remote.test> SMTPUTF8", "250"}, {"RCPT TO:<ü@example.test>", "550 5.1.1"}}},
		{"no auth", []step{hello, {"AUTH PLAIN AHUAcA==", "523"}}},
		{"lhlo is not smtp", []step{{"LHLO c", "500"}}},
		{"options we do not have", []step{hello, {"MAIL FROM:<a@remote.test> BODY=BINARYMIME", "504"},
			{"MAIL FROM:<a@remote.test> RET=FULL", "504"}, {"VRFY u1", "252"}, {"EXPN u1", "502"}, {"NOOP", "250"}, {"QUIT", "221"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := start(t, newFake(), Config{}, false)
			p := connect(t, addr)
			for _, s := range c.steps {
				p.do(s.say, s.want)
			}
		})
	}
}

func rcpt502(say string) struct{ say, want string } { return struct{ say, want string }{say, "502"} }

func TestCapabilities(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{TLS: testTLS(t)}, false)
	c, err := netsmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []string{"STARTTLS", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "SIZE"} {
		if ok, _ := c.Extension(want); !ok {
			t.Errorf("%s is not offered", want)
		}
	}
	if _, size := c.Extension("SIZE"); size != fmt.Sprint(1<<20-traceReserve) {
		t.Errorf("SIZE %s", size)
	}
	for _, not := range []string{"AUTH", "BINARYMIME", "DSN", "DELIVERBY", "MT-PRIORITY"} {
		if ok, _ := c.Extension(not); ok {
			t.Errorf("%s is offered", not)
		}
	}
}

func TestSTARTTLS(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{TLS: testTLS(t)}, false)
	c, err := netsmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(trusting()); err != nil {
		t.Fatal(err)
	}
	if ok, _ := c.Extension("AUTH"); ok {
		t.Error("AUTH is offered")
	}
	send(t, c, "u1@example.test", "body\r\n")
	got, trace := f.inbox(t, "u1")
	if !slices.Equal(got, []string{"body\r\n"}) || !strings.Contains(trace, " with UTF8SMTPS tls TLS_") ||
		!strings.Contains(trace, "for <u1@example.test>;") || !strings.Contains(trace, "([127.0.0.1])") {
		t.Fatalf("%q, trace %q", got, trace)
	}
}

// TestNothingBehindSTARTTLS: what a man in the middle adds in the clear behind STARTTLS must not be obeyed under TLS.
func TestNothingBehindSTARTTLS(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{TLS: testTLS(t)}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.send("STARTTLS\r\nMAIL FROM:<evil@remote.test>\r\n")
	p.expect("220")
	_ = p.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	line, err := p.in.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "250") {
		t.Fatalf("obeyed: %q", line)
	}
}

func send(t *testing.T, c *netsmtp.Client, to, body string) {
	t.Helper()
	if err := c.Mail("a@remote.test"); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneCopyEach(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.send("EHLO c\r\nMAIL FROM:<a@remote.test>\r\nRCPT TO:<u1@example.test>\r\nRCPT TO:<U1@Example.TEST>\r\n" +
		"RCPT TO:<alias@example.test>\r\nDATA\r\n")
	for _, code := range []string{"250", "250", "250", "250", "250", "354"} {
		p.expect(code)
	}
	line := p.do("x\r\n.", "250 2.0.0 OK ")
	got, trace := f.inbox(t, "u1")
	if !slices.Equal(got, []string{"x\r\n"}) {
		t.Fatalf("%q", got)
	}
	if id := strings.TrimPrefix(line, "250 2.0.0 OK "); !strings.Contains(trace, "id "+id) {
		t.Fatalf("reply %q, trace %q", line, trace)
	}
}

// Every server has a postmaster, who is of the domain that the server's name is in; where nobody can be asked he is not refused for good.
func TestPostmaster(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{Hostname: "mx1.mail.example.test"}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<Postmaster>", "250")
	p.do("DATA", "354")
	p.do("x\r\n.", "250")
	f.has(t, "u1", 1)
	_, addr = start(t, f, Config{Hostname: "elsewhere"}, false)
	p = connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<postmaster>", "550")
	f.resolve = client.ErrUnavailable
	p.do("RCPT TO:<POSTMASTER>", "451")
}

func TestTooManyRecipients(t *testing.T) {
	_, addr := start(t, newFake(), Config{Limits: Limits{MaxRecipients: 2}}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<a@remote.test>", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("RCPT TO:<u2@example.test>", "250")
	p.do("RCPT TO:<u3@example.test>", "452 4.5.3")
	p.do("DATA", "354")
	p.do("x\r\n.", "250")
}

// TestBytes sends bodies that are malformed or look like an end, by DATA with RFC 5321 stuffing and by BDAT, and reads them back.
func TestBytes(t *testing.T) {
	long := strings.Repeat("long line ", 50_000)
	for name, body := range map[string]string{
		"empty": "", "one line": "x\r\n", "no header": "\r\n\r\nx\r\n", "nul": "a\x00b\r\n", "8 bit": "\xff\xfe\r\n",
		"bare LF dot LF":     "a\n.\nMAIL FROM:<evil@remote.test>\r\n",
		"bare LF dot CRLF":   "a\n.\r\nMAIL FROM:<evil@remote.test>\r\n",
		"bare CR dot CR":     "a\r.\rb\r\n",
		"CRLF dot LF":        "a\r\n.\nb\r\n",
		"CR CR LF":           "a\r\r\nb\r\n",
		"CR CR LF dot":       "a\r\r\n.b\r\n..\r\n.\r\n",
		"CR CR LF at end":    "a\r\r\n",
		"lone CR CR LF":      "\r\r\n",
		"many CRs":           "a\r\r\r\r\n.\r\r\r\n.\r\r\n\r\r\n",
		"dots":               ".\r\n..\r\n...\r\n.a\r\n",
		"very long line":     long + "\r\n",
		"CR across buffers":  strings.Repeat("x", copyBuffer-2) + "\r\r\n.\r\n",
		"dot across buffers": strings.Repeat("x", copyBuffer-3) + "\r\r\n.x\r\n",
	} {
		for _, how := range []string{"DATA", "BDAT"} {
			t.Run(name+" by "+how, func(t *testing.T) {
				t.Parallel()
				roundTrip(t, body, how)
			})
		}
	}
}

// roundTrip runs in synctest's time, over pipes, so that waits cost nothing.
func roundTrip(t *testing.T, body, how string) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		pipes := newPipes()
		serveOn(t, f, Config{}, false, pipes)
		p := newPeer(t, pipes.dial())
		defer p.Close()
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<a@remote.test>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		if how == "DATA" {
			p.do("DATA", "354")
			p.send(stuff(body) + ".\r\n")
		} else {
			half := len(body) / 2
			p.send(fmt.Sprintf("BDAT %d\r\n%s", half, body[:half]))
			p.expect("250")
			p.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body)-half, body[half:]))
		}
		p.expect("250 2.0.0 OK")
		got, _ := f.inbox(t, "u1")
		if !slices.Equal(got, []string{body}) {
			t.Fatalf("stored %.200q of %.200q", got, body)
		}
		if f.open != 0 {
			t.Fatalf("%d drafts left open", f.open)
		}
	})
}

// stuff doubles dots as RFC 5321 section 4.5.2 asks, for a body that is empty or ends with CRLF.
func stuff(body string) string {
	body = strings.ReplaceAll(body, "\r\n.", "\r\n..")
	if strings.HasPrefix(body, ".") {
		body = "." + body
	}
	return body
}

func FuzzBytes(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 0, 0, 1, 2, 0, 1})
	f.Fuzz(func(t *testing.T, code []byte) {
		var b strings.Builder // mostly line ends and dots
		for _, c := range code[:min(len(code), 200)] {
			b.WriteByte("\r\n.x"[c%4])
		}
		roundTrip(t, b.String()+"\r\n", "DATA")
	})
}

func TestConnectionEndsAfterAnEndThatTheEngineMissed(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		t.Run(fmt.Sprint("lmtp ", lmtp), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				pipes := newPipes()
				serveOn(t, f, Config{}, lmtp, pipes)
				p := newPeer(t, pipes.dial())
				defer p.Close()
				if lmtp {
					p.do("LHLO c", "250")
				} else {
					p.do("EHLO c", "250")
				}
				p.do("MAIL FROM:<a@remote.test>", "250")
				p.do("RCPT TO:<u1@example.test>", "250")
				p.do("RCPT TO:<u2@example.test>", "250")
				p.do("DATA", "354")
				p.send("x\r\r\n.\r\n")
				p.expect("250")
				if lmtp {
					p.expect("250 2.0.0 <u2@example.test>")
				}
				p.expect("421") // RFC 5321 section 3.8: no connection ends without it
				if line, err := p.in.ReadString('\n'); err == nil {
					t.Fatalf("then %q", line)
				}
			})
		})
	}
}

func TestFailures(t *testing.T) {
	only := func(id uint64, err error) func(client.Account) error {
		return func(a client.Account) error {
			if a.ID == id {
				return err
			}
			return nil
		}
	}
	all := func(err error) func(client.Account) error { return func(client.Account) error { return err } }
	later := fmt.Errorf("shard 3: %w", client.ErrUnavailable)
	for _, c := range []struct {
		name    string
		deliver func(client.Account) error
		smtp    string
		lmtp    [2]string
	}{
		{"all well", nil, "250", [2]string{"250", "250"}},
		{"unavailable", all(later), "451 4.3.0", [2]string{"451", "451"}},
		{"first unavailable", only(1, later), "451", [2]string{"451", "250"}},
		{"second unavailable", only(2, later), "451", [2]string{"250", "451"}},
		{"gone since RCPT", all(client.ErrNoUser), "550 5.1.1", [2]string{"550", "550"}},
		{"one gone", only(2, client.ErrNoUser), "451", [2]string{"250", "550"}},
		{"full", all(client.ErrLimit), "452 4.2.2", [2]string{"452", "452"}},
		{"over quota", only(2, &client.QuotaError{}), "451", [2]string{"250", "452 4.2.2"}},
		{"all over quota for good", all(&client.QuotaError{Permanent: true}), "552 5.2.2", [2]string{"552 5.2.2", "552 5.2.2"}},
		{"unknown trouble", all(errors.New("disk on fire")), "451 4.3.0", [2]string{"451", "451"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.deliver = c.deliver
			_, addr := start(t, f, Config{}, false)
			p := connect(t, addr)
			p.do("EHLO c", "250")
			p.do("MAIL FROM:<>", "250")
			p.do("RCPT TO:<u1@example.test>", "250")
			p.do("RCPT TO:<u2@example.test>", "250")
			p.do("DATA", "354")
			if line := p.do("x\r\n.", c.smtp); strings.Contains(line, "fire") {
				t.Errorf("tells the world: %q", line)
			}
			_, addr = start(t, f, Config{}, true)
			p = connect(t, addr)
			p.do("LHLO c", "250")
			p.do("MAIL FROM:<>", "250")
			p.do("RCPT TO:<u2@example.test>", "250")
			p.do("RCPT TO:<u1@example.test>", "250")
			p.do("RCPT TO:<U2@example.test>", "250")
			p.do("DATA", "354")
			p.send("x\r\n.\r\n")
			p.expect(c.lmtp[1])
			p.expect(c.lmtp[0])
			p.expect(c.lmtp[1])
			p.do("NOOP", "250")
		})
	}
}

func TestResolveUnavailable(t *testing.T) {
	f := newFake()
	f.resolve = client.ErrUnavailable
	_, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<u1@example.test>", "451 4.3.0")
}

func TestTooBig(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		f := newFake()
		_, addr := start(t, f, Config{}, lmtp)
		p := connect(t, addr)
		p.do(map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp], "250")
		for range 2 { // and the connection goes on
			p.do("MAIL FROM:<>", "250")
			p.do("RCPT TO:<u1@example.test>", "250")
			p.do("DATA", "354")
			p.send(strings.Repeat(strings.Repeat("x", 78)+"\r\n", (1<<20)/80+1))
			p.do(".", "552 5.3.4")
		}
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.send("BDAT 1048576 LAST\r\n" + strings.Repeat("x", commandBudget/2))
		p.expect("552 5.3.4")
		if f.open != 0 {
			t.Fatalf("%d drafts left open", f.open)
		}
	}
}

func TestEndlessMessageIsCut(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<>", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("DATA", "354")
	block := []byte(strings.Repeat("x", 1<<16))
	for range 1000 { // 64 MB of a limit of 1
		if _, err := p.Write(block); err != nil {
			return
		}
	}
	t.Fatal("still reading")
}

func TestLoop(t *testing.T) {
	f := newFake()
	_, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	for hops, want := range map[int]string{maxHops: "250", maxHops + 1: "554 5.4.6"} {
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.do("DATA", "354")
		p.send(strings.Repeat("rEceived: from x\r\n\tReceived: folded\r\n", hops) +
			"\r\n" + strings.Repeat("Received: in the body\r\n", 100))
		p.do(".", want)
	}
}

func TestAbortedTransfersLeaveNothing(t *testing.T) {
	f := newFake()
	srv, addr := start(t, f, Config{Limits: Limits{MaxTransactions: 1}}, false)
	for _, how := range []string{"DATA\r\nhalf a mess", "BDAT 100\r\nhalf a mess", "BDAT 4\r\nhalfRSET\r\n", "BDAT 0\r\nRSET\r\n", ""} {
		p := connect(t, addr)
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.send(how)
		_ = p.Close()
		eventually(t, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.open == 0 && len(srv.slots) == 0
		})
	}
	if got, _ := f.inbox(t, "u1"); got != nil {
		t.Fatalf("%q", got)
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened")
		}
	}
}

func TestTransactionsAtOnce(t *testing.T) {
	_, addr := start(t, newFake(), Config{Limits: Limits{MaxTransactions: 1}}, false)
	first, second := connect(t, addr), connect(t, addr)
	first.do("EHLO c", "250")
	second.do("EHLO c", "250")
	first.do("MAIL FROM:<>", "250")
	second.do("MAIL FROM:<>", "451 4.3.2")
	first.do("RSET", "250")
	second.do("MAIL FROM:<>", "250")
}

func TestStrikes(t *testing.T) {
	for name, lines := range map[string]string{
		"harvesting": strings.Repeat("RCPT TO:<nobody@example.test>\r\n", maxStrikes+10),
		"resetting":  strings.Repeat("RSET\r\nMAIL FROM:<>\r\n", maxStrikes+10),
		"chunk, then resetting": "RCPT TO:<u1@example.test>\r\nBDAT 4\r\nhalfRSET\r\n" +
			strings.Repeat("MAIL FROM:<>\r\nRSET\r\n", maxStrikes+10),
		"noise":               strings.Repeat("XYZZY\r\n", 10),
		"no message":          strings.Repeat("NOOP\r\n", commandBudget),
		"endless":             strings.Repeat("x", 4*commandBudget),
		"chunk, then noise":   "RCPT TO:<u1@example.test>\r\nBDAT 1\r\nx" + strings.Repeat("NOOP\r\n", commandBudget),
		"chunk, then endless": "RCPT TO:<u1@example.test>\r\nBDAT 1\r\nx" + strings.Repeat("x", 4*commandBudget),
		"refused at the last strike, then endless": strings.Repeat("RSET\r\n", maxStrikes-1) + "MAIL FROM:<>\r\nRCPT TO:<u1@example.test>\r\nDATA\r\n" +
			strings.Repeat("Received: x\r\n", maxHops+1) + "\r\n.\r\n" + strings.Repeat("x", 4*commandBudget),
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := start(t, newFake(), Config{}, false)
			p := connect(t, addr)
			p.do("EHLO c", "250")
			p.do("MAIL FROM:<>", "250")
			go func() { _, _ = io.Copy(p.Conn, strings.NewReader(lines)) }()
			_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
			// A reset by the peer is an end too: it closed with our input unread.
			if _, err := io.Copy(io.Discard, p.in); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Fatal("connection goes on")
			}
		})
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestManyMessagesClearStrikes(t *testing.T) {
	_, addr := start(t, newFake(), Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	for range 2 * maxStrikes {
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<nobody@example.test>", "550")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.do("DATA", "354")
		p.do("x\r\n.", "250")
		p.do("RSET", "250")
	}
}

func TestIdleAndDripping(t *testing.T) {
	for _, data := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			pipes := newPipes()
			serveOn(t, f, Config{}, false, pipes)
			p := newPeer(t, pipes.dial())
			defer p.Close()
			p.do("EHLO c", "250")
			if data {
				p.do("MAIL FROM:<>", "250")
				p.do("RCPT TO:<u1@example.test>", "250")
				p.do("DATA", "354")
			}
			start := time.Now()
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for p.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
					if _, err := p.Write([]byte("N")); err != nil {
						return
					}
					time.Sleep(10 * time.Second)
				}
			}()
			said, _ := io.ReadAll(p.in) // go-smtp first takes what it has for a command
			if took := time.Since(start); took < idle || took > idle+30*time.Second || !strings.Contains(string(said), "421 4.4.2") {
				t.Errorf("ended after %v with %q", took, said)
			}
			_ = p.Close()
			<-stop
		})
	}
}

func TestLongUploadOnASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		pipes := newPipes()
		serveOn(t, f, Config{}, false, pipes)
		p := newPeer(t, pipes.dial())
		defer p.Close()
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.do("DATA", "354")
		line := strings.Repeat("x", 98) + "\r\n"
		for range 1000 { // 200 B/s for more than eight minutes, which is longer than idle
			p.send(line)
			time.Sleep(500 * time.Millisecond)
		}
		p.do(".", "250")
		if got, _ := f.inbox(t, "u1"); !slices.Equal(got, []string{strings.Repeat(line, 1000)}) {
			t.Fatal("changed")
		}
	})
}

func TestShutdown(t *testing.T) {
	f := newFake()
	srv, addr := start(t, f, Config{}, false)
	idler, sender := connect(t, addr), connect(t, addr)
	idler.do("EHLO c", "250")
	sender.do("EHLO c", "250")
	sender.do("MAIL FROM:<>", "250")
	sender.do("RCPT TO:<u1@example.test>", "250")
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	idler.expect("421 4.3.2 this server stops")
	sender.do("DATA", "354")
	sender.do("x\r\n.", "250")
	sender.expect("421 4.3.2 this server stops")
	wg.Wait()
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Fatal("still listening")
	}
}

func TestLMTPClient(t *testing.T) {
	f := newFake()
	f.deliver = func(a client.Account) error {
		if a.ID == 2 {
			return client.ErrUnavailable
		}
		return nil
	}
	_, addr := start(t, f, Config{}, true)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := gosmtp.NewClientLMTP(conn)
	defer c.Close()
	if err := c.Mail("a@remote.test", nil); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"u1@example.test", "u2@example.test", "u3@example.test"} {
		if err := c.Rcpt(to, nil); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "x\r\n"); err != nil {
		t.Fatal(err)
	}
	_, err = w.CloseWithLMTPResponse()
	var failed gosmtp.LMTPDataError
	if !errors.As(err, &failed) || len(failed) != 1 || failed["u2@example.test"] == nil {
		t.Fatalf("%v", err)
	}
	if got, trace := f.inbox(t, "u3"); !slices.Equal(got, []string{"x\r\n"}) || !strings.Contains(trace, " with LMTP") {
		t.Fatalf("%q, %q", got, trace)
	}
}

func TestEngineLog(t *testing.T) {
	var out strings.Builder
	l := engineLog{slog.New(slog.NewTextHandler(&out, nil))}
	l.Printf("error handling %v", "x")
	l.Println("panic serving")
	if !strings.Contains(out.String(), "level=ERROR") || strings.Contains(out.String(), "handling") {
		t.Fatal(out.String())
	}
}
