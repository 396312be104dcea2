package shard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/clock"
	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// How long an attempt may take before another voter is asked: a leader that hangs costs the first of these, one that is only slow
// gets longer each time.
const (
	firstAttempt   = time.Second
	longestAttempt = 4 * time.Second
)

// Router finds the leaders of all shards and follows them. Safe for concurrent use.
type Router struct {
	Clock *clock.Clock // what commands are stamped with; to be set before the first

	self     string
	peers    Peers
	host     *Host
	mu       sync.Mutex                 // guards the rest
	groups   map[uint32]placement.Group // as the directory has them
	leaders  map[uint32]string          // who answered last
	searches map[uint32]*search         // of shards whose leader somebody looks for
}

// NewRouter makes a router over some groups. host holds this node's own replicas, if any.
func NewRouter(self string, peers Peers, host *Host, groups []placement.Group) *Router {
	r := &Router{self: self, peers: peers, host: host, leaders: make(map[uint32]string), searches: make(map[uint32]*search)}
	r.SetGroups(groups)
	return r
}

// SetGroups replaces what the directory said of the groups. One that it does not name is gone.
func (r *Router) SetGroups(groups []placement.Group) {
	table := make(map[uint32]placement.Group, len(groups))
	for _, g := range groups {
		table[g.Shard] = g
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups = table
}

// Group is a shard's membership: as this node's replica has it, else as the directory had it a moment ago.
func (r *Router) Group(shard uint32) (placement.Group, bool) {
	if g, ok := r.host.Group(shard); ok {
		if now := g.Members(); len(now.Voters) > 0 {
			return now, true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.groups[shard]
	return g, ok && len(g.Voters) > 0
}

// Shards lists the numbers of all groups in order, the directory's first.
func (r *Router) Shards() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.groups))
}

// Propose commits a command body at the shard's leader, whoever that becomes, until ctx ends. The request id is
// drawn here, so that all attempts together apply it once. An error means that it is unknown
// whether the command was or will be applied.
func (r *Router) Propose(ctx context.Context, shard uint32, body []byte, class Class) (result []byte, at uint64, err error) {
	return r.propose(ctx, shard, Command{ID: NewRequestID(), Body: body}, class)
}

// ProposeLevel is Propose of a body that only programs of a feature level can apply. The caller knows that the cluster is at that level: a node whose program
// does not know it would stop at the entry.
func (r *Router) ProposeLevel(ctx context.Context, shard uint32, level feature.Level, body []byte, class Class) (result []byte, at uint64, err error) {
	return r.propose(ctx, shard, Command{Level: level, ID: NewRequestID(), Body: body}, class)
}

// ProposeAll is ProposeLevel of several bodies, of accounts that differ, which are applied in one log entry: MaxBundle at most, and MaxCommand bytes. The cluster is
// at feature.Bundles. Each body has its result.
func (r *Router) ProposeAll(ctx context.Context, shard uint32, level feature.Level, bodies [][]byte, class Class) (results [][]byte, at uint64, err error) {
	b, at, err := r.propose(ctx, shard, Command{Level: max(level, feature.Bundles), ID: NewRequestID(), Bodies: bodies}, class)
	if err != nil {
		return nil, 0, err
	}
	if results, err = decodeList(b); err == nil && len(results) != len(bodies) {
		err = fmt.Errorf("shard %d: %d results of %d commands", shard, len(results), len(bodies))
	}
	return results, at, err
}

// ProposeAs is ProposeLevel with an id that the caller drew, for one command only.
func (r *Router) ProposeAs(ctx context.Context, shard uint32, id RequestID, level feature.Level, body []byte, class Class) (result []byte, at uint64, err error) {
	return r.propose(ctx, shard, Command{Level: level, ID: id, Body: body}, class)
}

func (r *Router) propose(ctx context.Context, shard uint32, c Command, class Class) (result []byte, at uint64, err error) {
	c.Now = r.Clock.Now().Unix()
	req := &ProposeRequest{Shard: shard, Command: c.Encode(), Class: class}
	var resp ProposeResponse
	if err := r.AtLeader(ctx, shard, MethodPropose, req, &resp); err != nil {
		return nil, 0, err
	}
	return resp.Result, resp.Index, nil
}

// ReadIndex asks the shard's leader for the entry that a fresh read must wait for.
func (r *Router) ReadIndex(ctx context.Context, shard uint32) (uint64, error) {
	req := &ReadIndexRequest{Shard: shard}
	if g, ok := r.host.Group(shard); ok && g.mayVote() == nil {
		req.Voter, req.Term = r.self, g.raft.CurrentTerm()
	}
	var resp ReadIndexResponse
	err := r.AtLeader(ctx, shard, MethodReadIndex, req, &resp)
	return resp.Index, err
}

// AtLeader calls a method at the shard's leader, whoever that becomes, until ctx ends. The handler says NotLeader where it does not lead.
func (r *Router) AtLeader(ctx context.Context, shard uint32, method string, req, resp any) error {
	return r.atLeaderOf(ctx, shard, placement.Group{}, method, req, resp)
}

// voters are those who may lead a shard: as this node's replica has them, then those of the directory and of likely, since a replica may have been
// left behind.
func (r *Router) voters(shard uint32, likely placement.Group) (placement.Group, bool) {
	group := placement.Group{Shard: shard}
	if g, ok := r.host.Group(shard); ok {
		group = g.Members()
	}
	r.mu.Lock()
	table := r.groups[shard]
	r.mu.Unlock()
	for _, more := range [][]string{likely.Voters, table.Voters} {
		for _, v := range more {
			if !slices.Contains(group.Voters, v) {
				group.Voters = append(slices.Clip(group.Voters), v)
			}
		}
	}
	return group, len(group.Voters) > 0
}

// atLeaderOf is AtLeader, with others who may know.
func (r *Router) atLeaderOf(ctx context.Context, shard uint32, likely placement.Group, method string, req, resp any) error {
	group, ok := r.voters(shard, likely)
	if !ok {
		return wire.Errorf(wire.NotFound, "there is no shard %d", shard)
	}
	turn := r.takeTurns(shard)
	defer turn.end()
	patience := firstAttempt
	last := errors.New("no attempt was made")
	for {
		target := r.leader(group)
		for range len(group.Voters) + 1 { // the likely leader, then by hints or in turn
			err := r.attemptAt(ctx, patience, group, target, method, req, resp)
			if err == nil {
				r.found(shard, target)
				return nil
			}
			if !retryable(err) {
				return err
			}
			if errors.Is(err, wire.ErrDeadline) {
				patience = min(2*patience, longestAttempt)
			}
			if leader := r.behind(target, err); leader != "" {
				if err = r.around(ctx, patience, target, leader, method, req, resp); err == nil {
					return nil
				}
				if !retryable(err) {
					return err
				}
			}
			last = err
			target = r.next(group, target, err)
		}
		if !turn.wait(ctx) {
			return wire.Errorf(wire.Unavailable, "shard %d: no leader answered in time: %v", shard, last)
		}
		group, _ = r.voters(shard, likely) // replicas move
	}
}

// fencer is the part of our transport that says who leads nothing any more, whatever they believe.
type fencer interface{ Fenced(node string) bool }

// attempt asks one node, and turns away from it as soon as it is in doubt.
func (r *Router) attempt(ctx context.Context, patience time.Duration, target, method string, req, resp any) error {
	if f, ok := r.peers.(fencer); ok && f.Fenced(target) {
		return wire.Errorf(wire.Unavailable, "%s was given up for ever", target)
	}
	if err := ctx.Err(); err != nil {
		return wire.Errorf(wire.Unavailable, "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.peers.CallSound(ctx, target, method, req, resp)
}

// attemptAt is attempt at a voter. One that this node's replica does not hold for the leader is left as soon as that comes to know another
// leader: a voter overseas would say so much later.
func (r *Router) attemptAt(ctx context.Context, patience time.Duration, group placement.Group, target, method string, req, resp any) error {
	g, here := r.host.Group(group.Shard)
	if !here || target == r.self {
		return r.attempt(ctx, patience, target, method, req, resp)
	}
	changed := g.leaders.change()
	if g.Leader() == target {
		return r.attempt(ctx, patience, target, method, req, resp)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with this call
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			changed = g.leaders.change()
			if now := g.Leader(); now != "" && now != target {
				cancel()
			}
		}
	}()
	return r.attempt(ctx, patience, target, method, req, resp)
}

// retryable says whether another node, or the same one later, may do better.
func retryable(err error) bool {
	return !errors.Is(err, wire.ErrInvalid) && !errors.Is(err, wire.ErrDenied) && !errors.Is(err, wire.ErrLimit) && !errors.Is(err, wire.ErrOverloaded) &&
		!errors.Is(err, wire.ErrUnsupported)
}

// leader guesses where to begin: this node's own replica knows best, then whoever answered last.
func (r *Router) leader(group placement.Group) string {
	if g, ok := r.host.Group(group.Shard); ok {
		if id := g.Leader(); id != "" {
			return id
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if id := r.leaders[group.Shard]; id != "" {
		return id
	}
	return group.Voters[0]
}

// next is where to go after err: to the leader that was named or that this node's replica knows, else to the next voter in turn.
func (r *Router) next(group placement.Group, tried string, err error) string {
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.NotLeader && e.Hint != "" && e.Hint != tried {
		return e.Hint
	}
	if g, ok := r.host.Group(group.Shard); ok {
		if known := g.Leader(); known != "" && known != tried && !r.peers.InDoubt(known) {
			return known
		}
	}
	for i, v := range group.Voters {
		if v == tried {
			return group.Voters[(i+1)%len(group.Voters)]
		}
	}
	return group.Voters[0]
}

// Status describes a shard as this node sees it.
type Status struct {
	Shard    uint32   `json:"shard"`
	Home     string   `json:"home"`
	Leader   string   `json:"leader"`
	Voters   []string `json:"voters"`
	Learners []string `json:"learners,omitempty"`
	Applied  uint64   `json:"applied"`
	First    uint64   `json:"log_first"` // a replica that is further behind gets a snapshot
}

// Status lists the shards that this node has replicas of, in order.
func (r *Router) Status() ([]Status, error) {
	var out []Status
	for _, g := range r.host.ordered() {
		first, err := g.log.FirstIndex()
		if err != nil {
			return nil, fmt.Errorf("read the log of shard %d: %w", g.Shard(), err)
		}
		members := g.Members()
		out = append(out, Status{
			Shard: g.Shard(), Home: members.Home, Leader: g.Leader(), Voters: members.Voters, Learners: members.Learners, Applied: g.Applied(), First: first,
		})
	}
	return out, nil
}

// Ready lists the replicas here that have no leader or no longer apply entries.
func (r *Router) Ready() []string {
	var why []string
	for _, g := range r.host.ordered() {
		if err := g.Err(); err != nil {
			why = append(why, fmt.Sprintf("shard %d: the state machine stopped: %v", g.Shard(), err))
		} else if err := g.fsm.hitch(); err != nil {
			why = append(why, fmt.Sprintf("shard %d: %v", g.Shard(), err))
		} else if g.Leader() == "" {
			why = append(why, fmt.Sprintf("shard %d: no leader", g.Shard()))
		}
	}
	return why
}
