package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// Bounds of one shard's inbound requests. Appends are queued up to a pipeline's depth from an old and a new leader.
const (
	maxQueued      = 2 * maxPipelined
	maxQueuedBytes = maxRaftMessage
)

// raftGroup is one shard's raft.Transport (with raft.WithPreVote and raft.WithClose). Server addresses are node ids.
//
// Outbound, requests share the peer's Raft connection with all other shards. Inbound, the connection's reader
// puts a request into its shard's queue without waiting; the shard's worker hands one at a time to raft and waits for its
// answer, which keeps their order. Heartbeats come and go with those of other shards (raftbeat.go) and pass a worker that waits
// for raft's disk.
type raftGroup struct {
	n      *Net
	shard  uint32
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	requests chan raft.RPC // what raft consumes
	queue    chan *inbound
	queued   atomic.Int64  // bytes of payload in queue
	heard    atomic.Uint64 // the highest commit index that raft here has taken from a leader
	beating  sync.Mutex    // held while raft answers a heartbeat

	mu        sync.Mutex // guards what follows
	heartbeat func(raft.RPC)
	pipes     map[raft.ServerAddress]*pipeline // that raft has in use

	teller teller
	known  KnownLogs
	guard  atomic.Pointer[func() error]
	lapse  atomic.Pointer[func(node string, had, has uint64)]
}

// OnLapse has f told of a follower whose log ends before an entry that it has acknowledged to the leader here. f must not block.
func (g *raftGroup) OnLapse(f func(node string, had, has uint64)) { g.lapse.Store(&f) }

// compare tells of a follower whose answer, of its term and where its log ended, does not go together with what is known of it.
func (g *raftGroup) compare(target raft.ServerAddress, known memory, term, last uint64) {
	if f := g.lapse.Load(); f != nil && g.teller.lapsed(target, known, term, last) {
		(*f)(string(target), known.had, last)
	}
}

// Kept gives the last entry that a node acknowledged to this replica while that led, and that was committed by then, and when that became known; 0 for none.
func (g *raftGroup) Kept(node string) (entry uint64, at time.Time) {
	return g.teller.kept(raft.ServerAddress(node))
}

// Forget is to be called before a node whose replica is made anew follows again: what the former one acknowledged is not to be held against it.
func (g *raftGroup) Forget(node string) { g.teller.forget(raft.ServerAddress(node)) }

// Guard has votes, asked of this replica and by it, depend on f: while that gives an error, they fail with it.
func (g *raftGroup) Guard(f func() error) { g.guard.Store(&f) }

// mayVote asks the guard about a request for a vote.
func (g *raftGroup) mayVote(command any) error {
	f := g.guard.Load()
	if f == nil {
		return nil
	}
	switch command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		return (*f)()
	}
	return nil
}

var (
	_ raft.Transport   = (*raftGroup)(nil)
	_ raft.WithPreVote = (*raftGroup)(nil)
	_ raft.WithClose   = (*raftGroup)(nil)
)

// inbound is a request that waits for raft.
type inbound struct {
	shard   uint32
	command any
	size    int
	link    *wire.Link
	id      uint64
}

// RaftGroup is the transport of one shard's Raft group on this node. Asked again before the group
// is closed, it returns the same one. Until then peers' requests for the shard are answered with an error.
//
// An AppendEntries to a node that is down waits for it a while rather than failing: raft backs off for
// seconds after failures, and would be late when the node comes back. Close the group (raft.WithClose) before
// waiting for raft's shutdown, to cut that short.
func (n *Net) RaftGroup(shard uint32) raft.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.groups[shard]; g != nil {
		return g
	}
	g := &raftGroup{
		n: n, shard: shard,
		requests: make(chan raft.RPC),
		queue:    make(chan *inbound, maxQueued),
		pipes:    make(map[raft.ServerAddress]*pipeline),
		teller:   teller{followers: make(map[raft.ServerAddress]*follower)},
	}
	g.ctx, g.cancel = context.WithCancel(n.ctx)
	if n.closed {
		return g
	}
	n.groups[shard] = g
	g.wg.Go(g.work)
	return g
}

func (n *Net) group(shard uint32) *raftGroup {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.groups[shard]
}

// Close takes the shard off the network. Requests that wait fail.
func (g *raftGroup) Close() error {
	g.cancel()
	g.n.mu.Lock()
	if g.n.groups[g.shard] == g {
		delete(g.n.groups, g.shard)
	}
	g.n.mu.Unlock()
	g.wg.Wait()
	g.beating.Lock() // a heartbeat that is being answered may use raft's stores, which close after this
	defer g.beating.Unlock()
	return nil
}

func (g *raftGroup) Consumer() <-chan raft.RPC     { return g.requests }
func (g *raftGroup) LocalAddr() raft.ServerAddress { return raft.ServerAddress(g.n.cfg.ID) }

func (g *raftGroup) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }
func (g *raftGroup) DecodePeer(b []byte) raft.ServerAddress                     { return raft.ServerAddress(b) }

// SetHeartbeatHandler sets what answers heartbeats beside raft's main loop.
func (g *raftGroup) SetHeartbeatHandler(h func(rpc raft.RPC)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heartbeat = h
}

func (g *raftGroup) heartbeatHandler() func(raft.RPC) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heartbeat
}

// accept takes a request from the connection's reader, or says why not. It never waits.
func (g *raftGroup) accept(in *inbound) error {
	if held := g.queued.Add(int64(in.size)); held > maxQueuedBytes && held > int64(in.size) {
		g.queued.Add(-int64(in.size))
		return wire.Errorf(wire.Unavailable, "shard %d is %d bytes behind", g.shard, held)
	}
	select {
	case g.queue <- in:
		return nil
	default:
	}
	g.queued.Add(-int64(in.size))
	return wire.Errorf(wire.Unavailable, "shard %d is %d requests behind", g.shard, len(g.queue))
}

// work answers the requests of the queue in order.
func (g *raftGroup) work() {
	for {
		select {
		case in := <-g.queue:
			g.queued.Add(-int64(in.size))
			response, err := g.process(in.command, nil)
			if err == nil {
				g.hear(in.command, response)
			}
			reply(*in, response, err)
		case <-g.ctx.Done():
			return
		}
	}
}

// process has raft answer one request.
func (g *raftGroup) process(command any, snapshot io.Reader) (any, error) {
	if err := g.mayVote(command); err != nil {
		return nil, err
	}
	answer := make(chan raft.RPCResponse, 1)
	select {
	case g.requests <- raft.RPC{Command: command, Reader: snapshot, RespChan: answer}:
	case <-g.ctx.Done():
		return nil, g.closed()
	}
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-g.ctx.Done():
		return nil, g.closed()
	}
}

// Elect has this node's raft stand for election at once, past pre-vote and leader stickiness, as a TimeoutNow from its leader
// would. That is always safe for the log; who calls it answers for doing so only when the leader is gone. A raft that
// is busy until ctx ends is not asked any more: by then there may be another leader.
//
// A raft that is a candidate already would wait for the votes of that term until its election timeout. It is led out of it first, by
// a request for a vote in the next term, which it refuses: that candidate's log is empty.
//
// logs are the last entries of other voters: see KnownLogs.
func (g *raftGroup) Elect(ctx context.Context, candidateIn uint64, logs map[string]uint64) error {
	g.known.Set(logs)
	header := raftHeader(g.n.cfg.ID)
	if candidateIn > 0 {
		vote := &raft.RequestVoteRequest{RPCHeader: header, Term: candidateIn + 1, LeadershipTransfer: true}
		if err := g.HandRaft(ctx, vote); err != nil {
			return err
		}
	}
	return g.HandRaft(ctx, &raft.TimeoutNowRequest{RPCHeader: header})
}

// HandRaft gives this node's raft a request whose answer is for nobody.
func (g *raftGroup) HandRaft(ctx context.Context, request any) error {
	select {
	case g.requests <- raft.RPC{Command: request, RespChan: make(chan raft.RPCResponse, 1)}:
		return nil
	case <-ctx.Done():
		return wire.FromError(ctx.Err())
	case <-g.ctx.Done():
		return g.closed()
	}
}

func (g *raftGroup) closed() error {
	return wire.Errorf(wire.Unavailable, "shard %d is closed on node %s", g.shard, g.n.cfg.ID)
}

// reply sends raft's answer. Answers are small and must not wait behind appends in the other direction.
func reply(in inbound, response any, err error) {
	var payload []byte
	if err == nil {
		payload, err = wire.EncodeRaft(nil, response)
	}
	f := wire.Frame{Kind: wire.RaftError, ID: in.id}
	if err != nil {
		f.Payload = wire.EncodeError(wire.FromError(err))
	} else {
		f.Kind, f.Payload = payload[1], payload
	}
	in.link.SendUrgent(f) // refused only by a link whose peer no longer reads; its requests time out
}

// serveRaft is the accepting end of a Raft connection. The loop never waits for a shard.
func (n *Net) serveRaft(conn net.Conn, p *peer) {
	link := wire.NewLink(conn, maxRaftMessage)
	defer link.Close()
	runs := make(chan struct{}, maxBeatRuns)
	for {
		f, err := link.Read()
		if err != nil {
			return
		}
		in := inbound{shard: f.Channel, size: len(f.Payload), link: link, id: f.ID}
		in.command, err = decodeRequest(f, p.ID)
		if errors.Is(err, wire.ErrMalformed) {
			n.log.Error("Raft connection dropped", "peer", p.ID, "shard", f.Channel, "err", err)
			return
		}
		if err == nil {
			err = n.unfenced(p.ID)
		}
		if err == nil {
			err = n.dispatch(&in, runs)
		}
		if err != nil {
			reply(in, nil, err)
		}
	}
}

// dispatch hands a request to who answers it, without waiting.
func (n *Net) dispatch(in *inbound, runs chan struct{}) error {
	if m, ok := in.command.(*wire.Beats); ok {
		select {
		case runs <- struct{}{}:
		default:
			return wire.Errorf(wire.Unavailable, "%d frames of heartbeats wait for node %s", maxBeatRuns, n.cfg.ID)
		}
		n.spawn(func() { n.answerBeats(*in, m); <-runs }) // unless it is closing, which the peer will see
		return nil
	}
	if g := n.group(in.shard); g != nil {
		return g.accept(in)
	}
	return wire.Errorf(wire.Unavailable, "shard %d is not on node %s", in.shard, n.cfg.ID)
}

// decodeRequest decodes a frame's request and checks that its sender speaks for itself.
func decodeRequest(f wire.Frame, from string) (any, error) {
	var command interface{ GetRPCHeader() raft.RPCHeader }
	switch f.Kind {
	case wire.RaftAppend:
		command = new(raft.AppendEntriesRequest)
	case wire.RaftVote:
		command = new(raft.RequestVoteRequest)
	case wire.RaftPreVote:
		command = new(raft.RequestPreVoteRequest)
	case wire.RaftTimeoutNow:
		command = new(raft.TimeoutNowRequest)
	case wire.RaftBeats:
		command = new(wire.Beats)
	default: // of a later version; the rest of what it says can be understood
		return nil, wire.Errorf(wire.Invalid, "Raft request of kind %d", f.Kind)
	}
	if err := wire.DecodeRaft(f.Payload, command); err != nil {
		return nil, err
	}
	if addr := string(command.GetRPCHeader().Addr); addr != from {
		return nil, wire.Errorf(wire.Denied, "node %q speaks for %q", from, addr)
	}
	return command, nil
}

func (g *raftGroup) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if wire.IsHeartbeat(args) {
		return g.heartbeatTo(target, args, resp)
	}
	if g.known.Probe(target, args, resp) {
		return nil
	}
	g.teller.sent(target, args)
	known := g.teller.acknowledged(target, args.Term)
	err := g.rpc(g.ctx, target, args, resp, g.n.cfg.timing.raft, false)
	if err == nil {
		g.compare(target, known, resp.Term, resp.LastLog)
	}
	if err == nil && g.teller.accepted(target, args, resp) {
		g.tellSoon()
	}
	return err
}

func (g *raftGroup) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := g.mayVote(args); err != nil {
		return err
	}
	return g.rpc(g.ctx, target, args, resp, g.n.cfg.timing.vote, true)
}

func (g *raftGroup) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.mayVote(args); err != nil {
		return err
	}
	return g.rpc(g.ctx, target, args, resp, g.n.cfg.timing.vote, true)
}

func (g *raftGroup) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	ctx, cancel := g.n.Sound(g.ctx, string(target)) // the leader takes no proposals before it has an answer
	defer cancel()
	if g.n.InDoubt(string(target)) {
		return errDoubt
	}
	return g.rpc(ctx, target, args, resp, g.n.cfg.timing.vote, true)
}

// raftLink gives the Raft connection to a peer. What is urgent fails at once when there is none; the rest waits for the peer, and for its
// entry in the table: a node's shards may hear of it first.
func (n *Net) raftLink(ctx context.Context, node string, urgent bool) (*raftLink, error) {
	if err := n.unfenced(node); err != nil {
		return nil, err
	}
	if urgent {
		p, err := n.peer(node)
		if err != nil {
			return nil, err
		}
		return p.raft.get(ctx)
	}
	p, err := n.awaitPeer(ctx, node)
	if err != nil {
		return nil, err
	}
	return p.raft.await(ctx)
}

// rpc is one request and its answer. An urgent one fails at once when the peer is down; another waits for the peer.
func (g *raftGroup) rpc(ctx context.Context, target raft.ServerAddress, args, resp any, timeout time.Duration, urgent bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := func() error {
		link, err := g.n.raftLink(ctx, string(target), urgent)
		if err != nil {
			return err
		}
		call, err := link.start(ctx, g.shard, args, resp, urgent)
		if err != nil {
			return err
		}
		return link.wait(ctx, nil, call)
	}()
	if err != nil {
		return fmt.Errorf("raft of shard %d to %s: %w", g.shard, target, err)
	}
	return nil
}
