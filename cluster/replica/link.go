package replica

import (
	"context"
	"fmt"
	"time"

	"hongyan/cluster/transport"
)

// link is the one stream from a primary to one other copy. Its queue and its acknowledgement are guarded by
// the primary's mutex; one goroutine sends, one receives.
type link struct {
	p      *primary
	node   string
	stream *transport.Stream
	wake   chan struct{} // capacity one: the queue has something

	queue    [][]byte // frames, the last one with room perhaps
	queued   int      // bytes in queue
	end      int64    // where the queue ends in the file
	acked    streamAck
	progress time.Time // when the copy last got on, or began to owe
}

// dial opens the stream; the copy's file exists when it returns.
func (p *primary) dial(ctx context.Context, node string, open streamOpen) (*link, error) {
	stream, err := p.m.cfg.Net.Open(p.ctx, node, methodStream)
	if err != nil {
		return nil, err
	}
	undo := context.AfterFunc(ctx, func() { _ = stream.Close() }) // ctx bounds the opening only
	defer undo()
	l := &link{p: p, node: node, stream: stream, wake: make(chan struct{}, 1), progress: time.Now()}
	if err := stream.SendValue(open); err != nil {
		_ = stream.Close()
		return nil, fmt.Errorf("send header: %w", err)
	}
	if err := stream.RecvValue(&l.acked); err != nil {
		_ = stream.Close()
		return nil, fmt.Errorf("await file: %w", err)
	}
	if l.acked.Durable != p.tapped || l.acked.Received != p.tapped {
		_ = stream.Close()
		return nil, fmt.Errorf("copy begins at %d, expected %d", l.acked.Durable, p.tapped)
	}
	l.end = p.tapped
	return l, nil
}

// enqueue is called under the primary's mutex. The bytes are copied: the writer goes on to use its buffer.
func (l *link) enqueue(off int64, b []byte, now time.Time) {
	if !l.owes() {
		l.progress = now
	}
	l.end = off + int64(len(b))
	l.queued += len(b)
	for len(b) > 0 {
		var frame []byte
		if n := len(l.queue); n > 0 && len(l.queue[n-1]) < frameHead+frameRoom {
			frame = l.queue[n-1]
			l.queue = l.queue[:n-1]
		} else {
			frame = newFrame(off, min(frameRoom, max(len(b), 16<<10)))
		}
		n := min(len(b), frameHead+frameRoom-len(frame))
		l.queue = append(l.queue, append(frame, b[:n]...))
		b, off = b[n:], off+int64(n)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// owes says whether the copy has not fsynced all that was tapped. Called under the primary's mutex.
func (l *link) owes() bool { return l.acked.Received < l.end }

// send is the goroutine that empties the queue into the stream.
func (l *link) send() {
	for {
		select {
		case <-l.wake:
		case <-l.p.ctx.Done():
			return
		}
		for {
			frame := l.take()
			if frame == nil {
				break
			}
			if err := l.stream.Send(frame); err != nil {
				l.broken("send", err)
				return
			}
		}
	}
}

func (l *link) take() []byte {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	frame := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.queued -= len(frame) - frameHead
	l.p.room.Broadcast()
	return frame
}

// receive is the goroutine that takes acknowledgements.
func (l *link) receive() {
	for {
		var ack streamAck
		if err := l.stream.RecvValue(&ack); err != nil {
			l.broken("await acknowledgement", err)
			return
		}
		if err := l.acknowledge(ack); err != nil {
			l.broken("acknowledgement", err)
			return
		}
	}
}

func (l *link) acknowledge(ack streamAck) error {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if ack.Received > l.end || ack.Durable > ack.Received || ack.Durable < l.acked.Durable {
		return fmt.Errorf("durable %d of %d received after %d of %d sent", ack.Durable, ack.Received, l.acked.Durable, l.end)
	}
	if ack.Received > l.acked.Received || ack.Durable > l.acked.Durable {
		l.progress = time.Now()
	}
	l.acked = ack
	if p.phase != fenced {
		p.release()
	}
	return nil
}

// broken ends the volume: there is no second stream to a copy.
func (l *link) broken(doing string, err error) {
	if l.p.ctx.Err() != nil { // fenced already, or this node stops
		l.p.fence(errRetired)
		return
	}
	l.p.m.avoidAfter(l.node, err)
	l.p.fence(fmt.Errorf("stream to %s: %s: %w", l.node, doing, err))
}

// hangUp frees whoever waits in the stream. What a close of a broken stream says is of no use.
func (l *link) hangUp() { _ = l.stream.Close() }
