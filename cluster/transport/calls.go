package transport

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"sync"

	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// callHandler runs a call: encoded argument in, encoded result out.
type callHandler func(ctx context.Context, from string, body []byte) ([]byte, error)

// HandleUnary registers the handler of a call, before Serve. The handler's context ends with the
// caller's deadline, when the caller gives up, and when its connection breaks. An error travels back with its kind
// (see wire.FromError).
func HandleUnary[Req, Resp any](n *Net, method string, h func(ctx context.Context, from string, req *Req) (*Resp, error)) {
	n.register(method)
	n.calls[method] = func(ctx context.Context, from string, body []byte) ([]byte, error) {
		req := new(Req)
		if err := codec.Unmarshal(body, req); err != nil {
			return nil, wire.Errorf(wire.Invalid, "%v", err)
		}
		resp, err := h(ctx, from, req)
		if err != nil {
			return nil, err
		}
		return codec.Marshal(resp)
	}
}

// register catches two mistakes of a programmer: a name used twice, and a handler that comes too late to be seen.
func (n *Net) register(method string) {
	if n.serving.Load() {
		panic("transport: handler " + method + " registered after Serve")
	}
	if n.calls[method] != nil || n.streams[method] != nil {
		panic("transport: two handlers for " + method)
	}
}

// inflight are the calls of one connection that are being served.
type inflight struct {
	mu      sync.Mutex // guards cancels
	cancels map[uint64]context.CancelFunc
}

func (in *inflight) add(id uint64, cancel context.CancelFunc) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cancels[id] = cancel
}

func (in *inflight) end(id uint64) {
	in.mu.Lock()
	cancel := in.cancels[id]
	delete(in.cancels, id)
	in.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// serveCalls is the accepting end of a calls connection. The loop never waits for a handler.
func (n *Net) serveCalls(conn net.Conn, p *peer) {
	link := wire.NewLink(conn, MaxMessage)
	ctx, cancel := context.WithCancel(p.ctx) // of every handler
	defer cancel()
	defer link.Close()
	in := &inflight{cancels: make(map[uint64]context.CancelFunc)}
	for {
		f, err := link.Read()
		if err != nil {
			return
		}
		switch f.Kind {
		case framePing:
			pong := wire.Frame{Kind: framePong, ID: f.ID}
			if n.ails.Load() {
				pong.Channel = pongAils
			}
			link.SendUrgent(pong) // a peer that takes no answers will miss them
		case frameCancel:
			in.end(f.ID)
		case frameRequest:
			if refusal := n.startCall(ctx, link, p, in, f); refusal != nil {
				link.SendUrgent(wire.Frame{Kind: frameError, ID: f.ID, Payload: wire.EncodeError(refusal)})
			}
		default:
			n.log.Warn("frame of unknown kind", "peer", p.ID, "kind", f.Kind)
			return
		}
	}
}

// startCall begins one call in its own goroutine, or says why not.
func (n *Net) startCall(ctx context.Context, link *wire.Link, p *peer, in *inflight, f wire.Frame) *wire.Error {
	req, err := wire.DecodeRequest(f.Payload)
	if err != nil {
		return wire.Errorf(wire.Invalid, "%v", err)
	}
	select {
	case p.limits.calls <- struct{}{}:
	default:
		return wire.Errorf(wire.Unavailable, "node %s has %d calls of %s in flight", n.cfg.ID, maxCalls, p.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, req.Wait)
	in.add(f.ID, cancel)
	run := func() {
		defer func() { <-p.limits.calls }()
		defer in.end(f.ID)
		out := wire.Frame{Kind: frameReply, ID: f.ID}
		body, err := n.invoke(ctx, p.ID, req.Method, req.Body)
		if err != nil {
			out.Kind, body = frameError, wire.EncodeError(err)
		}
		out.Payload = body
		if ctx.Err() == nil || err != nil {
			_ = link.Send(n.ctx, out) // fails only with the link, and then the caller knows
		}
	}
	if !n.spawn(run) {
		in.end(f.ID)
		<-p.limits.calls
		return wire.Errorf(wire.Unavailable, "node %s is closing", n.cfg.ID)
	}
	return nil
}

// callSelf is a call without the sockets: the same encoding, limits and deadlines.
func (n *Net) callSelf(ctx context.Context, enough <-chan struct{}, method string, body []byte) ([]byte, error) {
	select {
	case n.self.calls <- struct{}{}:
	default:
		return nil, wire.Errorf(wire.Unavailable, "%d calls of this node to itself in flight", maxCalls)
	}
	type result struct {
		body []byte
		err  *wire.Error
	}
	done := make(chan result, 1)
	deadline, _ := ctx.Deadline()
	handlerCtx, cancel := context.WithDeadline(n.ctx, deadline)
	defer cancel()
	run := func() {
		defer func() { <-n.self.calls }()
		body, err := n.invoke(handlerCtx, n.cfg.ID, method, body)
		done <- result{body, err}
	}
	if !n.spawn(run) {
		<-n.self.calls
		return nil, wire.Errorf(wire.Unavailable, "node %s is closing", n.cfg.ID)
	}
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return r.body, nil
	case <-enough:
		return nil, errDoubt
	case <-ctx.Done():
		return nil, wire.FromError(ctx.Err())
	}
}

// invoke runs a handler and turns whatever goes wrong into a typed error.
func (n *Net) invoke(ctx context.Context, from, method string, body []byte) (reply []byte, failure *wire.Error) {
	h := n.calls[method]
	if h == nil {
		return nil, wire.Errorf(wire.Unsupported, "node %s has no call %q", n.cfg.ID, method)
	}
	defer func() {
		if r := recover(); r != nil {
			failure = n.panicked(method, from, r)
		}
	}()
	reply, err := h(ctx, from, body)
	if err != nil {
		return nil, wire.FromError(err)
	}
	if len(reply) > MaxMessage {
		return nil, wire.Errorf(wire.Limit, "reply of %d bytes", len(reply))
	}
	return reply, nil
}

// panicked logs a handler's panic, which ends its call and nothing else.
func (n *Net) panicked(method, from string, r any) *wire.Error {
	n.log.Error("handler panicked", "method", method, "peer", from, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	return wire.Errorf(wire.Internal, "handler of %s panicked", method)
}
