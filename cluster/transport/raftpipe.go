package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// maxPipelined is how many AppendEntries one pipeline has in flight: enough for 500 batches a second at 250 ms.
const maxPipelined = 128

// pipeline is a raft.AppendPipeline: requests go out without waiting for the answers to earlier ones.
//
// raft takes futures from Consumer in the order of the requests, and looks at a future's response
// without asking for its error, so:
//
//  1. Futures are delivered in the order of AppendEntries, each when it has its answer or has failed.
//  2. A failed future's response is left zero, that is without success, at which raft abandons the pipeline.
//  3. After the first failure later requests may have arrived without it; all of them fail too.
//  4. A request that has gone out already (Ahead) is not sent again.
//  5. A request that says nothing new (teller.idle) is not sent, and its future is not delivered: it would prove nothing to raft about
//     the follower. On a dead connection it fails, so that raft finds that out within its commit timeout.
type pipeline struct {
	g      *raftGroup
	target raft.ServerAddress
	link   *raftLink
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	sent   chan *appendFuture     // in flight, in order
	ready  chan raft.AppendFuture // in order
	wg     sync.WaitGroup

	mu    sync.Mutex // guards what follows; held while a request is being sent
	term  uint64     // in which raft leads
	next  uint64     // the entry after the last one sent
	early []early    // in order: what raft has not asked for yet
}

// appendFuture is one request of a pipeline.
type appendFuture struct {
	start time.Time
	args  *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	went  *raft.AppendEntriesRequest // what was sent: args, or an early request
	call  *raftCall                  // its response is a *raft.AppendEntriesResponse
	known memory                     // of the follower when it was sent
	err   error                      // valid once done is closed
	done  chan struct{}              // closed before the future is delivered
}

func (f *appendFuture) Error() error                          { <-f.done; return f.err }
func (f *appendFuture) Start() time.Time                      { return f.start }
func (f *appendFuture) Request() *raft.AppendEntriesRequest   { return f.args }
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }

// AppendEntriesPipeline starts a pipeline to a peer that is up.
func (g *raftGroup) AppendEntriesPipeline(_ raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	ctx, cancel := context.WithTimeout(g.ctx, g.n.cfg.timing.vote)
	defer cancel()
	p, err := g.n.peer(string(target))
	if err == nil {
		err = g.n.unfenced(p.ID)
	}
	if err == nil {
		var link *raftLink
		if link, err = p.raft.get(ctx); err == nil {
			return g.newPipeline(target, link), nil
		}
	}
	return nil, fmt.Errorf("raft pipeline of shard %d to %s: %w", g.shard, target, err)
}

func (g *raftGroup) newPipeline(target raft.ServerAddress, link *raftLink) *pipeline {
	p := &pipeline{
		g: g, target: target, link: link,
		sent:  make(chan *appendFuture, maxPipelined),
		ready: make(chan raft.AppendFuture, maxPipelined),
	}
	p.ctx, p.cancel = context.WithCancel(g.ctx)
	p.term, p.next = g.teller.after(target)
	p.wg.Go(p.deliver)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pipes[target] = p
	return p
}

// AppendEntries sends one more request; it waits while too many are in flight, and while the connection does not move
// (which ends with the link's write timeout).
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &appendFuture{start: time.Now(), args: args, resp: resp, done: make(chan struct{})}
	if err := p.link.link.Err(); err != nil {
		return nil, lost(err)
	}
	if p.g.teller.idle(p.target, args) {
		close(f.done)
		return f, nil
	}
	if err := p.send(f); err != nil {
		return nil, err
	}
	select {
	case p.sent <- f:
		return f, nil
	case <-p.ctx.Done():
		return nil, raft.ErrPipelineShutdown
	}
}

// send has a request on its way, unless it is already.
func (p *pipeline) send(f *appendFuture) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.claim(f.args); ok {
		f.went, f.call, f.known = e.args, e.call, e.known
		return nil
	}
	f.known = p.g.teller.acknowledged(p.target, f.args.Term)
	call, err := p.link.start(p.ctx, p.g.shard, f.args, new(raft.AppendEntriesResponse), false)
	if err != nil {
		return err
	}
	f.went, f.call = f.args, call
	if n := len(f.args.Entries); n > 0 || p.term != f.args.Term {
		p.early = nil
		p.term, p.next = f.args.Term, f.args.PrevLogEntry+uint64(n)+1
	}
	p.g.teller.sent(p.target, f.args)
	return nil
}

// Consumer delivers the futures that are done.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close ends the pipeline; what is in flight fails.
func (p *pipeline) Close() error {
	p.cancel()
	p.wg.Wait()
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	if p.g.pipes[p.target] == p {
		delete(p.g.pipes, p.target)
	}
	return nil
}

// deliver waits for each request's answer in turn.
func (p *pipeline) deliver() {
	var failed error
	patience := time.NewTimer(0)
	defer patience.Stop()
	for {
		var f *appendFuture
		select {
		case f = <-p.sent:
		case <-p.ctx.Done():
			return
		}
		patience.Reset(time.Until(f.start.Add(p.g.n.cfg.timing.raft)))
		f.err = p.link.wait(p.ctx, patience.C, f.call)
		if failed != nil {
			f.err = failed
		}
		if failed = f.err; failed == nil {
			*f.resp = *f.call.resp.(*raft.AppendEntriesResponse)
			p.g.compare(p.target, f.known, f.resp.Term, f.resp.LastLog)
			if p.g.teller.accepted(p.target, f.went, f.resp) {
				p.g.tellSoon()
			}
		}
		close(f.done)
		select {
		case p.ready <- f:
		case <-p.ctx.Done():
			return
		}
	}
}
