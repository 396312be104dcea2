package transport_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// echoStream sends back what it gets.
func echoStream(_ context.Context, _ string, s *transport.Stream) error {
	for {
		b, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(b); err != nil {
			return err
		}
	}
}

func open(t *testing.T, ctx context.Context, n *transport.Net, to, method string) *transport.Stream {
	t.Helper()
	s, err := n.Open(ctx, to, method)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStreamEcho(t *testing.T) {
	both(t, func(n *transport.Net) { n.Handle("echo", echoStream) }, func(t *testing.T, n *transport.Net, to string) {
		s := open(t, shortly(t), n, to, "echo")
		sizes := []int{0, 1, 5, 64 << 10, 64<<10 - 5, 64<<10 + 1, 1 << 20, 9 << 20, transport.MaxMessage}
		random := make([]byte, transport.MaxMessage)
		rand.Read(random)
		go func() {
			for _, size := range sizes {
				if err := s.Send(random[:size]); err != nil {
					t.Error(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		}()
		for _, size := range sizes {
			b, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, random[:size]) {
				t.Fatalf("a message of %d bytes came back changed", size)
			}
		}
		for range 2 {
			if _, err := s.Recv(); err != io.EOF {
				t.Fatalf("after the last message: %v", err)
			}
		}
		if err := s.Send(make([]byte, transport.MaxMessage+1)); !errors.Is(err, wire.ErrLimit) {
			t.Errorf("a message over the limit: %v", err)
		}
	})
}

func TestStreamValues(t *testing.T) {
	both(t, func(n *transport.Net) { n.Handle("echo", echoStream) }, func(t *testing.T, n *transport.Net, to string) {
		s := open(t, shortly(t), n, to, "echo")
		var out text
		if err := s.SendValue(&text{"hello"}); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvValue(&out); err != nil || out.Text != "hello" {
			t.Fatalf("%+v, %v", out, err)
		}
	})
}

func TestStreamEnds(t *testing.T) {
	cases := []struct {
		method string
		want   error
	}{
		{"fine", io.EOF},
		{"typed", wire.ErrSealed},
		{"panic", wire.ErrInternal},
		{"nonsense", wire.ErrUnsupported},
	}
	both(t, func(n *transport.Net) {
		end := func(method string, f func() error) {
			n.Handle(method, func(_ context.Context, _ string, s *transport.Stream) error {
				if err := s.Send([]byte("last words")); err != nil {
					t.Error(err)
				}
				return f()
			})
		}
		end("fine", func() error { return nil })
		end("typed", func() error { return wire.ErrSealed })
		end("panic", func() error { panic("!") })
	}, func(t *testing.T, n *transport.Net, to string) {
		for _, c := range cases {
			s := open(t, shortly(t), n, to, c.method)
			b, err := s.Recv()
			if c.method != "nonsense" {
				if err != nil || string(b) != "last words" {
					t.Errorf("%s: %q, %v", c.method, b, err)
				}
				_, err = s.Recv()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s ended with %v", c.method, err)
			}
			// A sender learns of the end too, however full the way was.
			for err = nil; err == nil; {
				err = s.Send(make([]byte, 1<<20))
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s: send after the end: %v", c.method, err)
			}
		}
	})
}

// A receiver that does not receive holds its sender back, and others are not delayed by it.
func TestStreamBackpressure(t *testing.T) {
	var sent atomic.Int64
	release := make(chan bool)
	both(t, func(n *transport.Net) {
		n.Handle("echo", echoStream)
		n.Handle("sink", func(_ context.Context, _ string, s *transport.Stream) error {
			<-release
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
			}
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		sent.Store(0)
		s := open(t, shortly(t), n, to, "sink")
		done := make(chan error, 1)
		go func() {
			piece := make([]byte, 256<<10)
			for range 256 {
				if err := s.Send(piece); err != nil {
					done <- err
					return
				}
				sent.Add(int64(len(piece)))
			}
			done <- s.CloseSend()
		}()
		settled := func() bool {
			before := sent.Load()
			time.Sleep(200 * time.Millisecond)
			return before > 0 && sent.Load() == before
		}
		eventually(t, "the sender waits", settled)
		if n := sent.Load(); n > 8<<20 {
			t.Errorf("%d bytes were taken with nobody receiving", n)
		}
		other := open(t, shortly(t), n, to, "echo")
		for range 10 {
			if err := other.Send(make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		release <- true
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Fatal(err)
		}
	})
}

// A blocked Send, a blocked Recv and the handler all end with the caller's deadline, and when the caller closes.
func TestStreamDeadline(t *testing.T) {
	ended := make(chan error, 2)
	both(t, func(n *transport.Net) {
		n.Handle("hang", func(ctx context.Context, _ string, _ *transport.Stream) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		})
		n.Handle("flood", func(_ context.Context, _ string, s *transport.Stream) error {
			for {
				if err := s.Send(make([]byte, 256<<10)); err != nil {
					ended <- err
					return err
				}
			}
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s := open(t, ctx, n, to, "hang")
		var err error
		for err == nil {
			err = s.Send(make([]byte, 1<<20))
		}
		if !errors.Is(err, wire.ErrDeadline) {
			t.Errorf("send: %v", err)
		}
		if _, err := s.Recv(); !errors.Is(err, wire.ErrDeadline) {
			t.Errorf("receive: %v", err)
		}
		if err := <-ended; err == nil {
			t.Error("the handler's context did not end")
		}
		for _, method := range []string{"hang", "flood"} {
			s := open(t, context.Background(), n, to, method)
			if method == "flood" {
				if _, err := s.Recv(); err != nil {
					t.Error(err)
				}
				time.Sleep(20 * time.Millisecond) // let it fill the way; harmless when it does not
			}
			s.Close()
			if err := <-ended; err == nil {
				t.Errorf("%s did not notice that its caller closed", method)
			}
			if _, err := s.Recv(); !errors.Is(err, wire.ErrCanceled) {
				t.Errorf("receive after close: %v", err)
			}
		}
	})
}

// Messages that were dropped at the deadline must not look like a stream that ended well.
func TestLateReceiverSeesNoGoodEnd(t *testing.T) {
	both(t, func(n *transport.Net) {
		n.Handle("two", func(_ context.Context, _ string, s *transport.Stream) error {
			return errors.Join(s.Send([]byte("1")), s.Send([]byte("2")))
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		ctx, cancel := context.WithCancel(context.Background())
		s := open(t, ctx, n, to, "two")
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		b, err := s.Recv()
		if err == nil && string(b) == "2" { // received all the same; then the good end is true
			_, err = s.Recv()
			if err == io.EOF {
				return
			}
		}
		if !errors.Is(err, wire.ErrCanceled) {
			t.Fatalf("%q, %v", b, err)
		}
	})
}

func TestStreamFailsWithThePeer(t *testing.T) {
	a, b := pair(t, func(n *transport.Net) { n.Handle("echo", echoStream) })
	s := open(t, shortly(t), a, "b", "echo")
	if err := s.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	go b.Close()
	if _, err := s.Recv(); !errors.Is(err, wire.ErrUnavailable) && !errors.Is(err, wire.ErrCanceled) {
		t.Fatalf("got %v", err)
	}
}

func TestTooManyStreamsAreRefused(t *testing.T) {
	both(t, func(n *transport.Net) {
		n.Handle("hang", func(ctx context.Context, _ string, s *transport.Stream) error {
			if err := s.Send(nil); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
	}, func(t *testing.T, n *transport.Net, to string) {
		var streams []*transport.Stream
		for range 256 {
			s := open(t, shortly(t), n, to, "hang")
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		try := func() error {
			s, err := n.Open(shortly(t), to, "hang")
			if err != nil {
				return err
			}
			defer s.Close()
			_, err = s.Recv()
			return err
		}
		if err := try(); !errors.Is(err, wire.ErrUnavailable) {
			t.Fatalf("one stream too many: %v", err)
		}
		for _, s := range streams {
			s.Close()
		}
		eventually(t, "there is room again", func() bool { return try() == nil })
	})
}
