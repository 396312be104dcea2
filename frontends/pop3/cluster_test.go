package pop3

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func deliver(t *testing.T, c *client.Client, a client.Account, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d := c.NewDraft()
	defer d.Close()
	if _, err := io.WriteString(d, message); err != nil {
		t.Fatal(err)
	}
	if err := c.Deliver(ctx, d, client.Delivery{Recipients: []client.Account{a}})[0]; err != nil {
		t.Fatal(err)
	}
}

func TestThroughACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u")
	c.Account(t, "empty")
	want := []string{
		"Subject: one\r\n\r\n.\r\nbody\r\n", "\x00\xff\r\n",
		"Subject: big\r\n\r\n" + strings.Repeat(".leading dots\r\n", 200_000),
	}
	for _, m := range want {
		deliver(t, c.Nodes[0].Client(), a, m)
	}
	abroad := c.Nodes[2].Client()
	_, addr := serve(t, door{abroad}, abroad, true, io.Discard)
	p := login(t, addr)
	p.do("STAT", fmt.Sprintf("+OK 3 %d", len(want[0])+len(want[1])+len(want[2])))
	for i, m := range want {
		p.do(fmt.Sprintf("RETR %d", i+1), fmt.Sprintf("+OK %d", len(m)))
		if got := p.multi(); got != m {
			t.Fatalf("message %d: %d bytes, want %d", i+1, len(got), len(m))
		}
	}
	p.do("UIDL", "+OK")
	names := strings.Fields(p.multi())
	p.do("DELE 2", "+OK")
	deliver(t, c.Nodes[1].Client(), a, "Subject: later\r\n\r\n")
	p.do("STAT", "+OK 2 ")
	p.do("QUIT", "+OK")

	home := c.Nodes[0].Client()
	_, addr = serve(t, door{home}, home, true, io.Discard)
	p = login(t, addr)
	p.do("STAT", "+OK 3 ")
	p.do("UIDL 2", "+OK 2 "+names[5])
	p.do("TOP 3 0", "+OK top")
	if got := p.multi(); got != "Subject: later\r\n\r\n" {
		t.Fatalf("%q", got)
	}
	p.do("QUIT", "+OK")
	p = connect(t, addr, true)
	p.do("USER empty@example.test", "+OK")
	p.do("PASS wrong", "-ERR [AUTH]")
	p.do("USER empty@example.test", "+OK")
	p.do("PASS secret", "+OK 0")
	p.do("LIST", "+OK")
	if got := p.multi(); got != "" {
		t.Fatalf("%q", got)
	}
	p.do("QUIT", "+OK")
	stopMidway(t, c, a)
}

// stopMidway stops the account's home while a session abroad reads a message: it comes whole, and the session goes on.
func stopMidway(t *testing.T, c *clustertest.Cluster, a client.Account) {
	large := "Subject: large\r\n\r\n" + strings.Repeat("more than the sockets' buffers hold\r\n", 400_000)
	abroad := c.Nodes[2].Client()
	deliver(t, abroad, a, large)
	_, addr := serve(t, door{abroad}, abroad, true, io.Discard)
	p := login(t, addr)
	p.do("STAT", "+OK 4 ")
	p.do("RETR 4", fmt.Sprintf("+OK %d", len(large)))
	if _, err := p.in.Peek(1000); err != nil {
		t.Fatal(err)
	}
	c.StopNode(t, 0)
	if got := p.multi(); got != large {
		t.Fatalf("%d bytes, want %d", len(got), len(large))
	}
	p.do("DELE 4", "+OK")
	p.do("RETR 1", "+OK")
	p.multi()
	p.do("QUIT", "+OK")
	p = login(t, addr)
	p.do("STAT", "+OK 3 ")
}
