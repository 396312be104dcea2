// Package mover brings the replicas of shards to where they should be: it runs at the node that leads the directory, compares what is with what
// package placement wants, and takes one small step after the other.
//
// Invariants:
//
//  1. What a group's members are stands in its own log; the directory's record of it follows, and a step is computed from what the leader says.
//  2. A step is one change of one replica (package shard, change.go), taken only if the members are still those it was computed for. So two movers at
//     once, after a change of leader, get in each other's way and do no harm.
//  3. A replica is erased only when its group's leader says that it is no member, and never on a node with other data than it is known with: that is
//     another node's, which is off meanwhile.
//
// All state is in the groups' logs and the directory: a crash at any moment leaves a plan that the next leader computes again.
package mover

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
)

// Methods of a node that has replicas.
const (
	MethodOpen     = "mover.open"
	MethodErase    = "mover.erase"
	MethodReplicas = "mover.replicas"
)

// OpenRequest asks for a replica of a group that lives, or, with Found, of a new one with these members.
type OpenRequest struct {
	Group placement.Group `cbor:"1,keyasint"`
	Found bool            `cbor:"2,keyasint,omitempty"`
}

// OpenResponse says that it runs.
type OpenResponse struct{}

// EraseRequest asks for the end of a replica whose node is no member; Members are those who know.
type EraseRequest struct {
	Shard   uint32          `cbor:"1,keyasint"`
	Members placement.Group `cbor:"2,keyasint"`
}

// EraseResponse says that nothing is left of it.
type EraseResponse struct{}

// ReplicasRequest asks which replicas a node has.
type ReplicasRequest struct{}

// ReplicasResponse lists the shards.
type ReplicasResponse struct {
	Shards      []uint32 `cbor:"1,keyasint"`
	Incarnation string   `cbor:"2,keyasint,omitempty"`
}

// Pace of the work: each round takes one step of each group, of at most atOnce at the same time. The next one begins when twice the time has passed that the last one took,
// longestApart at most: small shards have their turn one after the other beside mail, large ones together. Rounds follow each other at busyPause while steps are
// taken, at idlePause otherwise, and at once when the directory changes.
const (
	atOnce       = 4
	longestApart = 400 * time.Millisecond
	leastFill    = 150 * time.Millisecond // what a new replica takes at least until it has the state, which its step does not wait for
	longestRound = 10 * time.Second       // then what is known of nodes and targets is looked at anew

	busyPause   = 200 * time.Millisecond
	idlePause   = 2 * time.Second
	stepTimeout = 20 * time.Second
	callTimeout = 10 * time.Second
	sweepEvery  = 30 * time.Second
	returnAfter = 5 * time.Second // a lost node must be up that long to be one of us again
	emptyDown   = time.Minute     // one whose disk is empty may be down that long before others get what it had
	emptyWait   = 2 * time.Minute // or be there without getting on
)

// Network is the part of transport.Net that is needed.
type Network interface {
	Up(node string) bool
	Call(ctx context.Context, node, method string, req, resp any) error
}

// Config is what a Mover needs.
type Config struct {
	Self      string
	Net       Network
	Router    *shard.Router
	Host      *shard.Host
	Directory *directory.Service
	LostAfter time.Duration // a node that has been down so long counts as lost
	Log       *slog.Logger
}

// Mover is one node's. It works while the node leads the directory.
type Mover struct {
	cfg Config

	// Only Run's goroutine uses these.
	down, up map[string]time.Time // since when each node is
	empty    map[string]refill    // of nodes whose disk is
	from     int                  // the group with which the next round begins
	swept    time.Time
	settled  uint64 // the topology in which nothing was left to do

	took atomic.Int64 // nanoseconds of the last step

	mu       sync.Mutex       // guards failures
	failures map[uint32]error // of the last step of each group
}

// New makes one.
func New(cfg Config) *Mover {
	return &Mover{cfg: cfg, down: make(map[string]time.Time), up: make(map[string]time.Time), empty: make(map[string]refill), failures: make(map[uint32]error)}
}

// Run works until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := m.cfg.Directory.Changed()
		wait := idlePause
		if g, ok := m.cfg.Host.Group(placement.DirectoryShard); ok && g.IsLeader() {
			moved, err := m.round(ctx)
			if err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("placement is not looked after now", "err", err)
			}
			if moved {
				wait = busyPause
			}
		} else {
			clear(m.down)
			clear(m.up)
			clear(m.empty)
		}
		select {
		case <-time.After(wait):
		case <-changed:
			select { // mail changes the directory too
			case <-time.After(busyPause):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
}

// round looks at everything once. It says whether something moved, or is about to.
func (m *Mover) round(ctx context.Context) (moved bool, err error) {
	t, err := m.cfg.Directory.Topology()
	if err != nil || t.Version == 0 {
		return false, err
	}
	if err := m.watch(ctx, t, time.Now()); err != nil {
		return false, err
	}
	founding, err := m.found(ctx, t)
	if err != nil || t.Paused {
		return len(founding) > 0, err
	}
	t.Groups = slices.DeleteFunc(t.Groups, func(g placement.Group) bool { return slices.Contains(founding, g.Shard) })
	if t.Version != m.settled { // mail changes the directory all the time, and where replicas should be hardly ever
		goal, err := Target(t, m.awaited(t, time.Now()))
		if err != nil {
			return false, err
		}
		if moved = m.advance(ctx, t.Groups, goal); !moved && len(goal.awaited) == 0 {
			m.settled = t.Version
		}
	}
	err = m.refilled(ctx, t)
	if now := time.Now(); now.Sub(m.swept) >= sweepEvery {
		m.swept = now
		m.sweep(ctx, t)
	}
	return moved, err
}

// Goal is where a topology's groups should be.
type Goal struct {
	Groups  []placement.Group // one for one
	without []placement.Group // where they should be if the awaited nodes did not come
	nodes   []placement.Node
	awaited []string
}

// Target computes the goal of a topology. Awaited are nodes that have an empty disk and are about to get what they had again: nothing moves elsewhere for them.
func Target(t *directory.Topology, awaited []string) (*Goal, error) {
	g := &Goal{awaited: awaited}
	var err error
	if len(awaited) > 0 {
		if g.without, err = placement.Target(members(t, nil), t.Groups, placement.Options{}); err != nil {
			return nil, err
		}
	}
	g.nodes = members(t, awaited)
	g.Groups, err = placement.Target(g.nodes, t.Groups, placement.Options{})
	return g, err
}

// members are a topology's nodes as placement sees them.
func members(t *directory.Topology, awaited []string) (nodes []placement.Node) {
	for _, n := range t.Nodes {
		if n.Removed {
			continue
		}
		gone := n.Lost || n.Emptied != "" && !slices.Contains(awaited, n.ID)
		nodes = append(nodes, placement.Node{
			ID: n.ID, Region: n.Region, Zone: n.Zone, Storage: n.Stores(), Weight: int(n.Weight), Leaving: n.Leaving() || gone, Lost: gone,
		})
	}
	return nodes
}

// next is the first step of the i-th group on its way. What an awaited node's members were counts for nothing, so they go first; what it is to have again waits until
// nothing names it any more (refilled), unless another of the group's nodes goes as well.
func (g *Goal) next(now placement.Group, i int) (placement.Step, bool) {
	waits := false
	for _, id := range g.awaited {
		if now.Holds(id) {
			return placement.Step{Shard: now.Shard, Kind: placement.Remove, Node: id}, true
		}
		waits = waits || g.Groups[i].Holds(id)
	}
	switch {
	case !waits:
		return placement.Next(now, g.Groups[i], g.nodes...)
	case slices.ContainsFunc(g.nodes, func(n placement.Node) bool { return n.Leaving && now.Holds(n.ID) }):
		return placement.Next(now, g.without[i], g.nodes...)
	}
	return placement.Step{}, false
}

// emptied are the nodes that have an empty disk in place of what the tables say, and are not lost.
func emptied(t *directory.Topology) (ids []string) {
	for _, n := range t.Nodes {
		if n.Emptied != "" && !n.Leaving() {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// refill is how far a node with an empty disk is.
type refill struct {
	named int       // by so many groups, as far as this mover has seen
	since time.Time // when there were more
}

// awaited are those that are emptied, but for such as do not get on or are down for a moment: what they had is made again elsewhere.
func (m *Mover) awaited(t *directory.Topology, now time.Time) []string {
	ids := emptied(t)
	maps.DeleteFunc(m.empty, func(id string, _ refill) bool { return !slices.Contains(ids, id) })
	return slices.DeleteFunc(ids, func(id string) bool {
		named := 0
		for _, g := range t.Groups {
			if g.Holds(id) {
				named++
			}
		}
		r, seen := m.empty[id]
		if !seen || named < r.named {
			r = refill{named, now}
			m.empty[id] = r
		}
		down := m.down[id]
		return now.Sub(r.since) >= emptyWait || !down.IsZero() && now.Sub(down) >= emptyDown
	})
}

// Plan lists the steps from a topology to its target, as they would be taken if nothing failed; at most limit.
func Plan(t *directory.Topology, limit int) ([]placement.Step, error) {
	goal, err := Target(t, emptied(t))
	if err != nil {
		return nil, err
	}
	var steps []placement.Step
	for i, now := range t.Groups {
		for len(steps) < limit {
			step, ok := goal.next(now, i)
			if !ok {
				break
			}
			steps = append(steps, step)
			now = step.Apply(now)
		}
	}
	return steps, nil
}

// Failures are why groups did not get on when they were last tried.
func (m *Mover) Failures() map[uint32]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[uint32]string, len(m.failures))
	for shard, err := range m.failures {
		out[shard] = err.Error()
	}
	return out
}

// watch notes who is down, and enters who is lost and who is back.
func (m *Mover) watch(ctx context.Context, t *directory.Topology, now time.Time) error {
	yes, no := true, false
	for _, n := range t.Nodes {
		if n.Removed || n.ID == m.cfg.Self {
			continue
		}
		since, was := m.down, m.up
		if m.cfg.Net.Up(n.ID) {
			since, was = m.up, m.down
		}
		delete(was, n.ID)
		if since[n.ID].IsZero() {
			since[n.ID] = now
		}
		var err error
		switch down, up := m.down[n.ID], m.up[n.ID]; {
		case !n.Lost && !down.IsZero() && now.Sub(down) >= m.cfg.LostAfter:
			m.cfg.Log.Warn("node counts as lost: what it had is made again elsewhere", "peer", n.ID, "down", now.Sub(down))
			err = m.cfg.Directory.ChangeNode(ctx, directory.ChangeNode{ID: n.ID, Lost: &yes})
		case n.Lost && !n.Fenced() && !up.IsZero() && now.Sub(up) >= returnAfter:
			m.cfg.Log.Info("lost node is back", "peer", n.ID)
			err = m.cfg.Directory.ChangeNode(ctx, directory.ChangeNode{ID: n.ID, Lost: &no})
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	return nil
}

// advance takes one step of some groups that are not where they should be.
func (m *Mover) advance(ctx context.Context, groups []placement.Group, goal *Goal) (moved bool) {
	var work sync.WaitGroup
	room, until := make(chan struct{}, atOnce), time.Now().Add(longestRound)
	first := m.from
	m.from = 0
	for k := range groups {
		i := (first + k) % len(groups)
		now := groups[i]
		if _, differs := goal.next(now, i); !differs {
			continue
		}
		moved = true
		room <- struct{}{}
		if !pause.For(ctx, min(2*time.Duration(m.took.Load()), longestApart)) || time.Now().After(until) {
			m.from = i // groups that do not get on keep none of the others waiting
			break
		}
		work.Go(func() {
			defer func() { <-room }()
			began := time.Now()
			adds, err := m.step(ctx, now, goal, i)
			took := time.Since(began)
			if adds {
				took = max(took, leastFill)
			}
			m.took.Store(int64(took))
			m.note(now.Shard, err)
		})
	}
	work.Wait()
	return moved
}

func (m *Mover) note(shard uint32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch old := m.failures[shard]; {
	case err == nil:
		delete(m.failures, shard)
	case old == nil || old.Error() != err.Error():
		m.cfg.Log.Info("a replica does not move now", "shard", shard, "err", err)
		m.failures[shard] = err
	}
}

// step takes a group's next step from what its leader says. It says whether that adds a replica.
func (m *Mover) step(ctx context.Context, recorded placement.Group, goal *Goal, i int) (adds bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	now, err := m.members(ctx, recorded)
	if err != nil {
		return false, err
	}
	step, more := goal.next(now, i)
	if !more {
		return false, m.record(ctx, now)
	}
	if adds = step.Kind == placement.AddLearner; adds {
		if err := m.call(ctx, step.Node, MethodOpen, &OpenRequest{Group: now}, &OpenResponse{}); err != nil {
			return adds, fmt.Errorf("%v: %w", step, err)
		}
	}
	after, err := m.cfg.Router.Change(ctx, step, now)
	if err != nil {
		return adds, err
	}
	after.Home = recorded.Home
	if err := m.record(ctx, after); err != nil {
		return adds, err
	}
	m.cfg.Log.Info("replica moved", "step", step.String(), "voters", after.Voters)
	if step.Kind == placement.Remove && m.cfg.Net.Up(step.Node) {
		if err := m.erase(ctx, step.Node, after); err != nil {
			m.cfg.Log.Info("replica that is no member any more is left for later", "shard", after.Shard, "peer", step.Node, "err", err)
		}
	}
	return adds, nil
}

// members is what the leader says, with the home that the directory says.
func (m *Mover) members(ctx context.Context, recorded placement.Group) (placement.Group, error) {
	now, err := m.cfg.Router.Members(ctx, recorded.Shard, recorded)
	now.Home = recorded.Home
	return now, err
}

func (m *Mover) record(ctx context.Context, g placement.Group) error {
	if err := m.cfg.Directory.SetGroup(ctx, g, false); err != nil {
		return fmt.Errorf("enter the members of shard %d: %w", g.Shard, err)
	}
	return nil
}

func (m *Mover) call(ctx context.Context, node, method string, req, resp any) error {
	if !m.cfg.Net.Up(node) {
		return wire.Errorf(wire.Unavailable, "%s is down", node)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return m.cfg.Net.Call(ctx, node, method, req, resp)
}

func (m *Mover) erase(ctx context.Context, node string, members placement.Group) error {
	return m.call(ctx, node, MethodErase, &EraseRequest{Shard: members.Shard, Members: members}, &EraseResponse{})
}

// refilled ends what is said of nodes with an empty disk once no group counts on what they had, and nothing is left of it. From then on they get replicas
// as any other.
func (m *Mover) refilled(ctx context.Context, t *directory.Topology) error {
	for _, n := range t.Nodes {
		held := slices.ContainsFunc(t.Groups, func(g placement.Group) bool { return g.Holds(n.ID) })
		if n.Removed || n.Emptied == "" || held {
			continue
		}
		var have ReplicasResponse
		if err := m.call(ctx, n.ID, MethodReplicas, &ReplicasRequest{}, &have); err != nil || have.Incarnation != n.Emptied || len(have.Shards) > 0 {
			continue // it comes to it
		}
		if err := m.cfg.Directory.ChangeNode(ctx, directory.ChangeNode{ID: n.ID, Refilled: true}); err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	return nil
}

// sweep holds the records against what is: of each group what the leader says its members are, and of each node that answers which replicas it has. A step
// whose answer was lost is entered; a replica that is no member's is erased; a member without a replica is taken out, and then made anew as any that is missing.
func (m *Mover) sweep(ctx context.Context, t *directory.Topology) {
	have := m.held(ctx, t)
	for _, recorded := range t.Groups {
		if err := m.sweepGroup(ctx, recorded, have); err != nil && ctx.Err() == nil {
			m.cfg.Log.Info("a shard's replicas are not as they should be, and are looked at again", "shard", recorded.Shard, "err", err)
		}
	}
}

// held asks the nodes which replicas they have. One with an empty disk, or with other data than it is known with (3), is left out: nothing follows from what it has.
func (m *Mover) held(ctx context.Context, t *directory.Topology) map[string][]uint32 {
	have := make(map[string][]uint32)
	for _, n := range t.Nodes {
		var r ReplicasResponse
		if !n.Stores() || n.Emptied != "" || m.call(ctx, n.ID, MethodReplicas, &ReplicasRequest{}, &r) != nil {
			continue
		}
		if foreign := n.Incarnation != "" && r.Incarnation != "" && n.Incarnation != r.Incarnation; !foreign {
			have[n.ID] = r.Shards
		}
	}
	return have
}

func (m *Mover) sweepGroup(ctx context.Context, recorded placement.Group, have map[string][]uint32) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	now, err := m.members(ctx, recorded)
	if err != nil {
		return err
	}
	if err := m.record(ctx, now); err != nil {
		return err
	}
	for node, shards := range have {
		switch is := slices.Contains(shards, now.Shard); {
		case is && !now.Holds(node):
			err = m.erase(ctx, node, now)
		case !is && now.Holds(node):
			m.cfg.Log.Warn("a member has no replica, it is made anew", "shard", now.Shard, "peer", node)
			_, err = m.cfg.Router.Change(ctx, placement.Step{Shard: now.Shard, Kind: placement.Remove, Node: node}, now)
			return err // and the rest next time
		}
		if err != nil {
			return err
		}
	}
	return nil
}
