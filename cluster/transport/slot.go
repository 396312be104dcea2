package transport

import (
	"context"
	"io"
	"sync"
	"time"

	"hongyan/cluster/wire"
)

// slot holds the one connection of a service to a peer: dialled when first needed, by one goroutine
// for all who wait. It is also the circuit breaker: while the peer is down, or shortly after a failed dial, get fails at once.
type slot[T any] struct {
	p    *peer
	dial func(ctx context.Context) (T, io.Closer, <-chan struct{}, error) // the channel is closed when it dies

	mu      sync.Mutex // guards the rest
	value   T
	closer  io.Closer       // nil: none
	died    <-chan struct{} // of value
	dialing chan struct{}   // closed when the dial under way has ended; nil: none
	wait    time.Duration   // before the next dial
	retryAt time.Time
	err     error // of the last dial
}

func newSlot[T any](p *peer, dial func(ctx context.Context) (T, io.Closer, <-chan struct{}, error)) *slot[T] {
	return &slot[T]{p: p, dial: dial}
}

// get returns a live connection, or an error at once when there is none to be had.
func (s *slot[T]) get(ctx context.Context) (T, error) {
	for {
		value, ok, dialing, err := s.peek()
		if ok || err != nil {
			return value, err
		}
		select {
		case <-dialing:
		case <-ctx.Done():
			return value, wire.FromError(ctx.Err())
		}
	}
}

// await is get for those who would rather wait than fail: it waits for the peer, and through failed dials, until ctx or the peer ends.
func (s *slot[T]) await(ctx context.Context) (T, error) {
	for {
		select {
		case <-s.p.waitUp():
		case <-ctx.Done():
			var none T
			return none, wire.Errorf(wire.Unavailable, "node %s is down", s.p.ID)
		case <-s.p.ctx.Done():
			var none T
			return none, s.p.gone()
		}
		value, err := s.get(ctx)
		if err == nil || ctx.Err() != nil {
			return value, err
		}
		select {
		case <-time.After(s.p.n.cfg.timing.redialMin):
		case <-ctx.Done():
			return value, err
		}
	}
}

// peek returns the live connection, or else a dial to wait for, or else why there is neither.
func (s *slot[T]) peek() (value T, ok bool, dialing <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closer != nil {
		select {
		case <-s.died:
			s.drop()
		default:
			return s.value, true, nil, nil
		}
	}
	if s.dialing != nil {
		return value, false, s.dialing, nil
	}
	switch {
	case s.p.control.Load() == nil:
		return value, false, nil, wire.Errorf(wire.Unavailable, "node %s is down", s.p.ID)
	case time.Now().Before(s.retryAt):
		return value, false, nil, wire.Errorf(wire.Unavailable, "node %s: %v", s.p.ID, s.err)
	}
	s.dialing = make(chan struct{})
	if !s.p.n.spawn(s.connect) {
		s.dialing = nil
		return value, false, nil, wire.Errorf(wire.Unavailable, "this node is closing")
	}
	return value, false, s.dialing, nil
}

// connect dials once and leaves the outcome in the slot.
func (s *slot[T]) connect() {
	value, closer, died, err := s.dial(s.p.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.dialing)
	s.dialing = nil
	s.err = err
	if err != nil {
		s.wait = min(max(2*s.wait, s.p.n.cfg.timing.redialMin), s.p.n.cfg.timing.redialMax)
		s.retryAt = time.Now().Add(s.wait)
		return
	}
	s.wait = 0
	s.value, s.closer, s.died = value, closer, died
	if s.p.control.Load() == nil { // went down meanwhile, when there was nothing for reset to close
		s.drop()
	}
}

// reset closes the connection and forgets earlier failures.
func (s *slot[T]) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	s.wait, s.retryAt = 0, time.Time{}
}

// drop closes the connection. Its users learn from the connection itself. s.mu is held.
func (s *slot[T]) drop() {
	if s.closer != nil {
		_ = s.closer.Close() // it is dead or about to be
	}
	var none T
	s.value, s.closer, s.died = none, nil, nil
}
