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
	writeSelf    = 16 << 10         // bytes that a sender writes itself
)

// ErrLinkClosed is wrapped by errors of a link that is no more.
var ErrLinkClosed = errors.New("link closed")

// Link carries frames over one connection. One goroutine may call Read; any may send.
//
// Sending copies the frame into a buffer. Who sends while nobody writes does so himself, if the connection is one that need not wait for the peer (Socket): no
// other goroutine has to wake up. While he does, frames gather, and a writer goroutine writes all of them in one call, so that frames sent at the same time share a TLS
// record and a system call. It also writes what is much, and what the kernel does not take at once.
// Urgent frames (pings, heartbeats, votes) have a buffer of their own that is always written first.
type Link struct {
	conn   net.Conn
	socket *Socket // below conn; nil: only the writer goroutine writes
	reader *frameReader

	mu      sync.Mutex // guards queue, urgent, space, writing, err
	queue   []byte
	urgent  []byte
	space   chan struct{} // closed when queue has been taken to be written; nil when nobody waits
	writing bool          // somebody writes, or is about to: idle and idleUrgent are his
	err     error

	idle, idleUrgent []byte // to gather in while queue and urgent are written

	large   chan struct{} // a place for each payload of several pieces that is being sent
	wake    chan struct{} // capacity one: the writer goroutine is to write
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
	if s, ok := below(conn).(interface{ socket() *Socket }); ok {
		l.socket = s.socket()
	}
	go l.write()
	return l
}

// below is the connection that carries TLS, if conn is that.
func below(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return conn
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
			l.unlockAndWrite()
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
	l.unlockAndWrite()
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
	if l.err != nil || len(*buffer) >= limit {
		l.mu.Unlock()
		return false
	}
	h := header{kind: f.Kind, channel: f.Channel, id: f.ID, length: uint32(len(f.Payload)), total: uint32(len(f.Payload))}
	*buffer = append(appendHeader(*buffer, h), f.Payload...)
	l.unlockAndWrite()
	return true
}

// unlockAndWrite has what was gathered written, by the caller or the writer goroutine, unless somebody is writing. The caller holds the lock.
func (l *Link) unlockAndWrite() {
	if l.writing {
		l.mu.Unlock()
		return
	}
	l.writing = true
	if l.socket == nil || len(l.queue)+len(l.urgent) > writeSelf {
		l.mu.Unlock()
		l.wake <- struct{}{} // it has room: only who sets writing sends
		return
	}
	urgent, queue := l.swap()
	l.mu.Unlock()
	l.socket.Keep(true)
	err := l.send(urgent, queue)
	l.socket.Keep(false)
	if err != nil {
		l.fail(fmt.Errorf("write frames: %w", err))
		return
	}
	if l.wrote(urgent, queue, l.socket.Kept()) {
		l.wake <- struct{}{}
	}
}

// swap takes what has gathered. The caller holds the lock, and is the one who writes.
func (l *Link) swap() (urgent, queue []byte) {
	urgent, queue = l.urgent, l.queue
	l.urgent, l.queue = l.idleUrgent, l.idle
	l.idleUrgent, l.idle = nil, nil
	if l.space != nil {
		close(l.space)
		l.space = nil
	}
	return urgent, queue
}

// wrote gives back what swap took. It says whether there is more to write, which is then still up to the caller; kept is that the socket has kept something.
func (l *Link) wrote(urgent, queue []byte, kept bool) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle, l.idleUrgent = recycled(queue), recycled(urgent)
	l.writing = kept || len(l.queue)+len(l.urgent) > 0
	return l.writing
}

// write is the writer goroutine: it is woken when writing was set for it, and writes until nothing is left.
func (l *Link) write() {
	defer close(l.stopped)
	for {
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
		if err := l.drain(); err != nil {
			l.fail(fmt.Errorf("write frames: %w", err))
			return
		}
	}
}

// drain writes what was kept and what gathers, and waits for the peer meanwhile.
func (l *Link) drain() error {
	for {
		if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if l.socket != nil {
			if err := l.socket.Flush(); err != nil {
				return err
			}
		}
		l.mu.Lock()
		urgent, queue := l.swap()
		l.mu.Unlock()
		if err := l.send(urgent, queue); err != nil {
			return err
		}
		if err := l.conn.SetWriteDeadline(time.Time{}); err != nil { // who writes himself sets none
			return err
		}
		if !l.wrote(urgent, queue, false) {
			return nil
		}
	}
}

func (l *Link) send(urgent, queue []byte) error {
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
	_ = below(l.conn).Close() // nothing is owed to the peer of a dead link; closing TLS properly would wait for one that may be stuck
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
