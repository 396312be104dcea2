package smtp

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
)

// TestBeforeTheGreeting: who has not even said EHLO is granted no more than who has.
func TestBeforeTheGreeting(t *testing.T) {
	for name, lines := range map[string]string{
		"endless": strings.Repeat("x", 4*commandBudget),
		"noop":    strings.Repeat("NOOP\r\n", commandBudget),
		"reset":   strings.Repeat("RSET\r\n", commandBudget),
	} {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lmtp %v", name, lmtp), func(t *testing.T) {
				_, addr := start(t, newFake(), Config{}, lmtp)
				p := connect(t, addr)
				go func() { _, _ = io.Copy(p.Conn, strings.NewReader(lines)) }()
				_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
				// A reset by the peer is an end too: it closed with our input unread.
				if _, err := io.Copy(io.Discard, p.in); isTimeout(err) {
					t.Fatal("connection goes on")
				}
			})
		}
	}
}

// TestGreetingAfterNoise: EHLO grants all of the input again.
func TestGreetingAfterNoise(t *testing.T) {
	_, addr := start(t, newFake(), Config{}, false)
	p := connect(t, addr)
	for range 2 {
		p.send(strings.Repeat("NOOP\r\n", commandBudget*2/3/6))
		for range commandBudget * 2 / 3 / 6 {
			p.expect("250")
		}
		p.do("EHLO c", "250")
	}
}

// TestHeldTransactions: however steadily a client names recipients, it holds a transaction for so long only, and then loses it to others.
func TestHeldTransactions(t *testing.T) {
	for limit, most := range map[int]time.Duration{1: envelopeTimeBusy, 2: envelopeTime} {
		synctest.Test(t, func(t *testing.T) {
			pipes := newPipes()
			srv := serveOn(t, newFake(), Config{Limits: Limits{MaxTransactions: limit}}, false, pipes)
			p := newPeer(t, pipes.dial())
			defer p.Close()
			p.do("EHLO c", "250")
			p.do("MAIL FROM:<>", "250")
			begun := time.Now()
			for {
				time.Sleep(35 * time.Second)
				if time.Since(begun) > most {
					break
				}
				p.do("RCPT TO:<u1@example.test>", "250")
			}
			p.expect("421 4.4.2")
			synctest.Wait()
			if took := time.Since(begun); took > most+time.Minute || len(srv.slots) != 0 {
				t.Fatalf("ended after %v, holds %d", took, len(srv.slots))
			}
		})
	}
}

// TestHeldBetweenChunks: what a client says between two chunks of a message buys it no more time than that many commands do anywhere.
func TestHeldBetweenChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := newPipes()
		srv := serveOn(t, newFake(), Config{}, false, pipes)
		p := newPeer(t, pipes.dial())
		defer p.Close()
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<>", "250")
		p.do("RCPT TO:<u1@example.test>", "250")
		p.send("BDAT 1\r\nx")
		p.expect("250")
		go func() { _, _ = io.Copy(io.Discard, p.in) }() // ends with the connection
		most := commandBudget*time.Second/minRate + idle
		for begun := time.Now(); time.Since(begun) < most; time.Sleep(20 * time.Second) {
			if _, err := io.WriteString(p.Conn, strings.Repeat("NOOP\r\n", 20*minRate/6+1)); err != nil {
				break
			}
		}
		synctest.Wait()
		if len(srv.slots) != 0 {
			t.Fatal("still held")
		}
	})
}

// TestEnvelopeTimeIsTheClients: what we need ourselves is not taken from it, and a message that has begun in time may take longer.
func TestEnvelopeTimeIsTheClients(t *testing.T) {
	for _, how := range []string{"DATA\r\n", "BDAT 80000 LAST\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.room = func(client.Account, uint64) error {
				time.Sleep(time.Minute)
				return nil
			}
			pipes := newPipes()
			serveOn(t, f, Config{}, false, pipes)
			p := newPeer(t, pipes.dial())
			defer p.Close()
			p.do("EHLO c", "250")
			for range 2 {
				p.do("MAIL FROM:<>", "250")
				for range 15 {
					p.do("RCPT TO:<u1@example.test>", "250")
				}
				time.Sleep(4 * time.Minute)
				p.send(how)
				if how[0] == 'D' {
					p.expect("354")
				}
				for range 800 { // more than 13 minutes
					p.send(strings.Repeat("x", 98) + "\r\n")
					time.Sleep(time.Second)
				}
				if how[0] == 'D' {
					p.send(".\r\n")
				}
				p.expect("250")
				time.Sleep(4 * time.Minute) // without a transaction there is no such limit
			}
			if got, _ := f.inbox(t, "u1"); len(got) != 2 {
				t.Fatalf("%d messages", len(got))
			}
		})
	}
}
