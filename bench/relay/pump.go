package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const maxQueue = 256 // pieces

// pump moves the bytes of one direction of one connection. Its reader takes them from src and, when the way has a shape, puts
// them with the time at which they are due into a queue, which its writer empties into dst. Without a shape, and once
// the queue is empty, the reader has the kernel move them.
type pump struct {
	c        *conn
	w        *way
	src, dst *net.TCPConn
	queue    chan piece
	held     atomic.Int64  // pieces in the queue or with the writer
	idle     chan struct{} // has room for one; filled when held has become 0
	last     time.Time     // when the piece before was due; the reader's
}

// piece is some bytes, or how the stream ended behind them: io.EOF for FIN, anything else for RST.
type piece struct {
	b   []byte
	end error
	due time.Time
}

func newPump(c *conn, w *way, src, dst *net.TCPConn) *pump {
	return &pump{c: c, w: w, src: src, dst: dst, queue: make(chan piece, maxQueue), idle: make(chan struct{}, 1)}
}

// run returns when the stream has ended and everything before its end has gone out, or when the connection was reset.
func (p *pump) run(early []byte) {
	p.w.join(p.src)
	defer p.w.carried(p.src)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(p.queue)
	wg.Go(p.write)
	for len(early) > 0 {
		n := min(len(early), maxPiece)
		if !p.push(early[:n], nil) {
			return
		}
		early = early[n:]
	}
	p.read()
}

func (p *pump) read() {
	var buf []byte
	for {
		_ = p.src.SetReadDeadline(time.Time{}) // step 1 of way.change; fails only when closed, and so will the read
		shape, cut, changed := p.w.state()     // step 2
		var n int
		var err error
		switch {
		case cut != Whole:
			select {
			case <-changed:
			case <-p.c.gone:
				return
			}
			continue
		case shape != Shape{}:
			if buf == nil {
				buf = make([]byte, maxPiece)
			}
			n, err = p.src.Read(buf[:shape.piece()]) // step 3
		case !p.drained(changed):
			continue
		default:
			buf = nil
			if _, err = p.dst.ReadFrom(p.src); err == nil { // step 3; moves everything up to the stream's end
				err = io.EOF
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		if n > 0 && !p.push(bytes.Clone(buf[:n]), nil) {
			return
		}
		if err != nil {
			p.push(nil, err)
			return
		}
	}
}

// drained waits until the queue is empty. It is false when the way changed first, or the connection was reset: then so says
// the next read or wait.
func (p *pump) drained(changed <-chan struct{}) bool {
	for p.held.Load() > 0 {
		select {
		case <-p.idle:
		case <-changed:
			return false
		case <-p.c.gone:
			return true
		}
	}
	return true
}

// push queues a piece and waits as long as the line asks. It is false when the connection was reset.
func (p *pump) push(b []byte, end error) bool {
	due, wait := p.w.send(len(b))
	if due.Before(p.last) {
		due = p.last
	}
	p.last = due
	p.held.Add(1)
	select {
	case p.queue <- piece{b, end, due}:
	case <-p.c.gone:
		return false
	}
	_, _, changed := p.w.state()
	return wait <= 0 || p.sleep(wait, changed)
}

// sleep is cut short by a change, which may be nil, and false when the connection was reset.
func (p *pump) sleep(d time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-p.c.gone:
		return false
	}
	return true
}

func (p *pump) write() {
	for k := range p.queue {
		if d := time.Until(k.due); d > 0 && !p.sleep(d, nil) || !p.w.whole(p.c.gone) {
			return
		}
		err := k.end
		switch {
		case k.end == nil:
			_, err = p.dst.Write(k.b)
		case errors.Is(k.end, io.EOF):
			err = p.dst.CloseWrite()
		}
		if err != nil {
			p.fail()
			return
		}
		if p.held.Add(-1) == 0 {
			select {
			case p.idle <- struct{}{}:
			default:
			}
		}
	}
}

// fail resets the connection, because one of its ends did. Which of them is not always known, so a reset passes once neither way is cut.
func (p *pump) fail() {
	if p.c.k.out.whole(p.c.gone) && p.c.k.in.whole(p.c.gone) {
		p.c.abort()
	}
}
