package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/liveness"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// Kinds of frames on a calls connection.
const (
	frameRequest = 1 // wire.Request; answered by a reply or an error of the same id
	frameReply   = 2 // the result
	frameError   = 3 // wire.Error
	frameCancel  = 4 // the caller of that id has gone
	framePing    = 5 // id: the sender's clock
	framePong    = 6 // id: that of the ping; channel: pongAils or 0
)

// pongAils says that the node answers and is not well.
const pongAils = 1

// firstTry bounds how long a call waits for the very first attempt to reach a peer.
const firstTry = time.Second

var (
	errSilent = errors.New("no answer to pings")
	errClosed = errors.New("transport closed")
	errDoubt  = wire.Errorf(wire.Unavailable, "the node is in doubt")
)

// caller is the dialling end of a calls connection: calls that wait for replies, and pings.
type caller struct {
	link  *wire.Link
	level feature.Level // that both ends know at least
	began time.Time
	next  atomic.Uint64

	detector *liveness.Detector
	first    chan struct{} // closed at the first pong
	ails     atomic.Bool   // so said the latest pong
	rtt      *atomic.Int64

	mu      sync.Mutex // guards waiting
	waiting map[uint64]chan wire.Frame
}

// connect dials the calls connection and waits for the first answer to a ping.
func (p *peer) connect() (*caller, error) {
	conn, err := p.n.dial(p.ctx, p, serviceRPC)
	if err != nil {
		return nil, p.compare(err)
	}
	_, level := splitProtocol(conn.ConnectionState().NegotiatedProtocol)
	c := &caller{
		level: level,
		link:  wire.NewLink(conn, MaxMessage), began: time.Now(), first: make(chan struct{}), rtt: &p.rtt,
		detector: liveness.NewDetector(p.n.cfg.timing.silence, p.late),
		waiting:  make(map[uint64]chan wire.Frame),
	}
	p.rtt.Store(0)
	if !p.n.spawn(c.read) {
		c.close()
		return nil, errClosed
	}
	c.ping()
	timer := time.NewTimer(p.n.cfg.timing.silence)
	defer timer.Stop()
	select {
	case <-c.first:
		return c, nil
	case <-c.link.Done():
		err = c.link.Err()
	case <-timer.C:
		err = errSilent
	case <-p.ctx.Done():
		err = errClosed
	}
	c.close()
	return nil, err
}

func (c *caller) close() {
	_ = c.link.Close() // it reports nothing
}

func (c *caller) ping() {
	c.link.SendUrgent(wire.Frame{Kind: framePing, ID: uint64(time.Since(c.began))}) // refused only when dead or as good as
}

// watch pings until the link dies or falls silent, and says which. Meanwhile the peer comes in doubt and out of it.
func (p *peer) watch(c *caller) error {
	now := time.Since(c.began)
	beat := -time.Duration(c.began.UnixNano()) // all nodes' pings meet, as far as their clocks agree: each wakes for several at once
	timer := time.NewTimer(c.detector.Start(now, beat, p.n.pingEvery()) - now)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.link.Done():
			return c.link.Err()
		case <-p.ctx.Done():
			return errClosed
		}
		now := time.Since(c.began)
		state, ping, next := c.detector.Tick(now, p.n.pingEvery())
		if state == liveness.Down {
			return errSilent
		}
		p.judge(c, state == liveness.Silent)
		if ping {
			c.ping()
		}
		timer.Reset(next - now)
	}
}

// read hands replies to their callers until the link dies, then fails the rest.
func (c *caller) read() {
	for {
		f, err := c.link.Read()
		if err != nil {
			break
		}
		if f.Kind == framePong {
			c.ails.Store(f.Channel == pongAils)
			c.pong(time.Duration(f.ID))
			continue
		}
		if ch := c.take(f.ID); ch != nil {
			ch <- f // capacity one, and nobody else took it
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.waiting {
		close(ch)
	}
	c.waiting = nil
}

// pong smooths the round-trip time by an eighth, as TCP does (RFC 6298 section 2).
func (c *caller) pong(sent time.Duration) {
	now := time.Since(c.began)
	if !c.detector.Answered(sent, now) {
		return
	}
	sample := int64(now - sent)
	if old := c.rtt.Load(); old != 0 {
		sample = old + (sample-old)/8
	}
	c.rtt.Store(max(sample, 1))
	select {
	case <-c.first:
	default:
		close(c.first)
	}
}

func (c *caller) take(id uint64) chan wire.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.waiting[id]
	delete(c.waiting, id)
	return ch
}

// call sends one request and waits for its reply, at most until ctx ends or enough is closed.
func (c *caller) call(ctx context.Context, enough <-chan struct{}, method string, body []byte) ([]byte, error) {
	deadline, _ := ctx.Deadline()
	request := wire.EncodeRequest(make([]byte, 0, len(method)+len(body)+16),
		wire.Request{Method: method, Wait: time.Until(deadline), Body: body})
	id, ch := c.next.Add(1), make(chan wire.Frame, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return nil, lost(c.link.Err())
	}
	c.waiting[id] = ch
	c.mu.Unlock()
	if err := c.link.Send(ctx, wire.Frame{Kind: frameRequest, ID: id, Payload: request}); err != nil {
		c.take(id)
		if ctx.Err() != nil {
			return nil, wire.FromError(ctx.Err())
		}
		return nil, lost(err)
	}
	select {
	case f, ok := <-ch:
		return c.result(f, ok)
	case <-ctx.Done():
	case <-enough:
	}
	if c.take(id) != nil {
		c.link.SendUrgent(wire.Frame{Kind: frameCancel, ID: id}) // a kindness: the deadline has travelled with the request
	}
	if ctx.Err() == nil {
		return nil, errDoubt
	}
	return nil, wire.FromError(ctx.Err())
}

func (c *caller) result(f wire.Frame, ok bool) ([]byte, error) {
	switch {
	case !ok:
		return nil, lost(c.link.Err())
	case f.Kind == frameReply:
		return f.Payload, nil
	case f.Kind == frameError:
		return nil, wire.DecodeError(f.Payload)
	}
	return nil, wire.Errorf(wire.Internal, "reply of unknown kind %d", f.Kind)
}

// lost is the error of a call whose connection broke: it may or may not have been carried out.
func lost(err error) error {
	return wire.Errorf(wire.Unavailable, "connection lost: %v", err)
}

// live returns the calls connection of a peer that is up, else fails at once. Only before the first
// attempt to reach the peer has ended it waits a little for that.
func (p *peer) live(ctx context.Context) (*caller, error) {
	if c := p.control.Load(); c != nil {
		return c, nil
	}
	select {
	case <-p.tried:
	default:
		timer := time.NewTimer(firstTry)
		defer timer.Stop()
		select {
		case <-p.tried:
		case <-timer.C:
		case <-ctx.Done():
			return nil, wire.FromError(ctx.Err())
		case <-p.ctx.Done():
		}
	}
	if c := p.control.Load(); c != nil {
		return c, nil
	}
	return nil, wire.Errorf(wire.Unavailable, "node %s is down", p.ID)
}

// Call asks a node to run a method and waits for its result, which is decoded into resp unless that is nil. It
// fails with a *wire.Error: the handler's own; Unavailable at once when the node is down, and when the connection breaks, in
// which case the method may have run; Deadline or Canceled with ctx. A ctx without a deadline gets 30 s.
func (n *Net) Call(ctx context.Context, node, method string, req, resp any) error {
	return n.callUntil(ctx, nil, node, method, req, resp)
}

// CallSound is Call for those who can turn to another node: it fails with Unavailable as soon as this one is in doubt, and at
// once if it is.
func (n *Net) CallSound(ctx context.Context, node, method string, req, resp any) error {
	return n.callUntil(ctx, n.Doubted(node), node, method, req, resp)
}

func (n *Net) callUntil(ctx context.Context, enough <-chan struct{}, node, method string, req, resp any) error {
	body, err := codec.Marshal(req)
	if err == nil {
		body, err = n.callBytes(ctx, enough, node, method, body)
	}
	if err == nil && resp != nil {
		err = codec.Unmarshal(body, resp)
	}
	if err != nil {
		return fmt.Errorf("call %s on %s: %w", method, node, err)
	}
	return nil
}

func (n *Net) callBytes(ctx context.Context, enough <-chan struct{}, node, method string, body []byte) ([]byte, error) {
	if len(body) > MaxMessage-1024 { // room for the method's name
		return nil, wire.Errorf(wire.Limit, "request of %d bytes", len(body))
	}
	select {
	case <-enough:
		return nil, errDoubt
	default:
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultCallWait)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, wire.FromError(err)
	}
	if node == n.cfg.ID {
		return n.callSelf(ctx, enough, method, body)
	}
	p, err := n.peer(node)
	if err != nil {
		return nil, err
	}
	c, err := p.live(ctx)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, enough, method, body)
}
