package shard

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// Methods of the shard service. Each request names its shard.
const (
	MethodPropose   = "shard.propose"
	MethodReadIndex = "shard.read_index"
)

// ProposeRequest asks a leader to commit an encoded Command.
type ProposeRequest struct {
	Shard   uint32 `cbor:"1,keyasint"`
	Command []byte `cbor:"2,keyasint"`
	Class   Class  `cbor:"3,keyasint,omitempty"`
}

// ProposeResponse carries the machine's result and where it stands in the log.
type ProposeResponse struct {
	Index  uint64 `cbor:"1,keyasint"`
	Result []byte `cbor:"2,keyasint,omitempty"`
}

// ReadIndexRequest asks a leader for a read index. A voter that asks for itself says in which term it was when the read had begun.
type ReadIndexRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
	Voter string `cbor:"2,keyasint,omitempty"`
	Term  uint64 `cbor:"3,keyasint,omitempty"`
}

// ReadIndexResponse is the entry to wait for.
type ReadIndexResponse struct {
	Index uint64 `cbor:"1,keyasint"`
}

// Host holds this node's groups and answers for them on the wire.
type Host struct {
	metrics *metrics
	peers   Peers
	ctx     context.Context // ends with Stop
	stop    context.CancelFunc
	work    sync.WaitGroup // goroutines of this host
	told    *told
	net     *transport.Net // nil in tests of groups alone

	// Lapsed is told that a leader found entries missing which this node's replica had acknowledged. Set it before groups are added.
	Lapsed func(shard uint32, by string, had, has uint64)

	mu      sync.RWMutex // guards the rest
	groups  map[uint32]*Group
	looking bool // lookAfter was started
	// replacing has the nodes in doubt for whose groups a leader is looked for; a value is sent when one comes in doubt again.
	replacing map[string]chan struct{}
}

// NewHost registers the service's methods. Groups are added as they start; until then requests are told to
// try another replica.
func NewHost(net *transport.Net) *Host {
	h := newHost(net)
	h.net = net
	transport.HandleUnary(net, MethodPropose, h.propose)
	transport.HandleUnary(net, MethodReadIndex, h.readIndex)
	transport.HandleUnary(net, MethodConfirm, h.confirm)
	transport.HandleUnary(net, MethodApplied, h.applied)
	transport.HandleUnary(net, MethodSuspect, h.suspect)
	transport.HandleUnary(net, MethodRelay, h.relay)
	transport.HandleUnary(net, MethodMembers, h.members)
	transport.HandleUnary(net, MethodChange, h.change)
	transport.HandleUnary(net, MethodLapse, h.lapse)
	transport.HandleUnary(net, MethodKept, h.kept)
	net.Handle(MethodState, h.serveState)
	net.OnDoubt(h.doubted)
	return h
}

func newHost(peers Peers) *Host {
	h := &Host{peers: peers, told: newTold(), groups: make(map[uint32]*Group), replacing: make(map[string]chan struct{})}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.metrics = newMetrics(h)
	return h
}

// Add makes a started group reachable.
func (h *Host) Add(g *Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groups[g.Shard()] = g
	h.watchLapses(g)
	if !h.looking {
		h.looking = true
		h.work.Go(h.lookAfter)
	}
}

// Group finds this node's replica of a shard.
func (h *Host) Group(shard uint32) (*Group, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	g, ok := h.groups[shard]
	return g, ok
}

// Groups lists this node's replicas.
func (h *Host) Groups() []*Group {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]*Group, 0, len(h.groups))
	for _, g := range h.groups {
		out = append(out, g)
	}
	return out
}

// Remove ends this node's replica of a shard and forgets it.
func (h *Host) Remove(shard uint32) error {
	h.mu.Lock()
	g := h.groups[shard]
	delete(h.groups, shard)
	h.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.Stop()
}

// ordered lists them by number.
func (h *Host) ordered() []*Group {
	out := h.Groups()
	slices.SortFunc(out, func(a, b *Group) int { return cmp.Compare(a.Shard(), b.Shard()) })
	return out
}

// Stop ends all groups at once and forgets them.
func (h *Host) Stop() error {
	h.stop()
	h.work.Wait()
	groups := h.Groups()
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (h *Host) find(shard uint32) (*Group, error) {
	g, ok := h.Group(shard)
	if !ok {
		return nil, wire.Errorf(wire.NotLeader, "this node runs no replica of shard %d", shard)
	}
	return g, nil
}

func (h *Host) propose(ctx context.Context, _ string, req *ProposeRequest) (*ProposeResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	c, err := DecodeCommand(req.Command)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "shard %d: %v", req.Shard, err)
	}
	began := time.Now()
	result, at, err := g.Propose(ctx, c, req.Class)
	h.metrics.proposed(began, err)
	if err != nil {
		return nil, err
	}
	return &ProposeResponse{Index: at, Result: result}, nil
}

func (h *Host) readIndex(ctx context.Context, _ string, req *ReadIndexRequest) (*ReadIndexResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	at, err := g.readIndexFor(ctx, req.Voter, req.Term)
	h.metrics.reads.WithLabelValues(result(err)).Inc()
	if err != nil {
		return nil, err
	}
	return &ReadIndexResponse{Index: at}, nil
}

func (h *Host) confirm(_ context.Context, _ string, req *ConfirmRequest) (*ConfirmResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	return &ConfirmResponse{Term: g.raft.CurrentTerm()}, nil
}

func (h *Host) applied(_ context.Context, _ string, req *AppliedRequest) (*AppliedResponse, error) {
	g, err := h.find(req.Shard)
	if err != nil {
		return nil, err
	}
	if err := g.unfit(); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "shard %d: %v", req.Shard, err)
	}
	return &AppliedResponse{Index: g.Applied()}, nil
}
