package smtp

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
)

// TestMessageBehindOneThatWasBrokenOff has the end of a message that was broken off between chunks come late: what it came to must not be taken for the answer
// to the next message.
func TestMessageBehindOneThatWasBrokenOff(t *testing.T) {
	for name, breaks := range map[string]struct{ say, want string }{
		"reset":         {"RSET\r\n", "250"},
		"greeted again": {"%sHLO c\r\n", "250"},
		"too big":       {fmt.Sprintf("BDAT %d LAST\r\n%s", 100<<10, strings.Repeat("x", 100<<10)), "552"},
	} {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lmtp %v", name, lmtp), func(t *testing.T) {
				f := newFake()
				f.limit = 100 << 10
				f.deliver = func(client.Account) error { return client.ErrUnavailable }
				late := make(chan struct{})
				f.closing = func(d *fakeDraft) {
					if bytes.HasSuffix(d.Bytes(), []byte("half")) {
						<-late
					}
				}
				_, addr := start(t, f, Config{}, lmtp)
				hello := "E"
				if lmtp {
					hello = "L"
				}
				p := connect(t, addr)
				p.do(hello+"HLO c", "250")
				p.do("MAIL FROM:<>", "250")
				p.do("RCPT TO:<u1@example.test>", "250")
				p.send("BDAT 4\r\nhalf")
				p.expect("250")
				p.send(strings.Replace(breaks.say, "%s", hello, 1))
				p.expect(breaks.want)
				p.do("MAIL FROM:<>", "421 4.3.0")
				close(late)
				if rest, err := io.ReadAll(p.in); err != nil || len(rest) > 0 {
					t.Fatalf("goes on: %q, %v", rest, err)
				}
			})
		}
	}
}

// TestRestOfARefusedMessage: of a message that is refused the connection skips so much, and is over behind that. What follows must not be taken for commands: whoever
// wrote the message would speak in the name of the server that relays it.
func TestRestOfARefusedMessage(t *testing.T) {
	smuggled := "MAIL FROM:<x@remote.test>\r\nRCPT TO:<u9@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
	for name, begin := range map[string]string{
		"chunk":                    "RCPT TO:<u1@example.test>\r\nBDAT 100000000 LAST\r\n",
		"second chunk":             "RCPT TO:<u1@example.test>\r\nBDAT 1\r\nxBDAT 100000000 LAST\r\n",
		"chunk without recipients": "BDAT 100000000 LAST\r\n",
		"data":                     "RCPT TO:<u1@example.test>\r\nDATA\r\n",
	} {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lmtp %v", name, lmtp), func(t *testing.T) {
				f := newFake()
				_, addr := start(t, f, Config{}, lmtp)
				p := connect(t, addr)
				p.do(map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp], "250")
				p.do("MAIL FROM:<>", "250")
				skipped := commandBudget
				switch name {
				case "data":
					skipped = 2*int(f.limit) + dataSlack
				case "second chunk":
					skipped = 2 * commandBudget // what the first is good for may be granted late
				}
				go func() {
					_, _ = io.WriteString(p.Conn, begin+strings.Repeat("NOOP\r\n", skipped/6+5000)+smuggled)
				}()
				_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
				// A reset by the peer is an end too: it closed with our input unread.
				if _, err := io.Copy(io.Discard, p.in); isTimeout(err) {
					t.Fatal("connection goes on")
				}
				if got, _ := f.inbox(t, "u9"); got != nil {
					t.Fatalf("smuggled: %q", got)
				}
			})
		}
	}
}

// TestChunkThatIsCutShort: a connection that ends inside the last chunk brings no message, one that ends behind it does. Under TLS it ends with a close_notify, in a record
// of its own or in one segment with the chunk.
func TestChunkThatIsCutShort(t *testing.T) {
	type end struct {
		name   string
		open   func(t *testing.T, f *fake, lmtp bool) *peer
		joined bool // what is sent and its end arrive together
	}
	ends := []end{{"plain", plain, false}, {"starttls", startTLS, false}, {"starttls", startTLS, true}, {"implicit", implicitTLS, false}, {"implicit", implicitTLS, true}}
	for _, e := range ends {
		for _, lmtp := range []bool{false, true} {
			for chunk, want := range map[string]string{"BDAT 5 LAST\r\nhalf": "451 4.4.2", "BDAT 4 LAST\r\nfull": "250", "BDAT 4\r\nfullBDAT 1 LAST\r\n": "451 4.4.2", "BDAT 4\r\nfullBDAT 0 LAST\r\n": "250"} {
				t.Run(fmt.Sprintf("%s, lmtp %v, joined %v, %.12q", e.name, lmtp, e.joined, chunk), func(t *testing.T) {
					f := newFake()
					p := e.open(t, f, lmtp)
					p.do(map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp], "250")
					p.do("MAIL FROM:<>", "250")
					p.do("RCPT TO:<u1@example.test>", "250")
					if e.joined {
						p.hold()
					}
					p.send(chunk)
					if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if e.joined {
						p.release()
					}
					if strings.Count(chunk, "BDAT") > 1 {
						p.expect("250")
					}
					p.expect(want)
					if got, _ := f.inbox(t, "u1"); (got != nil) != (want == "250") {
						t.Errorf("%q", got)
					}
				})
			}
		}
	}
}

// TestCommandsBehindChunksUnderTLS: what a client sends together with the last chunk is obeyed.
func TestCommandsBehindChunksUnderTLS(t *testing.T) {
	f := newFake()
	p := startTLS(t, f, false)
	p.do("EHLO c", "250")
	one := "MAIL FROM:<>\r\nRCPT TO:<u1@example.test>\r\nBDAT 4\r\nhalfBDAT 4 LAST\r\nrestNOOP\r\n"
	p.send(one + one + "QUIT\r\n")
	for range 2 {
		for range 5 {
			p.expect("250")
		}
	}
	p.expect("221")
	if got, _ := f.inbox(t, "u1"); !slices.Equal(got, []string{"halfrest", "halfrest"}) {
		t.Fatalf("%q", got)
	}
}

// TestStalledChunk: a sender whose link stalls within a chunk hears that it may try again, as with DATA.
func TestStalledChunk(t *testing.T) {
	for _, chunk := range []string{"BDAT 5 LAST\r\nhalf", "BDAT 5\r\nhalf"} {
		for _, secure := range []bool{false, true} {
			for _, lmtp := range []bool{false, true} {
				t.Run(fmt.Sprintf("%.12q, tls %v, lmtp %v", chunk, secure, lmtp), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f := newFake()
						pipes := newPipes()
						cfg := testTLS(t)
						cfg.SessionTicketsDisabled = true // pipes have no room for what nobody waits for
						serveOn(t, f, Config{TLS: cfg}, lmtp, pipes)
						p := newPeer(t, pipes.dial())
						defer p.Close()
						if secure {
							p.do("STARTTLS", "220")
							p = over(t, p.Conn)
						}
						p.do(map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp], "250")
						p.do("MAIL FROM:<>", "250")
						p.do("RCPT TO:<u1@example.test>", "250")
						p.do("RCPT TO:<u2@example.test>", "250")
						p.send(chunk)
						p.expect("451 4.4.2")
						p.expect("421")
						if line, err := p.in.ReadString('\n'); err == nil {
							t.Fatalf("then %q", line)
						}
						synctest.Wait()
						if f.open != 0 || f.messages["u1@example.test"] != nil {
							t.Fatalf("%d drafts left open, %q", f.open, f.messages)
						}
					})
				})
			}
		}
	}
}

// TestChunkThatTakesTooLong: what is given up while chunks still come is for later too.
func TestChunkThatTakesTooLong(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.limit = 4 << 20
			pipes := newPipes()
			serveOn(t, f, Config{}, lmtp, pipes)
			p := newPeer(t, pipes.dial())
			defer p.Close()
			p.do(map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp], "250")
			p.do("MAIL FROM:<>", "250")
			p.do("RCPT TO:<u1@example.test>", "250")
			p.send("BDAT 4000000 LAST\r\n")
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for begun := time.Now(); time.Since(begun) < maxReceive+time.Minute; time.Sleep(10 * time.Second) {
					if _, err := p.Write(make([]byte, 2000)); err != nil {
						return
					}
				}
			}()
			p.expect("451 4.4.2")
			p.expect("421")
			_ = p.Close()
			<-stopped
		})
	}
}

// TestDraftThatTakesNothing: a refusal at a message's first byte is answered at its last, for each recipient.
func TestDraftThatTakesNothing(t *testing.T) {
	f := newFake()
	f.limit = 10
	for _, message := range []string{"BDAT 1 LAST\r\nx", "DATA\r\n\r\n.\r\n"} {
		_, addr := start(t, f, Config{}, true)
		p := connect(t, addr)
		p.do("LHLO c", "250")
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.do("RCPT TO:<u2@example.test>", "250")
		p.send(message)
		if message[0] == 'D' {
			p.expect("354")
		}
		p.expect("552 5.3.4 <u1@example.test>")
		p.expect("552 5.3.4 <u2@example.test>")
		p.do("NOOP", "250")
	}
}

// TestLargestMessage: a message of the size that is announced is taken, whichever way it comes, and none that is larger.
func TestLargestMessage(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		f := newFake()
		most := int(f.limit) - traceReserve
		p := plain(t, f, lmtp)
		hello := map[bool]string{false: "EHLO c", true: "LHLO c"}[lmtp]
		for range 2 {
			for size, want := range map[int]string{most: "250", most + 1: "552 5.3.4"} {
				p.do(hello, "250")
				p.do(fmt.Sprintf("MAIL FROM:<> SIZE=%d", size), want)
				p.do("RSET", "250")
				message := strings.Repeat("x", size-2) + "\r\n"
				for _, how := range []string{"DATA", "BDAT", "BDAT in two"} {
					p.do("MAIL FROM:<>", "250")
					p.do("RCPT TO:<u1@example.test>", "250")
					switch how {
					case "DATA":
						p.do("DATA", "354")
						p.send(message + ".\r\n")
					case "BDAT":
						p.send(fmt.Sprintf("BDAT %d LAST\r\n%s", size, message))
					default:
						p.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 2 LAST\r\n\r\n", size-2, message[:size-2]))
						p.expect("250")
					}
					p.expect(want)
				}
			}
			p.do("NOOP", "250")
		}
		if got, _ := f.inbox(t, "u1"); len(got) != 6 || len(got[0]) != most {
			t.Errorf("lmtp %v: %d messages", lmtp, len(got))
		}
	}
}
