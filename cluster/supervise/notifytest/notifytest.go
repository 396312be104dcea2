// Package notifytest is systemd's notify socket in a test: what nodes tell it, and whether they feed the watchdog.
package notifytest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds the wait for a message.
const patience = 60 * time.Second

// Socket is what the test's process and its children find in their environment.
type Socket struct{ messages chan string }

// Listen opens a socket. With a watchdog's time, which may be 0, nodes are asked to feed one.
func Listen(t *testing.T, watchdog time.Duration) *Socket {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short: the name of a socket has a hundred bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "s"))
	t.Setenv("WATCHDOG_USEC", "")
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", fmt.Sprint(watchdog.Microseconds()))
	}
	s := &Socket{messages: make(chan string, 10_000)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			select {
			case s.messages <- string(b[:n]):
			default: // nobody has read for an hour
			}
		}
	}()
	return s
}

// Hear reads on until a line of a message begins with one text and has the others, and returns the messages before.
func (s *Socket) Hear(t *testing.T, begins string, has ...string) (before []string) {
	t.Helper()
	meant := func(line string) bool {
		return strings.HasPrefix(line, begins) && !slices.ContainsFunc(has, func(part string) bool { return !strings.Contains(line, part) })
	}
	limit := time.After(patience)
	for {
		select {
		case m := <-s.messages:
			if slices.ContainsFunc(strings.Split(m, "\n"), meant) {
				return before
			}
			before = append(before, m)
		case <-limit:
			t.Fatalf("systemd would not hear %q with %q, only %q", begins, has, before)
		}
	}
}

// Quiet waits until nothing has come for a while.
func (s *Socket) Quiet(t *testing.T, d time.Duration) {
	t.Helper()
	for limit := time.After(patience); ; {
		select {
		case <-s.messages:
		case <-time.After(d):
			return
		case <-limit:
			t.Fatal("messages keep coming")
		}
	}
}
