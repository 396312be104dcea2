package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serve wraps a loopback listener and hands accepted connections to the test.
func serve(t *testing.T, cfg Config) (*Listener, <-chan *Conn) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return guarded(t, raw, cfg)
}

// abroad makes a listener's peers appear to come from elsewhere.
type abroad struct{ net.Listener }

type traveller struct{ net.Conn }

func (l abroad) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return traveller{c}, err
}

func (traveller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.1]:4711"))
}

func guarded(t *testing.T, raw net.Listener, cfg Config) (*Listener, <-chan *Conn) {
	t.Helper()
	l := Wrap(raw, cfg)
	out := make(chan *Conn, 16)
	go func() {
		defer close(out)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out <- c.(*Conn)
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = l.Drain(ctx) // closes what a test left open
		for c := range out {
			_ = c.Close()
		}
	})
	return l, out
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestLimitsAreSaidAndGivenBack(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, conns := guarded(t, abroad{raw}, Config{Name: "test", MaxConns: 8, MaxPerAddr: 2, Busy: []byte("421 busy\r\n")})
	dial(t, l)
	dial(t, l)
	first, second := <-conns, <-conns
	refused := dial(t, l)
	line, err := bufio.NewReader(refused).ReadString('\n')
	if err != nil || line != "421 busy\r\n" {
		t.Fatalf("third connection heard %q, %v", line, err)
	}
	if l.Open() != 2 {
		t.Fatalf("open: %d", l.Open())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
	if l.Open() != 1 {
		t.Fatalf("open after close: %d", l.Open())
	}
	dial(t, l)
	third := <-conns
	if third.Addr() != netip.MustParseAddr("192.0.2.1") {
		t.Fatalf("address %v", third.Addr())
	}
	_ = second
}

func TestLoopbackCountsOverallOnly(t *testing.T) {
	l, conns := serve(t, Config{MaxConns: 3, MaxPerAddr: 1})
	for range 3 {
		dial(t, l)
		<-conns
	}
	if _, err := dial(t, l).Read(make([]byte, 1)); err == nil {
		t.Fatal("fourth connection stayed open")
	}
}

func TestOnlyAllowedNetworks(t *testing.T) {
	for _, c := range []struct {
		allow string
		open  bool
	}{{"127.0.0.0/8", true}, {"10.0.0.0/8", false}, {"::/0", false}, {"0.0.0.0/0", true}} {
		t.Run(c.allow, func(t *testing.T) {
			l, conns := serve(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix(c.allow)}})
			peer := dial(t, l)
			if c.open {
				<-conns
				return
			}
			if _, err := peer.Read(make([]byte, 1)); err == nil {
				t.Fatal("connection stayed open")
			}
		})
	}
}

func TestGroup(t *testing.T) {
	for _, c := range []struct{ a, b string }{{"2001:db8::1", "2001:db8::ffff:1"}, {"192.0.2.1", "192.0.2.1"}} {
		if group(netip.MustParseAddr(c.a)) != group(netip.MustParseAddr(c.b)) {
			t.Errorf("%s and %s differ", c.a, c.b)
		}
	}
	for _, c := range []struct{ a, b string }{{"2001:db8::1", "2001:db8:0:1::1"}, {"192.0.2.1", "192.0.2.2"}} {
		if group(netip.MustParseAddr(c.a)) == group(netip.MustParseAddr(c.b)) {
			t.Errorf("%s and %s are one", c.a, c.b)
		}
	}
	if group(netip.Addr{}).IsValid() {
		t.Error("no address has a group")
	}
}

// pipeConn is a guarded end of an in-memory pipe, whose deadlines run on synctest's clock.
func pipeConn(cfg Config) (*Conn, net.Conn) {
	a, b := net.Pipe()
	return newConn(a, Wrap(nil, cfg), netip.Addr{}), b
}

func TestDrippingRunsOutOfPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeConn(Config{Idle: time.Minute, MinRate: 10})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for { // one byte each 20 s buys a tenth of a second each
				if _, err := peer.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(20 * time.Second)
			}
		}()
		start := time.Now()
		_, err := io.Copy(io.Discard, c)
		if took := time.Since(start); !errors.Is(err, ErrIdle) || took > 61*time.Second {
			t.Errorf("ended after %v with %v", took, err)
		}
		_ = c.Close()
		<-stopped
	})
}

func TestRenewAndSteadyInputKeepGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeConn(Config{Idle: time.Minute, MinRate: 10})
		defer c.Close()
		go func() {
			defer peer.Close()
			for range 20 { // 50 s apart, twenty times: only Renew makes that last
				time.Sleep(50 * time.Second)
				if _, err := peer.Write([]byte("x")); err != nil {
					return
				}
			}
			for range 100 { // 200 bytes each 20 s are just the rate
				time.Sleep(20 * time.Second)
				if _, err := peer.Write(make([]byte, 200)); err != nil {
					return
				}
			}
		}()
		buf := make([]byte, 512)
		for i := range 120 {
			if _, err := c.Read(buf); err != nil {
				t.Fatalf("read %d: %v", i, err)
			}
			if i < 20 {
				c.Renew()
				time.Sleep(time.Hour) // our own work is never counted against the peer
			}
		}
	})
}

func TestUserDeadlineHoldsWithinOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeConn(Config{Idle: time.Minute})
		defer c.Close()
		defer peer.Close()
		start := time.Now()
		if err := c.SetReadDeadline(start.Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrIdle) || time.Since(start) != 55*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestSlowReaderOfOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeConn(Config{WriteIdle: 30 * time.Second})
		defer c.Close()
		defer peer.Close()
		go func() { // takes one piece every 20 s, then stops
			for range 3 {
				time.Sleep(20 * time.Second)
				if _, err := io.CopyN(io.Discard, peer, writePiece); err != nil {
					return
				}
			}
		}()
		n, err := c.Write(make([]byte, 10*writePiece))
		if n != 3*writePiece || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v", n, err)
		}
	})
}

func TestBudget(t *testing.T) {
	l, conns := serve(t, Config{})
	peer := dial(t, l)
	c := <-conns
	c.Limit(4)
	if _, err := peer.Write([]byte("123456")); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if string(b) != "1234" || !errors.Is(err, ErrOverBudget) {
		t.Fatalf("%q, %v", b, err)
	}
	c.Limit(-1)
	c.Renew()
	if n, err := c.Read(make([]byte, 2)); n > 0 || !errors.Is(err, ErrOverBudget) {
		t.Fatalf("read on: %d bytes, %v", n, err)
	}
}

// TestEndsWith: a user has the ends that the connection makes of itself by another name, and the end of a Drain by its own.
func TestEndsWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := errors.New("other")
		read := func(c *Conn, want error) {
			t.Helper()
			if _, err := c.Read(make([]byte, 1)); err != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		open := func() *Conn {
			c, peer := pipeConn(Config{Idle: time.Minute})
			t.Cleanup(func() { _, _ = c.Close(), peer.Close() })
			c.EndsWith(other)
			return c
		}
		idle := open()
		read(idle, other)
		read(idle, other)
		idle.EndsWith(nil)
		read(idle, ErrIdle)
		full := open()
		full.Limit(0)
		read(full, other)
		stopped := open()
		stopped.SaysGoodbye()
		stopped.drain()
		read(stopped, ErrClosing)
	})
}

// The first bytes are bounded as well, before anybody has said anything of the connection.
func TestBudgetFromTheStart(t *testing.T) {
	l, conns := serve(t, Config{Budget: 4})
	peer := dial(t, l)
	c := <-conns
	if _, err := peer.Write([]byte("123456")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "1234" || !errors.Is(err, ErrOverBudget) {
		t.Fatalf("%q, %v", b, err)
	}
}

// What is within a budget that is renewed in time is read.
func TestBudgetRenewed(t *testing.T) {
	l, conns := serve(t, Config{})
	peer := dial(t, l)
	c := <-conns
	if _, err := peer.Write([]byte("123456")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"123", "456"} {
		c.Limit(3)
		b := make([]byte, 3)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

// What was allowed before is taken back, and no more allowed than that.
func TestBudgetTakenBack(t *testing.T) {
	for _, limits := range [][2]int64{{1000, 4}, {-1, 4}, {4, 1000}} {
		l, conns := serve(t, Config{})
		peer := dial(t, l)
		c := <-conns
		c.Limit(limits[0])
		c.AtMost(limits[1])
		if _, err := peer.Write([]byte("123456")); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "1234" || !errors.Is(err, ErrOverBudget) {
			t.Fatalf("%v: %q, %v", limits, b, err)
		}
	}
}

func TestDrainWaitsForTheBusyOnly(t *testing.T) {
	l, conns := serve(t, Config{})
	dial(t, l)
	idle := <-conns
	dial(t, l)
	busy := <-conns
	busy.SetBusy(true)
	ended := make(chan string, 2)
	read := func(name string, c *Conn) {
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, ErrIdle) {
			name += ": " + err.Error()
		}
		ended <- name
		_ = c.Close()
	}
	go read("idle", idle)
	go read("busy", busy)
	drained := make(chan error, 1)
	go func() { drained <- l.Drain(context.Background()) }()
	if who := <-ended; who != "idle" {
		t.Fatalf("first to end: %s", who)
	}
	busy.SetBusy(false)
	if who := <-ended; who != "busy" {
		t.Fatalf("then: %s", who)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

func TestDrainClosesWhatDoesNotEnd(t *testing.T) {
	l, conns := serve(t, Config{Name: "test"})
	dial(t, l)
	c := <-conns
	c.SetBusy(true)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := l.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "test") {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("left open: %v", err)
	}
}

func TestFromUnwrapsTLS(t *testing.T) {
	c, peer := pipeConn(Config{})
	defer c.Close()
	defer peer.Close()
	if got, ok := From(tls.Server(c, nil)); !ok || got != c {
		t.Fatal("not found under TLS")
	}
	if _, ok := From(peer); ok {
		t.Fatal("found where there is none")
	}
}
