package relocate

import (
	"context"
	"sync"
	"time"
)

// How long a move waits for the others of its convoy, and how long while its account is frozen.
const (
	meetWait   = 100 * time.Millisecond
	frozenWait = 25 * time.Millisecond
)

// convoy is of moves that go the same way. They take their steps together, so that what they write shares its way into the log and its fsyncs: most of what it costs to
// move a small account is commits.
type convoy struct {
	mu      sync.Mutex // guards the rest
	members int
	waiting int
	next    chan struct{} // closed when all have met
}

// seat is one move's in its convoy. It is for one goroutine.
type seat struct {
	convoy *convoy
	left   bool
	short  bool // the account is frozen
}

func newConvoy() *convoy { return &convoy{next: make(chan struct{})} }

// join gives a seat, before any member meets others.
func (c *convoy) join() seat {
	c.members++
	return seat{convoy: c}
}

// meet waits until all members have come to their next step, but not for long.
func (s *seat) meet(ctx context.Context) {
	if s.left {
		return
	}
	c := s.convoy
	c.mu.Lock()
	c.waiting++
	met := c.next
	c.goOn()
	c.mu.Unlock()
	wait := meetWait
	if s.short {
		wait = frozenWait
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-met:
		return
	case <-late.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == met { // else all have met just now
		c.waiting--
	}
}

// leave has the others go on alone.
func (s *seat) leave() {
	if s.left {
		return
	}
	s.left = true
	s.convoy.mu.Lock()
	defer s.convoy.mu.Unlock()
	s.convoy.members--
	s.convoy.goOn()
}

// goOn lets those who wait go if they are all. The caller holds mu.
func (c *convoy) goOn() {
	if c.waiting > 0 && c.waiting >= c.members {
		close(c.next)
		c.next, c.waiting = make(chan struct{}), 0
	}
}
