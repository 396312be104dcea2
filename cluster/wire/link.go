package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Limits of a link.
const (
	queueLimit   = 256 << 10        // bytes that wait to be written before senders wait too
	urgentLimit  = 256 << 10        // the same for urgent frames, which are refused beyond it
	writeTimeout = 10 * time.Second // one flush that takes longer means a dead connection
	keepBuffer   = 1 << 20          // a write buffer that grew beyond this is given back
)

// ErrLinkClosed is wrapped by errors of a link that is no more.
var ErrLinkClosed = errors.New("link closed")

// Link carries frames over one connection. One goroutine may call Read; any may send.
//
// Sending copies the frame into a buffer. One writer goroutine takes all that has gathered and
// writes it in one call, so frames sent at the same time share a TLS record and a system call.
// Urgent frames (pings, heartbeats, votes) have a buffer of their own that is always written first.
type Link struct {
	conn   net.Conn
	reader *frameReader

	mu     sync.Mutex // guards queue, urgent, space, err
	queue  []byte
	urgent []byte
	space  chan struct{} // closed when queue has been taken by the writer; nil when nobody waits
	err    error

	large   chan struct{} // a place for each payload of several pieces that is being sent
	wake    chan struct{} // capacity one: there is something to write
	done    chan struct{} // closed when the link has died
	stopped chan struct{} // closed when the writer has returned
}

// NewLink takes over conn. maxPayload bounds what a peer may send in one frame's payload.
func NewLink(conn net.Conn, maxPayload int) *Link {
	l := &Link{
		conn:    conn,
		reader:  newFrameReader(conn, maxPayload),
		large:   make(chan struct{}, maxPartial),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go l.write()
	return l
}

// Read returns the next frame; its payload belongs to the caller. After an error the link is dead.
func (l *Link) Read() (Frame, error) {
	f, err := l.reader.next()
	if err != nil {
		l.fail(fmt.Errorf("read frame: %w", err))
		return Frame{}, l.Err()
	}
	return f, nil
}

// Send queues a frame, waiting for room until ctx ends. Large payloads go in pieces, between which
// others may slip in. Success means queued, not received.
func (l *Link) Send(ctx context.Context, f Frame) error {
	h := header{kind: f.Kind, channel: f.Channel, id: f.ID, total: uint32(len(f.Payload))}
	if len(f.Payload) > MaxPiece {
		select {
		case l.large <- struct{}{}:
			defer func() { <-l.large }()
		case <-l.done:
			return l.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for at := 0; ; {
		piece := f.Payload[at:min(len(f.Payload), at+MaxPiece)]
		h.length, h.flags = uint32(len(piece)), 0
		if at+len(piece) < len(f.Payload) {
			h.flags = flagMore
		}
		if err := l.enqueue(ctx, h, piece); err != nil {
			if at > 0 {
				l.abandon(h)
			}
			return err
		}
		if at += len(piece); h.flags == 0 {
			return nil
		}
	}
}

// enqueue adds one piece when there is room for it.
func (l *Link) enqueue(ctx context.Context, h header, piece []byte) error {
	for {
		l.mu.Lock()
		if l.err != nil {
			defer l.mu.Unlock()
			return l.err
		}
		if len(l.queue) < queueLimit {
			l.queue = append(appendHeader(l.queue, h), piece...)
			l.mu.Unlock()
			l.signal()
			return nil
		}
		if l.space == nil {
			l.space = make(chan struct{})
		}
		space := l.space
		l.mu.Unlock()
		select {
		case <-space:
		case <-l.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// abandon tells the peer to forget the pieces of a payload that will not be completed. Being
// just a header, it is let in over the limit.
func (l *Link) abandon(h header) {
	h.flags, h.length = flagDrop, 0
	l.mu.Lock()
	l.queue = appendHeader(l.queue, h)
	l.mu.Unlock()
	l.signal()
}

// SendUrgent queues a small frame ahead of the others and never waits: it reports false when the
// link is dead or the peer has not taken what was urgent before.
func (l *Link) SendUrgent(f Frame) bool { return l.offer(&l.urgent, urgentLimit, f) }

// TrySend queues a small frame behind the others if there is room for it at once.
func (l *Link) TrySend(f Frame) bool { return l.offer(&l.queue, queueLimit, f) }

// offer adds a frame of one piece to a buffer, one of the two, that is not full.
func (l *Link) offer(buffer *[]byte, limit int, f Frame) bool {
	if len(f.Payload) > MaxPiece {
		return false
	}
	l.mu.Lock()
	ok := l.err == nil && len(*buffer) < limit
	if ok {
		h := header{kind: f.Kind, channel: f.Channel, id: f.ID, length: uint32(len(f.Payload)), total: uint32(len(f.Payload))}
		*buffer = append(appendHeader(*buffer, h), f.Payload...)
	}
	l.mu.Unlock()
	if ok {
		l.signal()
	}
	return ok
}

func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write is the writer goroutine: it swaps its two empty buffers for the full ones and writes them.
func (l *Link) write() {
	defer close(l.stopped)
	var queue, urgent []byte
	for {
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
		for {
			l.mu.Lock()
			queue, l.queue = l.queue, recycled(queue)
			urgent, l.urgent = l.urgent, recycled(urgent)
			if l.space != nil {
				close(l.space)
				l.space = nil
			}
			l.mu.Unlock()
			if len(queue)+len(urgent) == 0 {
				break
			}
			if err := l.flush(urgent, queue); err != nil {
				l.fail(fmt.Errorf("write frames: %w", err))
				return
			}
		}
	}
}

func (l *Link) flush(urgent, queue []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	for _, b := range [...][]byte{urgent, queue} {
		if len(b) == 0 {
			continue
		}
		if _, err := l.conn.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func recycled(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}

// fail kills the link; the first reason stays.
func (l *Link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = fmt.Errorf("%w: %w", ErrLinkClosed, err)
	close(l.done)
	conn := l.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn() // closing TLS properly would wait for a peer that may be stuck
	}
	_ = conn.Close() // nothing is owed to the peer of a dead link
}

// Close kills the link and waits for its writer. A blocked Read returns.
func (l *Link) Close() error {
	l.fail(errors.New("closed here"))
	<-l.stopped
	return nil
}

// Done is closed when the link has died.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err says why the link died; nil while it lives.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
