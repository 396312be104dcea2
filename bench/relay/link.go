package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	maxConns = 1024     // of one link; more are reset
	maxEarly = 64 << 10 // bytes of a connection that is not through yet
)

// link is where one node dials another.
type link struct {
	n       *Network
	target  string
	l       *net.TCPListener
	out, in *way // from the dialler, and to it

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	ended bool
}

func (k *link) accept() {
	for {
		a, err := k.l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			k.n.log.Warn("relay: accept", "to", k.target, "error", err)
			select {
			case <-k.n.ctx.Done():
			case <-time.After(acceptPause):
			}
		default:
			k.n.wg.Go(func() { k.carry(a) })
		}
	}
}

// carry is the life of one connection.
func (k *link) carry(a *net.TCPConn) {
	c := &conn{k: k, a: a, gone: make(chan struct{})}
	defer c.close()
	if !k.add(c) {
		c.abort()
		return
	}
	defer k.remove(c)
	early, ok := c.connect()
	if !ok {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { newPump(c, k.out, c.a, c.b).run(early) })
	wg.Go(func() { newPump(c, k.in, c.b, c.a).run(nil) })
	wg.Wait()
}

func (k *link) add(c *conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.conns) >= maxConns || k.ended || k.n.ctx.Err() != nil {
		return false
	}
	k.conns[c] = struct{}{}
	return true
}

func (k *link) remove(c *conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

// end resets all connections for good.
func (k *link) end() {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.abort()
}

// abort resets all connections.
func (k *link) abort() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		c.abort()
	}
}

// conn is one connection: a is the dialler's side.
type conn struct {
	k    *link
	a    *net.TCPConn
	gone chan struct{} // closed once it was reset

	mu    sync.Mutex // guards what follows
	b     *net.TCPConn
	ended bool
}

// connect does what a handshake does: it takes a round trip, and does not come about on ways that are cut. What the dialler sends
// meanwhile is returned. False means that the connection has ended.
func (c *conn) connect() (early []byte, ok bool) {
	k := c.k
	k.out.join(c.a)
	k.in.join(c.a)
	defer k.in.leave(c.a)
	defer k.out.leave(c.a)
	for {
		_ = c.a.SetReadDeadline(time.Time{}) // step 1; fails only when closed, and so will the read
		there, cut, changed := k.out.state() // step 2
		back, cutBack, changedBack := k.in.state()
		if cut == Reset || cutBack == Reset {
			c.abort()
			return nil, false
		}
		if cut == Whole && cutBack == Whole {
			t := time.NewTimer(there.Delay + back.Delay)
			select {
			case <-t.C:
				return early, c.dial()
			case <-changed:
			case <-changedBack:
			case <-c.gone:
				return nil, false
			}
			t.Stop()
			continue
		}
		if early, ok = c.hold(early, changed, changedBack); !ok {
			c.abort()
			return nil, false
		}
	}
}

// hold reads from a dialler that is left unanswered, to learn when it gives up. It returns at a change.
func (c *conn) hold(early []byte, changed, changedBack <-chan struct{}) ([]byte, bool) {
	if len(early) == maxEarly {
		select {
		case <-changed:
		case <-changedBack:
		case <-c.gone:
			return early, false
		}
		return early, true
	}
	buf := make([]byte, min(minPiece, maxEarly-len(early)))
	n, err := c.a.Read(buf) // step 3
	return append(early, buf[:n]...), err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// dial reaches the target. One that does not listen resets the dialler, which is as much of a refusal as it can get by now.
func (c *conn) dial() bool {
	b, err := net.DialTimeout("tcp", c.k.target, dialTimeout)
	if err != nil {
		c.abort()
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b, _ = b.(*net.TCPConn) // it is one: the network is "tcp"
	if c.ended {
		c.shut(true)
		return false
	}
	return true
}

// abort resets both ends. What was held back is lost.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		close(c.gone)
		c.shut(true)
	}
}

// close ends a connection whose streams have both ended.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		c.shut(false)
	}
}

// shut is called with the lock held. Its calls fail only on what is closed already.
func (c *conn) shut(reset bool) {
	for _, x := range []*net.TCPConn{c.a, c.b} {
		if x == nil {
			continue
		}
		if reset {
			_ = x.SetLinger(0)
		}
		_ = x.Close()
	}
}
