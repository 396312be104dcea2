package transport

import (
	"bytes"
	"context"
	"io"

	"hongyan/cluster/wire"
)

// selfOutlet sends into the inbox of a stream in the same process.
type selfOutlet struct {
	ctx    context.Context // of sends that wait
	cancel context.CancelFunc
	to     *inbox
	gone   func() // tells the other end that this one has gone
}

func (o *selfOutlet) send(kind uint8, p []byte) error {
	if kind == messageEnd {
		o.to.finish(endOf(p))
		return nil
	}
	if err := o.ctx.Err(); err != nil {
		return err
	}
	return o.to.push(o.ctx, bytes.Clone(p))
}

func (o *selfOutlet) interrupt() { o.cancel() }

func (o *selfOutlet) abort() {
	o.cancel()
	o.gone()
}

// openSelf is a stream without the sockets: the same limits, deadlines and backpressure.
func (n *Net) openSelf(ctx context.Context, method string) (*Stream, error) {
	release, ok := n.self.acquireStream()
	if !ok {
		return nil, wire.Errorf(wire.Unavailable, "%d streams of this node to itself are open", maxStreams)
	}
	handlerCtx, handlerCancel := context.WithCancel(n.ctx)
	if deadline, ok := ctx.Deadline(); ok {
		handlerCtx, handlerCancel = context.WithDeadline(n.ctx, deadline)
	}
	callerCtx, callerCancel := context.WithCancel(ctx)
	toCaller, toHandler := newInbox(), newInbox()
	callerOut := &selfOutlet{to: toHandler, gone: handlerCancel}
	callerOut.ctx, callerOut.cancel = context.WithCancel(context.Background())
	handlerOut := &selfOutlet{to: toCaller, gone: func() {
		toCaller.finish(lost(io.ErrUnexpectedEOF)) // after a proper end this says nothing new
		callerOut.cancel()
	}}
	handlerOut.ctx, handlerOut.cancel = context.WithCancel(context.Background())
	caller := newStream(callerCtx, callerCancel, true, toCaller, callerOut)
	handler := newStream(handlerCtx, handlerCancel, false, toHandler, handlerOut)
	run := func() {
		defer release()
		defer handler.Close()
		n.endStream(handlerOut, n.handleStream(handler, n.cfg.ID, method))
	}
	if !n.spawn(run) {
		release()
		caller.Close()
		handler.Close()
		return nil, wire.Errorf(wire.Unavailable, "node %s is closing", n.cfg.ID)
	}
	return caller, nil
}
