package relay

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bed is two nodes, a and b, with a link in each direction.
type bed struct {
	t *testing.T
	n *Network
	// by the dialler: where it dials, and where its connections come out
	at  map[string]string
	out map[string]*net.TCPListener
}

func newBed(t *testing.T) *bed {
	b := &bed{t, New(slog.New(slog.DiscardHandler)), map[string]string{}, map[string]*net.TCPListener{}}
	for _, p := range []pair{{"a", "b"}, {"b", "a"}} {
		b.out[p.from] = b.listen()
		l := b.listen()
		b.at[p.from] = l.Addr().String()
		b.n.Open(p.from, p.to, b.out[p.from].Addr().String(), l)
	}
	t.Cleanup(func() {
		if err := b.n.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bed) listen() *net.TCPListener {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial gives the dialler's end at once, and the other end when it asks for it.
func (b *bed) dial(from string) (near *net.TCPConn, far func() *net.TCPConn) {
	b.t.Helper()
	c, err := net.Dial("tcp", b.at[from])
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), func() *net.TCPConn {
		b.t.Helper()
		l := b.out[from]
		if err := l.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			b.t.Fatal(err)
		}
		c, err := l.AcceptTCP()
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// TestRemove: the links of a node that goes end, those of others stay.
func TestRemove(t *testing.T) {
	b := newBed(t)
	far := b.listen()
	b.n.Open("a", "c", far.Addr().String(), b.listen())
	near, _ := b.joined("a")
	if err := b.n.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection to a node that is gone: %v, want a reset", err)
	}
	if c, err := net.Dial("tcp", b.at["a"]); err == nil {
		t.Error("the relay to a node that is gone still listens")
		_ = c.Close()
	}
	if st := b.n.States(); len(st) != 2 || st[0].To != "c" && st[0].From != "c" || st[1].To != "c" && st[1].From != "c" {
		t.Errorf("ways %+v: want those between a and c", st)
	}
	if err := b.n.Shape("a", "b", Shape{}); err == nil {
		t.Error("a way to a node that is gone was shaped")
	}
}

func (b *bed) joined(from string) (near, far *net.TCPConn) {
	b.t.Helper()
	near, other := b.dial(from)
	return near, other()
}

func (b *bed) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func say(t *testing.T, c *net.TCPConn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c *net.TCPConn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// silent holds that nothing comes for a while. A relay on a loaded machine can only pass it more easily.
func silent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
}

// refused holds that a new connection is reset, be it before the dialler has noticed that it was made.
func (b *bed) refused(from string) {
	b.t.Helper()
	c, err := net.Dial("tcp", b.at[from])
	switch {
	case err == nil:
		wasReset(b.t, c.(*net.TCPConn))
		_ = c.Close()
	case !errors.Is(err, syscall.ECONNRESET):
		b.t.Errorf("dial: %v, want a reset", err)
	}
}

func wasReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// TestBytesSurviveEveryChange sends both ways on connections of both nodes while the shapes change and cuts come and go.
func TestBytesSurviveEveryChange(t *testing.T) {
	const size = 6 << 20
	b := newBed(t)
	shapes := []Shape{{}, {Delay: 3 * time.Millisecond}, {Delay: time.Millisecond, Jitter: time.Millisecond}, {Rate: 20 << 20}, {},
		{Delay: time.Millisecond, Late: 0.05, LateBy: 5 * time.Millisecond}, {Rate: 40 << 20, Delay: 2 * time.Millisecond}}
	var wg sync.WaitGroup
	for _, from := range []string{"a", "a", "b"} {
		near, far := b.joined(from)
		for _, way := range [][2]*net.TCPConn{{near, far}, {far, near}} {
			wg.Go(func() { flow(t, way[0], way[1], size) })
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		rng := rand.New(rand.NewPCG(4, 1))
		names := [][2]string{{"a", "b"}, {"b", "a"}}
		for {
			p := names[rng.IntN(2)]
			if err := b.n.Shape(p[0], p[1], shapes[rng.IntN(len(shapes))]); err != nil {
				t.Error(err)
			}
			if rng.IntN(3) == 0 {
				if err := b.n.Cut(p[0], p[1], Hole); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-stop:
				b.n.Heal()
				return
			case <-time.After(time.Duration(rng.IntN(8)) * time.Millisecond):
			}
			if rng.IntN(2) == 0 {
				b.n.Heal()
			}
		}
	}()
	go func() {
		time.Sleep(time.Second) // then what is left may flow undisturbed
		close(stop)
	}()
	wg.Wait()
	<-stopped
}

// flow writes pieces of random size and reads them on the other side up to the stream's end.
func flow(t *testing.T, from, to *net.TCPConn, size int) {
	sent := make(chan uint32, 1)
	go func() {
		h := crc32.NewIEEE()
		for left := size; left > 0; {
			piece := make([]byte, min(left, 1+rand.IntN(100<<10)))
			for i := range piece {
				piece[i] = byte(rand.Uint32())
			}
			h.Write(piece)
			if _, err := from.Write(piece); err != nil {
				t.Error(err)
				break
			}
			left -= len(piece)
		}
		if err := from.CloseWrite(); err != nil {
			t.Error(err)
		}
		sent <- h.Sum32()
	}()
	h := crc32.NewIEEE()
	_ = to.SetReadDeadline(time.Now().Add(60 * time.Second))
	if n, err := io.Copy(h, to); err != nil || n != int64(size) {
		t.Errorf("%d bytes of %d came: %v", n, size, err)
	}
	if want := <-sent; h.Sum32() != want {
		t.Error("other bytes came than were sent")
	}
}

func TestDelayIsKept(t *testing.T) {
	b := newBed(t)
	b.do(b.n.Shape("a", "b", Shape{Delay: 30 * time.Millisecond}))
	b.do(b.n.Shape("b", "a", Shape{Delay: 20 * time.Millisecond}))
	for _, from := range []string{"a", "b"} { // both diallers' connections go the same ways
		began := time.Now()
		near, far := b.joined(from)
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("%s connected after %v, want a round trip", from, took)
		}
		best := time.Hour
		for range 5 {
			began := time.Now()
			say(t, near, "ping")
			hear(t, far, "ping")
			say(t, far, "pong")
			hear(t, near, "pong")
			best = min(best, time.Since(began))
		}
		if best < 50*time.Millisecond || best > 80*time.Millisecond {
			t.Errorf("round trip of a connection by %s: %v, want 50 ms", from, best)
		}
	}
}

func TestRateIsSharedByTheConnections(t *testing.T) {
	const rate, each = 2 << 20, 400 << 10
	b := newBed(t)
	b.do(b.n.Shape("a", "b", Shape{Rate: rate}))
	began := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		near, far := b.joined("a")
		wg.Go(func() { flow(t, near, far, each) })
	}
	wg.Wait()
	if took, want := time.Since(began), time.Second*2*each/rate; took < want*8/10 {
		t.Errorf("took %v, want %v at least", took, want)
	}
}

// TestLatePieceHoldsUpTheRest: order is kept, as TCP keeps it.
func TestLatePieceHoldsUpTheRest(t *testing.T) {
	b := newBed(t)
	near, far := b.joined("a")
	const late = 3 * time.Second
	b.do(b.n.Shape("a", "b", Shape{Delay: time.Millisecond})) // so that nothing is spliced while the shape changes
	say(t, near, "ping")
	hear(t, far, "ping")
	b.do(b.n.Shape("a", "b", Shape{Late: 1, LateBy: late}))
	began := time.Now()
	say(t, near, "first ")
	time.Sleep(late / 3) // for the relay to read it, which takes it microseconds
	b.do(b.n.Shape("a", "b", Shape{Delay: time.Millisecond}))
	say(t, near, "second")
	hear(t, far, "first second")
	if took := time.Since(began); took < late {
		t.Errorf("came after %v", took)
	}
}

func TestCutOneWay(t *testing.T) {
	b := newBed(t)
	near, far := b.joined("a")   // a dialled
	near2, far2 := b.joined("b") // b dialled: far2 is a's end
	say(t, near, "x")
	hear(t, far, "x")
	b.do(b.n.Cut("a", "b", Hole))
	say(t, near, "held")
	say(t, far2, "too")
	silent(t, far)
	silent(t, near2)
	say(t, far, "flows")
	hear(t, near, "flows")
	say(t, near2, "as well")
	hear(t, far2, "as well")
	b.do(b.n.Cut("a", "b", Whole))
	hear(t, far, "held")
	hear(t, near2, "too")
}

func TestNewConnectionsHangInACut(t *testing.T) {
	b := newBed(t)
	b.do(b.n.Cut("b", "a", Hole)) // enough: no answer comes back
	near, far := b.dial("a")
	gone, _ := b.dial("a")
	say(t, near, "hello")
	if err := gone.Close(); err != nil { // gives up: nobody shall ever hear of it
		t.Fatal(err)
	}
	silent(t, near)
	eventually(t, "the one that gave up is forgotten", func() bool { return b.conns("a") == 1 })
	b.n.Heal()
	c := far()
	hear(t, c, "hello")
	say(t, c, "and back")
	hear(t, near, "and back")
}

func (b *bed) conns(from string) int {
	to := map[string]string{"a": "b", "b": "a"}[from]
	k := b.n.links[pair{from, to}]
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

func TestReset(t *testing.T) {
	b := newBed(t)
	near, far := b.joined("a")
	near2, far2 := b.joined("b")
	b.do(b.n.Cut("a", "b", Reset))
	for _, c := range []*net.TCPConn{near, far, near2, far2} {
		wasReset(t, c)
	}
	b.refused("a")
	b.n.Heal()
	near, far = b.joined("a")
	say(t, near, "again")
	hear(t, far, "again")
}

func TestTargetThatDoesNotListen(t *testing.T) {
	b := newBed(t)
	if err := b.out["a"].Close(); err != nil {
		t.Fatal(err)
	}
	b.refused("a")
}

// TestEndsPassInOrder: FIN comes behind the bytes and leaves the other direction open; RST comes through, but not through a cut.
func TestEndsPassInOrder(t *testing.T) {
	for _, shape := range []Shape{{}, {Delay: 5 * time.Millisecond}} {
		b := newBed(t)
		b.do(b.n.Shape("a", "b", shape))
		near, far := b.joined("a")
		say(t, near, "last words")
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = far.SetReadDeadline(time.Now().Add(20 * time.Second))
		if got, err := io.ReadAll(far); err != nil || string(got) != "last words" {
			t.Fatalf("%q, %v", got, err)
		}
		say(t, far, "answer")
		hear(t, near, "answer")

		near, far = b.joined("a")
		b.do(b.n.Cut("a", "b", Hole))
		if err := errors.Join(near.SetLinger(0), near.Close()); err != nil {
			t.Fatal(err)
		}
		silent(t, far)
		b.n.Heal()
		wasReset(t, far)
	}
}

func TestManyConnectionsLeaveNothingBehind(t *testing.T) {
	b := newBed(t)
	before := runtime.NumGoroutine()
	for i := range 60 {
		if i == 30 {
			b.do(b.n.Shape("a", "b", Shape{Delay: time.Millisecond}))
		}
		near, far := b.joined("a")
		say(t, near, "x")
		hear(t, far, "x")
		if i%3 == 0 {
			_ = near.SetLinger(0)
		}
		if err := errors.Join(near.Close(), far.Close()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before && b.conns("a") == 0 })
}

// TestSenderWaits: a sender whose bytes do not come through is stopped by the relay's bound.
func TestSenderWaits(t *testing.T) {
	b := newBed(t)
	near, _ := b.joined("a")
	b.do(b.n.Shape("a", "b", Shape{Delay: MaxDelay}))
	_ = near.SetWriteDeadline(time.Now().Add(time.Second))
	sent, err := io.Copy(near, bytes.NewReader(make([]byte, 64<<20)))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || sent < maxPiece {
		t.Errorf("sent %d bytes, %v; want a sender that waits", sent, err)
	}
}

func TestShapesAreChecked(t *testing.T) {
	b := newBed(t)
	for _, s := range []Shape{{Delay: -1}, {Delay: MaxDelay + 1}, {Jitter: -1}, {Rate: 5}, {Late: 1.1}, {Late: -1}, {LateBy: -1}} {
		if b.n.Shape("a", "b", s) == nil {
			t.Errorf("%+v was taken", s)
		}
	}
	if b.n.Shape("a", "c", Shape{}) == nil || b.n.Cut("c", "a", Hole) == nil {
		t.Error("a link that is not there was taken")
	}
}

// BenchmarkRoundTrip is 4 KiB there and back, without the relay and through one that has no shape.
func BenchmarkRoundTrip(b *testing.B) {
	for _, direct := range []bool{true, false} {
		b.Run(map[bool]string{true: "direct", false: "relayed"}[direct], func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			at := l.Addr().String()
			if !direct {
				n := New(slog.New(slog.DiscardHandler))
				defer n.Close()
				r, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
				if err != nil {
					b.Fatal(err)
				}
				n.Open("a", "b", at, r)
				at = r.Addr().String()
			}
			go func() {
				if c, err := l.Accept(); err == nil {
					_, _ = io.Copy(struct{ io.Writer }{c}, c)
				}
			}()
			c, err := net.Dial("tcp", at)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 4<<10)
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
