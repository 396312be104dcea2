package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// Stream is a two-way flow of messages between a caller and a handler. One goroutine may send while
// another receives.
//
// The caller's deadline is the stream's: when it passes, or either end goes away, both ends' calls return. Send waits while
// the other end is behind. The stream ends well when the handler returns nil: the caller's Recv then gives io.EOF after
// the last message; a caller's Send may give it earlier. The caller always calls Close; before the end that cancels the handler.
type Stream struct {
	caller bool // this is the end that opened the stream
	ctx    context.Context
	cancel context.CancelFunc
	stop   func() bool // undoes the watch of ctx
	in     *inbox
	out    outlet
	sendMu sync.Mutex // one message at a time
}

// outlet is the sending half: a yamux stream, or another stream's inbox in the same process.
type outlet interface {
	send(kind uint8, payload []byte) error // waits for room
	interrupt()                            // sends that wait for room fail from now on
	abort()                                // the same, and the other end learns that this one has gone
}

// Kinds of messages on a stream.
const (
	messageData = 1
	messageEnd  = 2 // the sender has no more; from a handler, how it ended: nothing, or a wire.Error
	messageOpen = 3 // the first on a stream: wire.Request
)

func newStream(ctx context.Context, cancel context.CancelFunc, caller bool, in *inbox, out outlet) *Stream {
	s := &Stream{caller: caller, ctx: ctx, cancel: cancel, in: in, out: out}
	s.stop = context.AfterFunc(ctx, func() {
		in.abort(wire.FromError(ctx.Err()))
		if caller {
			out.abort()
		} else {
			out.interrupt() // the handler will return and its error be sent
		}
	})
	return s
}

// Send queues one message, waiting while the other end is behind. p may be used again when it returns. Only while the
// connection itself is stuck it may outlast the deadline, at most until the silent peer is given up.
func (s *Stream) Send(p []byte) error {
	if len(p) > MaxMessage {
		return wire.Errorf(wire.Limit, "message of %d bytes", len(p))
	}
	return s.send(messageData, p)
}

func (s *Stream) send(kind uint8, p []byte) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	if s.ctx.Err() != nil {
		return wire.FromError(s.ctx.Err())
	}
	err := s.out.send(kind, p)
	if err == nil {
		return nil
	}
	if s.ctx.Err() != nil {
		return wire.FromError(s.ctx.Err())
	}
	if ended := s.in.ended(); s.caller && ended != nil { // how the handler ended tells more than the broken pipe
		return ended
	}
	var typed *wire.Error
	if errors.As(err, &typed) {
		return typed
	}
	return lost(err)
}

// Recv returns the next message, io.EOF after the last, or the error that ended the stream. The message is the caller's to keep.
func (s *Stream) Recv() ([]byte, error) { return s.in.pop() }

// SendValue sends v encoded.
func (s *Stream) SendValue(v any) error {
	b, err := codec.Marshal(v)
	if err != nil {
		return err
	}
	return s.Send(b)
}

// RecvValue receives one message and decodes it into v.
func (s *Stream) RecvValue(v any) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	return codec.Unmarshal(b, v)
}

// CloseSend says that no more messages follow; the handler's Recv then gives io.EOF.
func (s *Stream) CloseSend() error { return s.send(messageEnd, nil) }

// Context ends when the stream does.
func (s *Stream) Context() context.Context { return s.ctx }

// Close gives the stream up. It is safe to call at any time and more than once.
func (s *Stream) Close() error {
	s.stop()
	s.in.abort(wire.Errorf(wire.Canceled, "stream closed"))
	s.out.abort()
	s.cancel()
	return nil
}

// StreamHandler serves a stream. ctx ends when the caller has gone or its time is up; the stream is closed when the handler returns.
type StreamHandler func(ctx context.Context, from string, s *Stream) error

// Handle registers the handler of a stream, before Serve.
func (n *Net) Handle(method string, h func(ctx context.Context, from string, s *Stream) error) {
	n.register(method)
	n.streams[method] = h
}

// Open starts a stream to a handler on a node, possibly this one. The stream lives until ctx ends or it is closed. A missing
// handler or an overloaded node shows at the first Recv.
func (n *Net) Open(ctx context.Context, node, method string) (*Stream, error) {
	s, err := n.open(ctx, node, method)
	if err != nil {
		return nil, fmt.Errorf("open %s on %s: %w", method, node, err)
	}
	return s, nil
}

func (n *Net) open(ctx context.Context, node, method string) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, wire.FromError(err)
	}
	if node == n.cfg.ID {
		return n.openSelf(ctx, method)
	}
	p, err := n.peer(node)
	if err != nil {
		return nil, err
	}
	if _, err := p.live(ctx); err != nil {
		return nil, err
	}
	session, err := p.bulk.get(ctx)
	if err != nil {
		return nil, err
	}
	return n.openRemote(ctx, session, method)
}

// handleStream runs a stream's handler and turns whatever goes wrong into a typed error.
func (n *Net) handleStream(s *Stream, from, method string) (failure *wire.Error) {
	h := n.streams[method]
	if h == nil {
		return wire.Errorf(wire.Unsupported, "node %s has no stream %q", n.cfg.ID, method)
	}
	defer func() {
		if r := recover(); r != nil {
			failure = n.panicked(method, from, r)
		}
	}()
	return wire.FromError(h(s.ctx, from, s))
}

// acquireStream takes one of the places for streams; the caller gives it back by the returned function.
func (l *limits) acquireStream() (release func(), ok bool) {
	select {
	case l.streams <- struct{}{}:
		return func() { <-l.streams }, true
	default:
		return nil, false
	}
}
