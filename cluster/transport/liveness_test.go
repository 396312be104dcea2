package transport_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
)

// A peer that falls silent with its connections open (paused, or cut off) is found out; what waits for it fails;
// when it speaks again it is up again.
func TestSilentPeer(t *testing.T) {
	begun := make(chan bool, 4)
	handlers := make(chan error, 4)
	nets, relays := relayed(t, transport.Hasten, "a", "b")
	for _, n := range nets {
		transport.HandleUnary(n, "wait", func(ctx context.Context, _ string, _ *text) (*text, error) {
			begun <- true
			<-ctx.Done()
			handlers <- ctx.Err()
			return nil, ctx.Err()
		})
		n.Handle("hang", func(ctx context.Context, _ string, _ *transport.Stream) error {
			begun <- true
			<-ctx.Done()
			handlers <- ctx.Err()
			return ctx.Err()
		})
		n.Serve()
	}
	a, b := nets[0], nets[1]
	for range 2 {
		eventually(t, "both are up", func() bool { return a.Up("b") && b.Up("a") })
		calls := make(chan error, 3)
		go func() { calls <- a.Call(shortly(t), "b", "wait", &text{}, nil) }()
		s := open(t, shortly(t), a, "b", "hang")
		<-begun
		<-begun
		go func() { _, err := s.Recv(); calls <- err }()
		go func() { // fills every buffer on the way
			var err error
			for err == nil {
				err = s.Send(make([]byte, 1<<20))
			}
			calls <- err
		}()
		start := time.Now()
		for _, r := range relays {
			r.set(false, true)
		}
		for range 3 {
			if err := <-calls; !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
		for range 2 {
			<-handlers // b misses a, too
		}
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("it took %v to notice", d)
		}
		eventually(t, "both are down", func() bool { return !a.Up("b") && !b.Up("a") })
		if err := a.Call(shortly(t), "b", "wait", &text{}, nil); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		for _, r := range relays {
			r.set(false, false)
		}
	}
}

// One direction that cannot be dialled must not take down the other.
func TestOneWayReachable(t *testing.T) {
	nets, relays := relayed(t, transport.Hasten, "a", "b")
	relays["ab"].set(true, false)
	for _, n := range nets {
		transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
		n.Serve()
	}
	a, b := nets[0], nets[1]
	eventually(t, "b reaches a", func() bool { return b.Up("a") })
	for range 100 {
		if err := b.Call(shortly(t), "a", "echo", &text{}, nil); err != nil {
			t.Fatal(err)
		}
		if a.Up("b") {
			t.Fatal("a reaches b")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// After Close nothing runs and nothing is open.
func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("use everything", func(t *testing.T) {
		nets := transporttest.Nodes(t, "a", "b", "c")
		for _, n := range nets {
			transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
			transport.HandleUnary(n, "wait", func(ctx context.Context, _ string, _ *text) (*text, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			n.Handle("echo stream", echoStream)
			n.Serve()
		}
		a := nets[0]
		eventually(t, "all are up", func() bool { return a.Up("b") && a.Up("c") })
		for _, to := range []string{"a", "b", "c"} {
			if err := a.Call(shortly(t), to, "echo", &text{}, nil); err != nil {
				t.Fatal(err)
			}
			for range 3 { // left open
				s, err := a.Open(context.Background(), to, "echo stream")
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Send([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			go a.Call(context.Background(), to, "wait", &text{}, nil)
		}
		a.RaftGroup(1)
		a.Gossip().Send("b", []byte("x"))
		if conn, err := a.Gossip().Dial(shortly(t), "c"); err == nil {
			defer conn.Close()
		}
	})
	eventually(t, "every goroutine has ended", func() bool { return runtime.NumGoroutine() <= before })
}
