package transport

import (
	"context"
	"sync"
)

// inboxLimit is how many bytes of messages wait for a receiver; one message is let in whatever its size.
const inboxLimit = 1 << 20

// inbox is the receiving half of a stream. One goroutine pushes, one pops.
type inbox struct {
	mu    sync.Mutex // guards queue, bytes, err
	queue [][]byte
	bytes int
	err   error // what pop says after the queue

	ready chan struct{} // capacity one: pop may go on
	room  chan struct{} // capacity one: push may go on
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// push adds a message, waiting for room until ctx ends. It returns what ended the inbox, if anything has.
func (in *inbox) push(ctx context.Context, b []byte) error {
	for {
		in.mu.Lock()
		err := in.err
		fits := err == nil && (len(in.queue) == 0 || in.bytes+len(b) <= inboxLimit)
		if fits {
			in.queue = append(in.queue, b)
			in.bytes += len(b)
		}
		in.mu.Unlock()
		if err != nil {
			return err
		}
		if fits {
			poke(in.ready)
			return nil
		}
		select {
		case <-in.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pop takes the oldest message, or says how the stream ended.
func (in *inbox) pop() ([]byte, error) {
	for {
		in.mu.Lock()
		if len(in.queue) > 0 {
			b := in.queue[0]
			in.queue[0] = nil
			in.queue = in.queue[1:]
			in.bytes -= len(b)
			in.mu.Unlock()
			poke(in.room)
			return b, nil
		}
		err := in.err
		in.mu.Unlock()
		if err != nil {
			poke(in.ready) // for the next call
			return nil, err
		}
		<-in.ready
	}
}

// finish ends the inbox after what is queued; the first reason stays.
func (in *inbox) finish(err error) { in.end(err, false) }

// abort ends the inbox at once.
func (in *inbox) abort(err error) { in.end(err, true) }

func (in *inbox) end(err error, drop bool) {
	in.mu.Lock()
	if in.err == nil || drop && len(in.queue) > 0 { // a good end must not hide that messages were dropped
		in.err = err
	}
	if drop {
		in.queue, in.bytes = nil, 0
	}
	in.mu.Unlock()
	poke(in.ready)
	poke(in.room)
}

// ended is what ended the inbox, nil while it is open.
func (in *inbox) ended() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}
