package shard

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/liveness"
	"hongyan/cluster/pause"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// virtualNet carries everything between the nodes of a world: calls, raft's requests and pings, with the delays of its links. A link
// keeps the order of what it carries; what is cut, or goes to or comes from a frozen node, waits, as in TCP.
type virtualNet struct {
	mu      sync.Mutex // guards the rest
	rng     *rand.Rand
	delay   func(from, to *virtualNode) time.Duration
	late    int                           // of so many pieces one is a second late; 0: none
	cut     map[[2]*virtualNode]bool      // one way
	free    map[[2]*virtualNode]time.Time // when the last piece on a link arrives
	changed chan struct{}                 // closed and replaced when a link or a node changes
}

func newVirtualNet(seed uint64, delay func(from, to *virtualNode) time.Duration) *virtualNet {
	return &virtualNet{
		rng: rand.New(rand.NewPCG(seed, 7)), delay: delay, cut: make(map[[2]*virtualNode]bool),
		free: make(map[[2]*virtualNode]time.Time), changed: make(chan struct{}),
	}
}

// change alters the network under its lock.
func (n *virtualNet) change(how func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	how()
	close(n.changed)
	n.changed = make(chan struct{})
}

var errReset = wire.Errorf(wire.Unavailable, "connection lost")

// carry takes one piece from a node to another.
func (n *virtualNet) carry(ctx context.Context, from, to *virtualNode) error {
	link := [2]*virtualNode{from, to}
	born, dead := from.life(), to.life()
	n.mu.Lock()
	at := time.Now().Add(n.delay(from, to))
	if n.late > 0 && n.rng.IntN(n.late) == 0 {
		at = at.Add(time.Second)
	}
	if free := n.free[link]; at.Before(free) {
		at = free
	}
	n.free[link] = at
	n.mu.Unlock()
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-born:
		return errReset
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		n.mu.Lock()
		held, changed := n.cut[link] || from.frozen || to.frozen, n.changed
		n.mu.Unlock()
		select {
		case <-born:
			return errReset
		case <-dead:
			return errReset
		default:
		}
		if !held {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// virtualPeers is what one node knows of the others: Peers.
type virtualPeers struct {
	w    *virtualWorld
	self *virtualNode

	mu    sync.Mutex // guards the rest
	doubt map[*virtualNode]bool
	began map[*virtualNode]chan struct{}
}

func newVirtualPeers(w *virtualWorld, self *virtualNode) *virtualPeers {
	p := &virtualPeers{w: w, self: self, doubt: make(map[*virtualNode]bool), began: make(map[*virtualNode]chan struct{})}
	for _, n := range w.nodes {
		p.began[n] = make(chan struct{})
		if n != self {
			p.doubt[n] = true
			close(p.began[n])
		}
	}
	return p
}

func (p *virtualPeers) set(n *virtualNode, in bool) {
	p.mu.Lock()
	was := p.doubt[n]
	p.doubt[n] = in
	switch {
	case in && !was:
		close(p.began[n])
	case was && !in:
		p.began[n] = make(chan struct{})
	}
	p.mu.Unlock()
	if in != was {
		p.w.log.Info("doubt", "node", p.self.id, "of", n.id, "in", in)
		p.self.host.doubted(n.id, in)
	}
}

// Up is true of a node that ails, as it is in truth.
func (p *virtualPeers) Up(node string) bool { return !p.InDoubt(node) || p.w.node(node).ails.Load() }

func (p *virtualPeers) RTT(node string) (time.Duration, bool) {
	n := p.w.node(node)
	return p.w.net.delay(p.self, n) + p.w.net.delay(n, p.self), true
}

func (p *virtualPeers) InDoubt(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doubt[p.w.node(node)]
}

func (p *virtualPeers) Doubted(node string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began[p.w.node(node)]
}

func (p *virtualPeers) CallSound(ctx context.Context, node, method string, req, resp any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	doubted := p.Doubted(node)
	select {
	case <-doubted:
		return wire.Errorf(wire.Unavailable, "%s is in doubt", node)
	default:
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-doubted:
			cancel()
		case <-stop:
		}
	}()
	if err := p.Call(ctx, node, method, req, resp); err != nil {
		return err
	}
	return nil
}

// Call has the other node's host answer, on a copy of the request, and gives a copy of its answer.
func (p *virtualPeers) Call(ctx context.Context, node, method string, req, resp any) error {
	to := p.w.node(node)
	if to != p.self {
		if err := p.w.net.carry(ctx, p.self, to); err != nil {
			return wire.FromError(err)
		}
	}
	type answer struct {
		body []byte
		err  error
	}
	done := make(chan answer, 1)
	host, _, life := to.process()
	handled, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		body, err := handle(handled, host, p.self.id, method, req)
		done <- answer{body, err}
	}()
	var a answer
	select {
	case a = <-done:
	case <-life:
		return errReset
	case <-ctx.Done():
		return wire.FromError(ctx.Err())
	}
	if to != p.self {
		if err := p.w.net.carry(ctx, to, p.self); err != nil {
			return wire.FromError(err)
		}
	}
	if a.err != nil {
		return wire.FromError(a.err)
	}
	return codec.Unmarshal(a.body, resp)
}

// handle is the called host's side of a call.
func handle(ctx context.Context, host *Host, from, method string, req any) ([]byte, error) {
	encoded, err := codec.Marshal(req)
	if err != nil {
		return nil, err
	}
	switch method {
	case MethodPropose:
		return handleAs(ctx, from, encoded, host.propose)
	case MethodReadIndex:
		return handleAs(ctx, from, encoded, host.readIndex)
	case MethodConfirm:
		return handleAs(ctx, from, encoded, host.confirm)
	case MethodApplied:
		return handleAs(ctx, from, encoded, host.applied)
	case MethodSuspect:
		return handleAs(ctx, from, encoded, host.suspect)
	case MethodRelay:
		return handleAs(ctx, from, encoded, host.relay)
	}
	return nil, fmt.Errorf("no method %q", method)
}

func handleAs[Req, Resp any](ctx context.Context, from string, body []byte, h func(ctx context.Context, from string, req *Req) (*Resp, error)) ([]byte, error) {
	req := new(Req)
	if err := codec.Unmarshal(body, req); err != nil {
		return nil, err
	}
	resp, err := h(ctx, from, req)
	if err != nil {
		return nil, err
	}
	return codec.Marshal(resp)
}

// watch pings another node with the detector of the real transport, over one connection after the other, until this node ends.
func (p *virtualPeers) watch(ctx context.Context, to *virtualNode) {
	late := new(liveness.Lateness)
	for ctx.Err() == nil {
		p.connection(ctx, to, late)
		p.set(to, true)
		pause.For(ctx, 50*time.Millisecond)
	}
}

const virtualPing = 50 * time.Millisecond

func (p *virtualPeers) connection(ctx context.Context, to *virtualNode, late *liveness.Lateness) {
	life := to.life()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	d := liveness.NewDetector(2*time.Second, late)
	ping := func() bool {
		sent := time.Since(began)
		if p.w.net.carry(ctx, p.self, to) != nil {
			return false
		}
		ails := to.ails.Load()
		if p.w.net.carry(ctx, to, p.self) != nil {
			return false
		}
		p.self.sees(to, ails)
		d.Answered(sent, time.Since(began))
		return true
	}
	first, done := context.WithTimeout(ctx, 2*time.Second)
	ok := p.w.net.carry(first, p.self, to) == nil && p.w.net.carry(first, to, p.self) == nil
	done()
	if !ok || !ping() {
		return
	}
	now := time.Since(began)
	timer := time.NewTimer(d.Start(now, 0, virtualPing) - now)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-life:
			p.w.net.carry(ctx, to, p.self) // a reset takes its time, and fails in the end
			return
		case <-ctx.Done():
			return
		}
		now := time.Since(began)
		state, due, next := d.Tick(now, virtualPing)
		if state == liveness.Down {
			return
		}
		p.set(to, state == liveness.Silent || p.self.doubts(to))
		if due {
			go ping()
		}
		timer.Reset(next - now)
	}
}

// virtualTransport is one replica's raft.Transport.
type virtualTransport struct {
	w        *virtualWorld
	self     *virtualNode
	peers    *virtualPeers // of this life of the node
	shard    uint32
	ctx      context.Context
	cancel   context.CancelFunc
	requests chan raft.RPC
	known    transport.KnownLogs

	mu        sync.Mutex // guards heartbeat
	heartbeat func(raft.RPC)
}

func newVirtualTransport(w *virtualWorld, self *virtualNode, peers *virtualPeers, shard uint32) *virtualTransport {
	t := &virtualTransport{w: w, self: self, peers: peers, shard: shard, requests: make(chan raft.RPC)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func (t *virtualTransport) Consumer() <-chan raft.RPC     { return t.requests }
func (t *virtualTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.self.id) }
func (t *virtualTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}
func (t *virtualTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }
func (t *virtualTransport) Close() error                           { t.cancel(); return nil }

func (t *virtualTransport) SetHeartbeatHandler(h func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = h
}

func (t *virtualTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *virtualTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !wire.IsHeartbeat(args) && t.known.Probe(to, args, resp) {
		return nil
	}
	return askRaft(t.ctx, t, to, args, resp)
}

func (t *virtualTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return askRaft(t.ctx, t, to, args, resp)
}

func (t *virtualTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return askRaft(t.ctx, t, to, args, resp)
}

func (t *virtualTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	go func() {
		select {
		case <-t.peers.Doubted(string(to)):
			cancel()
		case <-ctx.Done():
		}
	}()
	return askRaft(ctx, t, to, args, resp)
}

func (t *virtualTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errReset // logs stay long here
}

// Ahead implements aheadSender: some of the others are sent what this leader is about to store, and nobody waits for their answers.
func (t *virtualTransport) Ahead(before *raft.Log, committed uint64, entries []*raft.Log) {
	for _, n := range t.w.nodes {
		if n == t.self || rand.IntN(3) == 0 {
			continue
		}
		args := raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.self.id), Addr: []byte(t.self.id)},
			Term:      entries[0].Term, PrevLogEntry: before.Index, PrevLogTerm: before.Term, Entries: entries, LeaderCommitIndex: committed,
		}
		go func() { _ = askRaft(t.ctx, t, raft.ServerAddress(n.id), &args, new(raft.AppendEntriesResponse)) }()
	}
}

// Elect implements elector as the real transport does.
func (t *virtualTransport) Elect(ctx context.Context, candidateIn uint64, logs map[string]uint64) error {
	t.known.Set(logs)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.self.id), Addr: []byte(t.self.id)}
	if candidateIn > 0 {
		if err := t.HandRaft(ctx, &raft.RequestVoteRequest{RPCHeader: header, Term: candidateIn + 1, LeadershipTransfer: true}); err != nil {
			return err
		}
	}
	return t.HandRaft(ctx, &raft.TimeoutNowRequest{RPCHeader: header})
}

func (t *virtualTransport) HandRaft(ctx context.Context, request any) error {
	select {
	case t.requests <- raft.RPC{Command: request, RespChan: make(chan raft.RPCResponse, 1)}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.ctx.Done():
		return errReset
	}
}

// askRaft has another replica's raft answer a request.
func askRaft[Req, Resp any](ctx context.Context, t *virtualTransport, to raft.ServerAddress, args *Req, resp *Resp) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	target := t.w.node(string(to))
	if err := t.w.net.carry(ctx, t.self, target); err != nil {
		return err
	}
	other := target.transport(t.shard)
	if other == nil {
		return errReset
	}
	sent := *args // raft keeps changing headers of what it got
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: &sent, RespChan: answer}
	beat, _ := any(&sent).(*raft.AppendEntriesRequest)
	other.mu.Lock()
	h := other.heartbeat
	other.mu.Unlock()
	if beat != nil && h != nil && wire.IsHeartbeat(beat) {
		h(rpc)
	} else {
		select {
		case other.requests <- rpc:
		case <-other.ctx.Done():
			return errReset
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var got raft.RPCResponse
	select {
	case got = <-answer:
	case <-other.ctx.Done():
		return errReset
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.w.net.carry(ctx, target, t.self); err != nil {
		return err
	}
	if got.Error != nil {
		return got.Error
	}
	*resp = *got.Response.(*Resp)
	return nil
}
