package relay

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Cut says whether bytes move on a way.
type Cut string

// The states of a way.
const (
	Whole Cut = ""
	Hole  Cut = "cut"   // nothing moves, connections stay open
	Reset Cut = "reset" // connections end with RST, new ones too
)

// Shape is how bytes move on a way. The zero value is the bare loopback device.
type Shape struct {
	Delay  time.Duration `json:"delay,omitempty"`   // one way, in nanoseconds: half a round trip
	Jitter time.Duration `json:"jitter,omitempty"`  // a piece's delay is up to so much more or less
	Rate   int64         `json:"rate,omitempty"`    // bytes a second of all connections together; 0: no limit
	Late   float64       `json:"late,omitempty"`    // share of pieces that come LateBy later still, 0 to 1
	LateBy time.Duration `json:"late_by,omitempty"` // as by a packet that was lost and sent again
}

// Bounds of a shape.
const (
	MaxDelay = 30 * time.Second
	MinRate  = 1 << 10
)

// Check says what is wrong with a shape.
func (s Shape) Check() error {
	switch {
	case s.Delay < 0 || s.Delay > MaxDelay:
		return fmt.Errorf("delay %v: expected 0 to %v", s.Delay, MaxDelay)
	case s.Jitter < 0 || s.Jitter > MaxDelay:
		return fmt.Errorf("jitter %v: expected 0 to %v", s.Jitter, MaxDelay)
	case s.Rate != 0 && s.Rate < MinRate:
		return fmt.Errorf("rate %d: expected at least %d bytes a second, or 0 for no limit", s.Rate, MinRate)
	case !(s.Late >= 0 && s.Late <= 1): // and no NaN
		return fmt.Errorf("late share %v: expected 0 to 1", s.Late)
	case s.LateBy < 0 || s.LateBy > MaxDelay:
		return fmt.Errorf("late by %v: expected 0 to %v", s.LateBy, MaxDelay)
	}
	return nil
}

const (
	maxPiece = 32 << 10              // bytes
	minPiece = 1 << 10               //
	ahead    = 20 * time.Millisecond // how far the readers may run ahead of a line with a rate, and about a piece's time on it
)

// way is one direction between two nodes.
type way struct {
	mu      sync.Mutex // guards what follows
	shape   Shape
	cut     Cut
	changed chan struct{}             // closed at the next change
	readers map[*net.TCPConn]struct{} // whose reads are to be interrupted then
	free    time.Time                 // when the line will have sent what it was given
	moved   int64                     // bytes of connections that have ended
}

func newWay() *way {
	return &way{changed: make(chan struct{}), readers: make(map[*net.TCPConn]struct{})}
}

// change does something to the state and then wakes everybody who acts on the old one.
//
// A reader 1 clears its deadline, 2 looks at the state, 3 reads. A change that step 2 missed therefore comes with a deadline that
// step 1 cannot have cleared, and the read ends at once. What arrives in that very moment it may still take: a splice then moves it as
// the old state says, a read queues it as the new one does.
func (w *way) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	w.free = time.Time{}
	close(w.changed)
	w.changed = make(chan struct{})
	for c := range w.readers {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, and so will the read
	}
}

func (w *way) state() (Shape, Cut, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shape, w.cut, w.changed
}

func (w *way) join(c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readers[c] = struct{}{}
}

func (w *way) leave(c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.readers, c)
}

// carried notes what a connection that ends has brought.
func (w *way) carried(c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved += received(c)
	delete(w.readers, c)
}

// bytes have come to be sent this way so far. Those of a connection that was reset are missing.
func (w *way) bytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.moved
	for c := range w.readers {
		n += received(c)
	}
	return n
}

// whole waits until the way is not cut. It is false when the connection went first.
func (w *way) whole(gone <-chan struct{}) bool {
	for {
		_, cut, changed := w.state()
		if cut == Whole {
			return true
		}
		select {
		case <-changed:
		case <-gone:
			return false
		}
	}
}

// send puts n bytes on the line. It gives the time at which they come out, and how long the sender shall wait before it sends more.
func (w *way) send(n int) (due time.Time, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, now := w.shape, time.Now()
	due = now
	if s.Rate > 0 {
		if w.free.Before(now) {
			w.free = now
		}
		w.free = w.free.Add(time.Duration(float64(n) / float64(s.Rate) * float64(time.Second)))
		due, wait = w.free, w.free.Sub(now)-ahead
	}
	delay := s.Delay
	if s.Jitter > 0 {
		delay = max(0, delay+rand.N(2*s.Jitter)-s.Jitter)
	}
	if s.Late > 0 && rand.Float64() < s.Late {
		delay += s.LateBy
	}
	return due.Add(delay), wait
}

// piece is how many bytes are best read at a time.
func (s Shape) piece() int {
	if s.Rate == 0 {
		return maxPiece
	}
	return int(min(max(minPiece, float64(s.Rate)*ahead.Seconds()), maxPiece))
}
