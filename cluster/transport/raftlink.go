package transport

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"hongyan/cluster/wire"
)

// raftLink is the dialling end of a Raft connection: requests of all shards that wait for answers.
type raftLink struct {
	link *wire.Link

	mu      sync.Mutex // guards next, waiting
	next    uint64
	waiting map[uint64]*raftCall // nil once the link is dead
}

// raftCall is a request under way. Whoever takes it out of waiting completes it, once: resp is
// written before done is closed, and never after.
type raftCall struct {
	id   uint64
	resp any
	err  error // valid once done is closed
	done chan struct{}
}

// dialRaft opens the Raft connection to a peer.
func (p *peer) dialRaft(ctx context.Context) (*raftLink, io.Closer, <-chan struct{}, error) {
	conn, err := p.n.dial(ctx, p, serviceRaft)
	if err != nil {
		return nil, nil, nil, err
	}
	l := &raftLink{link: wire.NewLink(conn, maxRaftMessage), waiting: make(map[uint64]*raftCall)}
	if !p.n.spawn(l.read) {
		l.link.Close()
		return nil, nil, nil, errClosed
	}
	return l, l.link, l.link.Done(), nil
}

// start sends a request, waiting for room on the connection.
func (l *raftLink) start(ctx context.Context, shard uint32, req, resp any, urgent bool) (*raftCall, error) {
	payload, err := wire.EncodeRaft(nil, req)
	if err != nil {
		return nil, err
	}
	if len(payload) > maxRaftMessage {
		return nil, wire.Errorf(wire.Limit, "Raft message of %d bytes", len(payload))
	}
	call, err := l.expect(resp)
	if err != nil {
		return nil, err
	}
	f := wire.Frame{Kind: payload[1], Channel: shard, ID: call.id, Payload: payload}
	if urgent && l.link.SendUrgent(f) {
		return call, nil
	}
	if err := l.link.Send(ctx, f); err != nil {
		l.take(call.id)
		return nil, lost(err)
	}
	return call, nil
}

// tryStart sends a request that is encoded already, of one piece at most, if that takes no waiting; else it gives nil.
func (l *raftLink) tryStart(shard uint32, payload []byte, resp any) *raftCall {
	call, err := l.expect(resp)
	if err != nil {
		return nil
	}
	if !l.link.TrySend(wire.Frame{Kind: payload[1], Channel: shard, ID: call.id, Payload: payload}) {
		l.take(call.id)
		return nil
	}
	return call
}

// expect makes a call whose answer is waited for.
func (l *raftLink) expect(resp any) (*raftCall, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		return nil, lost(l.link.Err())
	}
	l.next++
	call := &raftCall{id: l.next, resp: resp, done: make(chan struct{})}
	l.waiting[call.id] = call
	return call, nil
}

// wait returns when the call is done, or ctx has ended or time is up; after that resp is not touched any more.
func (l *raftLink) wait(ctx context.Context, up <-chan time.Time, call *raftCall) error {
	var err error
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		err = wire.FromError(ctx.Err())
	case <-up:
		err = wire.Errorf(wire.Deadline, "no answer in time")
	}
	if l.take(call.id) != nil {
		call.err = err
		close(call.done)
	}
	<-call.done
	return call.err
}

func (l *raftLink) take(id uint64) *raftCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := l.waiting[id]
	delete(l.waiting, id)
	return call
}

// read completes calls until the link dies, then fails the rest at once.
func (l *raftLink) read() {
	for {
		f, err := l.link.Read()
		if err != nil {
			break
		}
		call := l.take(f.ID)
		if call == nil {
			continue // it was given up
		}
		if f.Kind == wire.RaftError {
			call.err = wire.DecodeError(f.Payload)
		} else if err := wire.DecodeRaft(f.Payload, call.resp); err != nil {
			call.err = fmt.Errorf("answer: %w", err)
		}
		close(call.done)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range l.waiting {
		call.err = lost(l.link.Err())
		close(call.done)
	}
	l.waiting = nil
}
