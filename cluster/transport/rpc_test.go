package transport_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
)

type text struct {
	Text string `cbor:"1,keyasint"`
}

// pair starts two nodes, "a" and "b", with handlers registered on both.
func pair(t testing.TB, register func(n *transport.Net)) (a, b *transport.Net) {
	t.Helper()
	nets := transporttest.Nodes(t, "a", "b")
	for _, n := range nets {
		register(n)
		n.Serve()
	}
	eventually(t, "both are up", func() bool { return nets[0].Up("b") && nets[1].Up("a") })
	return nets[0], nets[1]
}

func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Each case behaves the same to another node and to the node itself.
func both(t *testing.T, register func(n *transport.Net), f func(t *testing.T, n *transport.Net, to string)) {
	a, _ := pair(t, register)
	for name, to := range map[string]string{"remote": "b", "self": "a"} {
		t.Run(name, func(t *testing.T) { f(t, a, to) })
	}
}

func TestCall(t *testing.T) {
	both(t, func(n *transport.Net) {
		transport.HandleUnary(n, "echo", func(_ context.Context, from string, req *text) (*text, error) {
			return &text{from + ":" + req.Text}, nil
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		for _, size := range []int{0, 1, 1000, 100_000, 10 << 20} {
			var out text
			in := strings.Repeat("x", size)
			if err := n.Call(shortly(t), to, "echo", &text{in}, &out); err != nil {
				t.Fatal(err)
			}
			if out.Text != "a:"+in {
				t.Fatalf("size %d: got %d bytes back", size, len(out.Text))
			}
		}
		if err := n.Call(shortly(t), to, "echo", &text{"x"}, nil); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCallErrors(t *testing.T) {
	cases := []struct {
		name   string
		method string
		size   int
		want   error
		hint   string
	}{
		{"typed", "typed", 1, wire.ErrNotLeader, "c"},
		{"wrapped", "wrapped", 1, wire.ErrSealed, ""},
		{"plain", "plain", 1, wire.ErrInternal, ""},
		{"panic", "panic", 1, wire.ErrInternal, ""},
		{"no such method", "nonsense", 1, wire.ErrUnsupported, ""},
		{"request too large", "plain", transport.MaxMessage, wire.ErrLimit, ""},
		{"reply too large", "huge", 1, wire.ErrLimit, ""},
		{"handler's own deadline", "slow", 1, wire.ErrDeadline, ""},
	}
	both(t, func(n *transport.Net) {
		fail := func(method string, f func() error) {
			transport.HandleUnary(n, method, func(context.Context, string, *text) (*text, error) { return nil, f() })
		}
		fail("typed", func() error { return &wire.Error{Code: wire.NotLeader, Hint: "c"} })
		fail("wrapped", func() error { return fmt.Errorf("append to volume 7: %w", wire.ErrSealed) })
		fail("plain", func() error { return errors.New("disk on fire") })
		fail("panic", func() error { panic("at the disco") })
		fail("slow", func() error { return fmt.Errorf("inner: %w", context.DeadlineExceeded) })
		transport.HandleUnary(n, "huge", func(context.Context, string, *text) (*text, error) {
			return &text{strings.Repeat("x", transport.MaxMessage)}, nil
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		for _, c := range cases {
			err := n.Call(shortly(t), to, c.method, &text{strings.Repeat("x", c.size)}, &text{})
			var typed *wire.Error
			if !errors.Is(err, c.want) || !errors.As(err, &typed) || typed.Hint != c.hint {
				t.Errorf("%s: got %v", c.name, err)
			}
		}
	})
}

func TestDeadlineTravels(t *testing.T) {
	ended := make(chan error, 1)
	both(t, func(n *transport.Net) {
		transport.HandleUnary(n, "wait", func(ctx context.Context, _ string, _ *text) (*text, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := n.Call(ctx, to, "wait", &text{}, nil)
		if !errors.Is(err, wire.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the call returned after %v", d)
		}
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
	})
}

func TestCancelReachesHandler(t *testing.T) {
	begun, ended := make(chan bool, 1), make(chan bool, 1)
	both(t, func(n *transport.Net) {
		transport.HandleUnary(n, "wait", func(ctx context.Context, _ string, _ *text) (*text, error) {
			begun <- true
			<-ctx.Done()
			ended <- true
			return nil, ctx.Err()
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-begun; cancel() }()
		if err := n.Call(ctx, to, "wait", &text{}, nil); !errors.Is(err, wire.ErrCanceled) {
			t.Errorf("got %v", err)
		}
		<-ended
	})
}

// A node that is down is known to be down at once; when it comes up, calls go through.
func TestDownFailsAtOnce(t *testing.T) {
	configs := transporttest.Configs(t, "a", "b")
	late := configs[1].Listener
	a, err := transport.Listen(configs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var mu sync.Mutex
	var changes []bool
	a.OnChange(func(node string, up bool) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, up)
	})
	addr := late.Addr().String()
	late.Close()
	a.Serve()
	if err := a.Call(shortly(t), "b", "echo", &text{}, nil); !errors.Is(err, wire.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	start := time.Now()
	for range 100 {
		if err := a.Call(shortly(t), "b", "echo", &text{}, nil); !errors.Is(err, wire.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		if _, err := a.Open(shortly(t), "b", "echo"); !errors.Is(err, wire.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if d := time.Since(start); d > 100*time.Millisecond {
		t.Errorf("200 attempts at a dead node took %v", d)
	}
	configs[1].Listener, configs[1].Listen = nil, addr
	b, err := transport.Listen(configs[1])
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	transport.HandleUnary(b, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
	b.Serve()
	eventually(t, "b is up", func() bool { return a.Up("b") })
	if err := a.Call(shortly(t), "b", "echo", &text{}, nil); err != nil {
		t.Fatal(err)
	}
	if near := a.Nearest([]string{"nobody", "b", "a"}); !slices.Equal(near, []string{"a", "b"}) {
		t.Errorf("nearest: %v", near)
	}
	if rtt, ok := a.RTT("b"); !ok || rtt <= 0 {
		t.Errorf("round trip %v, %v", rtt, ok)
	}
	b.Close()
	eventually(t, "b is down", func() bool { return !a.Up("b") })
	if _, ok := a.RTT("b"); ok {
		t.Error("a node that is down has a round-trip time")
	}
	eventually(t, "both changes told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(changes) == 2 && changes[0] && !changes[1]
	})
}

// Calls that wait for a node fail as soon as it is gone, long before their deadline.
func TestPendingCallsFailWithThePeer(t *testing.T) {
	begun := make(chan bool, 8)
	a, b := pair(t, func(n *transport.Net) {
		transport.HandleUnary(n, "wait", func(ctx context.Context, _ string, _ *text) (*text, error) {
			begun <- true
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	errs := make(chan error, 8)
	for range 8 {
		go func() { errs <- a.Call(shortly(t), "b", "wait", &text{}, nil) }()
	}
	for range 8 {
		<-begun
	}
	start := time.Now()
	b.Close()
	for range 8 {
		if err := <-errs; !errors.Is(err, wire.ErrUnavailable) && !errors.Is(err, wire.ErrCanceled) {
			t.Errorf("got %v", err)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("the calls failed after %v", d)
	}
}

func TestTooManyCallsAreRefused(t *testing.T) {
	release := make(chan bool)
	both(t, func(n *transport.Net) {
		transport.HandleUnary(n, "hold", func(context.Context, string, *text) (*text, error) {
			<-release
			return &text{}, nil
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		ctx := shortly(t)
		results := make(chan error, 2000)
		for range cap(results) {
			go func() { results <- n.Call(ctx, to, "hold", &text{}, nil) }()
		}
		for range 2000 - 1024 {
			if err := <-results; !errors.Is(err, wire.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
		}
		for range 1024 {
			release <- true
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
	})
}
