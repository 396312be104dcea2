package smtp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"slices"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/index"
)

// open serves a real node's door.
func open(t *testing.T, c *client.Client, lmtp bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := New(Config{Client: c, Hostname: "mx.example.test", Log: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l, lmtp) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// stored is what a's INBOX holds, seen through c, in order and without our trace headers.
func stored(t *testing.T, c *client.Client, a client.Account) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	sel, err := c.Select(ctx, a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	var refs []client.Ref
	err = c.Messages(ctx, a, sel.Mailbox.ID, sel.UIDs, index.WantImmutable, func(m *client.Message) error {
		refs = append(refs, m.Ref)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, ref := range refs {
		r, err := c.Read(ctx, ref, 0, ref.Length)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		_, rest, ok := bytes.Cut(b, []byte(";\r\n\t"))
		_, message, ok2 := bytes.Cut(rest, []byte("\r\n"))
		if !ok || !ok2 || !bytes.HasPrefix(b, []byte("Return-Path: <a@remote.test>\r\nReceived: from ")) {
			t.Fatalf("no trace header: %.300q", b)
		}
		all = append(all, string(message))
	}
	return all
}

func TestThroughACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	one, two := c.Account(t, "one"), c.Account(t, "two")
	mx := open(t, c.Nodes[0].Client(), false)
	lmtp := open(t, c.Nodes[1].Client(), true)
	want := []string{
		"Subject: plain\r\n\r\nbody\r\n",
		"not a header\x00\xff\nbare LF\n.\r\n.\r\n\r\r\n",
		"Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 100_000),
	}
	for _, m := range want[:1] {
		if err := netsmtp.SendMail(mx, nil, "a@remote.test", []string{one.Address, two.Address, "ONE@example.test"}, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	p := connect(t, mx)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<a@remote.test>", "250")
	p.do("RCPT TO:<nobody@example.test>", "550 5.1.1")
	p.do("RCPT TO:<x@elsewhere.test>", "550 5.7.1")
	p.do("RCPT TO:<one@example.test>", "250")
	p.do("DATA", "354")
	p.send(stuff(want[1]) + ".\r\n")
	p.expect("250 2.0.0 OK")
	conn, err := net.Dial("tcp", lmtp)
	if err != nil {
		t.Fatal(err)
	}
	lc := gosmtp.NewClientLMTP(conn)
	defer lc.Close()
	if err := lc.SendMail("a@remote.test", []string{one.Address}, strings.NewReader(want[2])); err != nil {
		t.Fatal(err)
	}
	for i, n := range c.Nodes { // acknowledged, so every region shows it
		if got := stored(t, n.Client(), one); !slices.Equal(got, want) {
			t.Fatalf("node %d shows %d messages: %.200q", i, len(got), got)
		}
	}
	if got := stored(t, c.Nodes[2].Client(), two); !slices.Equal(got, want[:1]) {
		t.Fatalf("second recipient: %.200q", got)
	}
	t.Run("details and quotas", func(t *testing.T) { testDetails(t, c, mx, lmtp) })
	t.Run("recipients differ", func(t *testing.T) { testDiffering(t, c, mx) })
	t.Run("one node gone", func(t *testing.T) {
		c.StopNode(t, 2)
		m := "Subject: still\r\n\r\n"
		deadline := time.Now().Add(20 * time.Second)
		for { // as an MTA does
			err := netsmtp.SendMail(mx, nil, "a@remote.test", []string{two.Address}, []byte(m))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		if got := stored(t, c.Nodes[1].Client(), two); got[len(got)-1] != m {
			t.Fatalf("%.200q", got)
		}
	})
	t.Run("no majority", func(t *testing.T) {
		c.StopNode(t, 1)
		p := connect(t, mx)
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<a@remote.test>", "250")
		p.do("RCPT TO:<one@example.test>", "250")
		p.do("DATA", "354")
		start := time.Now()
		p.do("x\r\n.", "451 4.3.0")
		took := time.Since(start)
		t.Logf("answered after %v", took)
		if took > deliverTime {
			t.Fatal("too late")
		}
		p.do("NOOP", "250")
	})
}
