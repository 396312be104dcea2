package smtp

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"hongyan/cluster/client"
)

// discard is a cluster that takes everything and keeps nothing.
type discard struct{ *fake }

type discardDraft struct{}

func (discardDraft) Write(p []byte) (int, error) { return len(p), nil }
func (discardDraft) Close() error                { return nil }

func (discard) NewDraft() draft { return discardDraft{} }

func (discard) Deliver(_ context.Context, _ draft, to client.Delivery) []error {
	return make([]error, len(to.Recipients))
}

// BenchmarkLMTP is this package's own share of a delivery: 10 KiB messages over one connection.
func BenchmarkLMTP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := newServer(Config{Hostname: "mx.example.test", Log: slog.New(slog.DiscardHandler)}, discard{newFake()})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l, true) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	message := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 131) + ".\r\n")
	reply := make([]byte, 4096)
	exchange := func(say []byte, lines int) {
		if _, err := c.Write(say); err != nil {
			b.Fatal(err)
		}
		for lines > 0 {
			n, err := c.Read(reply)
			if err != nil {
				b.Fatal(err)
			}
			lines -= strings.Count(string(reply[:n]), "\n")
		}
	}
	exchange([]byte("LHLO c\r\n"), 8)
	envelope := []byte("MAIL FROM:<a@remote.test>\r\nRCPT TO:<u1@example.test>\r\nDATA\r\n")
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		exchange(envelope, 3)
		exchange(message, 1)
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
