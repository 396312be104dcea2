package smtp

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
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
