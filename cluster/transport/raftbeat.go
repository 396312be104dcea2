package transport

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// Heartbeats of many shards travel together.
const (
	beatLook    = 100 * time.Millisecond // a replica that has not answered when looked at beatLooks times in a row is passed over: one
	beatLooks   = 3                      // look alone may follow a pause of this process
	maxBeats    = 256                    // in one frame
	maxBeatRuns = 8                      // frames of one connection that are being answered; a further one is refused
)

// beats are the heartbeats that wait for the next frame to a peer. Idle shards say nothing else to each other, and a frame, its
// answer and the goroutines on the way cost the same for one heartbeat as for all that wait. Since raft makes a heartbeat a tenth to a fifth of its
// timeout after the one before was answered, those that were answered together gather again: after a moment there is one frame each time,
// with all shards that this node leads.
type beats struct {
	p *peer

	mu      sync.Mutex // guards waiting
	waiting []*beat
}

// beat is a heartbeat under way. Who sends it fills answer or err and closes done, in any case and soon.
type beat struct {
	wire.Beat
	answer wire.BeatAnswer
	err    error
	done   chan struct{}
}

func (q *beats) add(b *beat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, b)
	if len(q.waiting) == 1 {
		time.AfterFunc(q.p.n.cfg.timing.gather, q.flush)
	}
}

// flush sends what has gathered. It does not wait for the answer: on a long link several frames are under way.
func (q *beats) flush() {
	q.mu.Lock()
	due := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for len(due) > 0 {
		some := due[:min(len(due), maxBeats)]
		due = due[len(some):]
		if !q.p.n.spawn(func() { q.send(some) }) {
			settle(some, nil, errClosed)
		}
	}
}

func (q *beats) send(some []*beat) {
	request := &wire.Beats{RPCHeader: raftHeader(q.p.n.cfg.ID), List: make([]wire.Beat, len(some))}
	for i, b := range some {
		request.List[i] = b.Beat
	}
	var answers wire.BeatAnswers
	ctx, cancel := context.WithTimeout(q.p.ctx, q.p.n.cfg.timing.beat)
	defer cancel()
	link, err := q.p.raft.get(ctx)
	if err == nil {
		var call *raftCall
		if call, err = link.start(ctx, 0, request, &answers, true); err == nil {
			err = link.wait(ctx, nil, call)
		}
	}
	if err == nil && len(answers.List) != len(some) {
		err = fmt.Errorf("%w: %d answers to %d heartbeats", wire.ErrMalformed, len(answers.List), len(some))
	}
	settle(some, answers.List, err)
}

// settle lets those go on who wait for some.
func settle(some []*beat, answers []wire.BeatAnswer, err error) {
	for i, b := range some {
		if b.err = err; err == nil {
			b.answer = answers[i]
			if b.answer.Err != nil {
				b.err = b.answer.Err
			}
		}
		close(b.done)
	}
}

// raftHeader is what raft on a node writes into its requests and answers.
func raftHeader(node string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(node), Addr: []byte(node)}
}

// heartbeatTo sends a shard's heartbeat with those of others.
func (g *raftGroup) heartbeatTo(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	p, err := g.n.peer(string(target))
	if err == nil {
		err = g.n.unfenced(p.ID)
	}
	if err == nil {
		b := &beat{Beat: wire.Beat{Shard: g.shard, Term: args.Term}, done: make(chan struct{})}
		known := g.teller.acknowledged(target, args.Term)
		p.beats.add(b)
		select {
		case <-b.done:
			err = b.err
		case <-p.ctx.Done(): // it would end soon
			err = p.gone()
		case <-g.ctx.Done():
			err = g.closed()
		}
		if err == nil {
			*resp = raft.AppendEntriesResponse{
				RPCHeader: raftHeader(string(target)),
				Term:      b.answer.Term, LastLog: b.answer.Last, Success: b.answer.Success, NoRetryBackoff: b.answer.NoRetryBackoff,
			}
			g.compare(target, known, b.answer.Term, b.answer.Last)
			if g.teller.heard(target, args.Term, b.answer) {
				g.tellSoon()
			}
			return nil
		}
	}
	g.teller.missed(target)
	return fmt.Errorf("heartbeat of shard %d to %s: %w", g.shard, target, err)
}

// answerBeats has each shard's replica answer its heartbeat, in one goroutine and beside raft's main loops, and sends the
// answers. A replica that does not come back, since raft is writing a new term to a disk that hangs, costs the others three looks, once.
func (n *Net) answerBeats(in inbound, m *wire.Beats) {
	answers := make([]wire.BeatAnswer, 0, len(m.List))
	for len(answers) < len(m.List) {
		run := &beatRun{answers: make([]wire.BeatAnswer, len(m.List)-len(answers)), done: make(chan struct{})}
		rest := m.List[len(answers):]
		if !n.spawn(func() { run.work(n, m.RPCHeader, rest) }) {
			return
		}
		given, whole := run.watch()
		answers = append(answers, run.answers[:given]...)
		if !whole {
			shard := m.List[len(answers)].Shard
			answers = append(answers, wire.BeatAnswer{Err: wire.Errorf(wire.Unavailable, "shard %d does not answer on node %s", shard, n.cfg.ID)})
		}
	}
	reply(in, &wire.BeatAnswers{List: answers}, nil)
}

// beatRun is a goroutine that goes from shard to shard.
type beatRun struct {
	answers   []wire.BeatAnswer // those before given stay as they are
	given     atomic.Int64
	abandoned atomic.Bool // another goroutine has gone on with the rest
	done      chan struct{}
}

func (r *beatRun) work(n *Net, header raft.RPCHeader, list []wire.Beat) {
	defer close(r.done)
	for i, b := range list {
		var a wire.BeatAnswer
		if g := n.group(b.Shard); g != nil {
			a = g.beat(header, b.Term)
		} else {
			a.Err = wire.Errorf(wire.Unavailable, "shard %d is not on node %s", b.Shard, n.cfg.ID)
		}
		if r.abandoned.Load() {
			return
		}
		r.answers[i] = a
		r.given.Store(int64(i) + 1)
	}
}

// watch returns when all answers are given, or when the next one does not come.
func (r *beatRun) watch() (given int, whole bool) {
	look := time.NewTicker(beatLook)
	defer look.Stop()
	for idle := 0; ; {
		select {
		case <-r.done:
			return len(r.answers), true
		case <-look.C:
		}
		now := int(r.given.Load())
		if idle++; now != given {
			given, idle = now, 0
		}
		if idle >= beatLooks && given < len(r.answers) {
			r.abandoned.Store(true)
			return given, false
		}
	}
}

// beat has raft answer a heartbeat. A second one is refused while raft is at it, lest every frame wait for the same disk.
func (g *raftGroup) beat(header raft.RPCHeader, term uint64) wire.BeatAnswer {
	h := g.heartbeatHandler()
	if h == nil || !g.beating.TryLock() {
		return wire.BeatAnswer{Err: wire.Errorf(wire.Unavailable, "shard %d is busy on node %s", g.shard, g.n.cfg.ID)}
	}
	defer g.beating.Unlock()
	if g.ctx.Err() != nil {
		return wire.BeatAnswer{Err: wire.FromError(g.closed())}
	}
	heard := g.heard.Load() // before the answer: what raft has been told meanwhile does no harm
	answer := make(chan raft.RPCResponse, 1)
	h(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: header, Term: term}, RespChan: answer})
	select {
	case r := <-answer:
		if resp, ok := r.Response.(*raft.AppendEntriesResponse); ok && r.Error == nil {
			return wire.BeatAnswer{Term: resp.Term, Last: resp.LastLog, Heard: heard, Success: resp.Success, NoRetryBackoff: resp.NoRetryBackoff}
		}
		return wire.BeatAnswer{Err: wire.FromError(r.Error)}
	default: // raft answers before the handler returns, unless it has shut down
		return wire.BeatAnswer{Err: wire.FromError(g.closed())}
	}
}

// hear notes the commit index that raft took from an accepted request: at most the last entry of which the leader knows.
func (g *raftGroup) hear(command, response any) {
	m, ok := command.(*raft.AppendEntriesRequest)
	r, answered := response.(*raft.AppendEntriesResponse)
	if !ok || !answered || !r.Success {
		return
	}
	if to := min(m.LeaderCommitIndex, lastOf(m)); to > g.heard.Load() { // only the queue's worker calls
		g.heard.Store(to)
	}
}

func lastOf(m *raft.AppendEntriesRequest) uint64 {
	if n := len(m.Entries); n > 0 {
		return m.Entries[n-1].Index
	}
	return m.PrevLogEntry
}
