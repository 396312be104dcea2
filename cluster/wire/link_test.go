package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

func links(t *testing.T, limit int) (a, b *Link) {
	t.Helper()
	near, far := tcpPair(t)
	socket, err := NewSocket(near)
	if err != nil {
		t.Fatal(err)
	}
	a, b = NewLink(socket, limit), NewLink(far, limit) // b has its writer goroutine write all
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Many senders, payloads of all sizes: each arrives whole and once.
func TestLinkCarriesAll(t *testing.T) {
	a, b := links(t, 8<<20)
	const senders, each = 8, 40
	var wg sync.WaitGroup
	for s := range uint32(senders) {
		wg.Go(func() {
			for i := range uint64(each) {
				size := int(i * i * i * 8)
				payload := bytes.Repeat([]byte{byte(s), byte(i)}, size/2)
				if err := a.Send(context.Background(), Frame{Kind: 3, Channel: s, ID: i, Payload: payload}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := make([]uint64, senders)
	for range senders * each {
		f, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		if f.ID != next[f.Channel] || f.Kind != 3 {
			t.Fatalf("sender %d: frame %d, expected %d", f.Channel, f.ID, next[f.Channel])
		}
		next[f.Channel]++
		if !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(f.Channel), byte(f.ID)}, int(f.ID*f.ID*f.ID*8)/2)) {
			t.Fatalf("sender %d: frame %d is damaged", f.Channel, f.ID)
		}
	}
	wg.Wait()
}

// A sender waits while the peer does not read, gives up with its context, and leaves the link usable.
func TestLinkBackpressure(t *testing.T) {
	a, b := links(t, 64<<20)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := error(nil)
	for err == nil {
		err = a.Send(ctx, Frame{Kind: 1, Payload: make([]byte, 32<<20)})
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if !a.SendUrgent(Frame{Kind: 2, ID: 5}) {
		t.Fatal("an urgent frame was refused")
	}
	go func() {
		if err := a.Send(context.Background(), Frame{Kind: 4, Payload: []byte("last")}); err != nil {
			t.Error(err)
		}
	}()
	for {
		f, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == 4 {
			break
		}
	}
	if len(b.reader.partial) != 0 {
		t.Errorf("%d abandoned payloads are kept", len(b.reader.partial))
	}
}

func TestUrgentIsBoundedAndNeverWaits(t *testing.T) {
	a, _ := links(t, 1<<20)
	refused := false
	for i := 0; i < 10_000 && !refused; i++ {
		refused = !a.SendUrgent(Frame{Kind: 1, Payload: make([]byte, 60<<10)})
	}
	if !refused {
		t.Error("600 MB of urgent frames were taken with nobody reading")
	}
	if a.SendUrgent(Frame{Kind: 1, Payload: make([]byte, MaxPiece+1)}) {
		t.Error("a large urgent frame was taken")
	}
}

func TestLinkDiesWhole(t *testing.T) {
	a, b := links(t, 1<<20)
	errs := make(chan error, 2)
	go func() { _, err := b.Read(); errs <- err }()
	go func() { _, err := a.Read(); errs <- err }()
	a.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrLinkClosed) {
			t.Errorf("got %v", err)
		}
	}
	for i, l := range []*Link{a, b} {
		<-l.Done()
		if err := l.Send(context.Background(), Frame{}); !errors.Is(err, ErrLinkClosed) {
			t.Errorf("link %d: %v", i, err)
		}
		if l.SendUrgent(Frame{}) || l.Err() == nil {
			t.Errorf("link %d goes on", i)
		}
	}
}

func BenchmarkLink(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			near, far := net.Pipe()
			sender, receiver := NewLink(near, 2<<20), NewLink(far, 2<<20)
			defer sender.Close()
			defer receiver.Close()
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			go func() {
				for b.Loop() {
					if err := sender.Send(context.Background(), Frame{Payload: payload}); err != nil {
						b.Error(err)
					}
				}
				sender.Close()
			}()
			for {
				if _, err := receiver.Read(); err != nil {
					return
				}
			}
		})
	}
}
