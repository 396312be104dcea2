package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/recovery"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// openRecovery makes what has shards go on that have lost their majority (package recovery), on a node that keeps mail.
func (n *Node) openRecovery() {
	transport.HandleUnary(n.net, recovery.MethodFence, n.serveFence)
	if n.store == nil {
		return
	}
	transport.HandleUnary(n.net, recovery.MethodRescue, n.serveRescue)
	n.recovery = recovery.New(recovery.Config{
		Self: n.cfg.ID, Net: n.net, Router: n.router, Host: n.host, Directory: n.directory, Topology: n.topology.Load,
		Kept: func() ([]uint32, error) {
			kept, _, err := shard.Replicas(vfs.Default, n.cfg.Data)
			return kept, err
		},
		End:   n.logs.End,
		Entry: n.volumes.Entry, Spread: n.volumes.Spread, Whole: n.volumes.CompleteOn, Volumes: n.store.Volumes, Index: n.store.Index, Clock: &n.clock, Log: n.log.With("part", "recovery"),
	})
	n.closing(func(context.Context) error { n.recovery.Close(); return nil })
}

// recovering says whether shards were recovered, and what they lost is still looked for.
func (n *Node) recovering() bool {
	notes, err := n.directory.RecoveryNotes()
	return err != nil || len(notes) > 0
}

// serveRescue has this node's replica of a shard go on alone.
func (n *Node) serveRescue(ctx context.Context, from string, req *recovery.RescueRequest) (*recovery.RescueResponse, error) {
	number := req.Rescue.Shard
	for n.topology.Load().Version < req.Topology { // it fences those who are lost
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, wire.Errorf(wire.Unavailable, "%s does not know topology %d yet", n.cfg.ID, req.Topology)
		}
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	for _, id := range req.Lost {
		if fenced, _ := n.topology.Load().Node(id); n.net.Up(id) && !fenced.Fenced() {
			return nil, wire.Errorf(wire.Invalid, "%s answers to %s: it is not lost", id, n.cfg.ID)
		}
	}
	g, runs := n.host.Group(number)
	if !runs || n.stopped {
		return nil, wire.Errorf(wire.Invalid, "no replica of shard %d runs on %s", number, n.cfg.ID)
	}
	if leader := g.Leader(); leader != "" && !slices.Contains(req.Lost, leader) { // which raft may not have noticed yet
		return nil, wire.Errorf(wire.Invalid, "shard %d is led by %s: it needs no recovery", number, leader)
	}
	if number == placement.DirectoryShard { // whose first command says so to everybody
		n.net.SetFenced(append(n.topology.Load().Fenced(), req.Lost...))
	}
	n.log.Warn("a shard without majority goes on from this replica", "shard", number, "lost", req.Lost, "entry", req.Rescue.Last, "for", from)
	home := g.Home()
	if err := n.host.Remove(number); err != nil {
		n.net.SetFenced(n.topology.Load().Fenced())
		return nil, fmt.Errorf("stop the replica of shard %d: %w", number, err)
	}
	n.client.Untrack(number)
	failed := g.Rescue(req.Rescue, n.clock.Now().Unix())
	if errors.Is(failed, wire.ErrInvalid) { // it is as it was, and so is who may speak to it; after other failures it may be taken over
		n.net.SetFenced(n.topology.Load().Fenced())
	}
	lost, err := n.startGroup(placement.Group{Shard: number, Home: home}, waits)
	if err == nil && lost != nil {
		err = lost
	}
	if err := errors.Join(failed, err); err != nil {
		return nil, fmt.Errorf("rescue shard %d at %s: %w", number, n.cfg.ID, err)
	}
	if g, runs := n.host.Group(number); runs {
		g.StandAlone(ctx)
	}
	return &recovery.RescueResponse{}, nil
}

// serveFence takes a topology that may have given this node up.
func (n *Node) serveFence(_ context.Context, from string, req *recovery.FenceRequest) (*recovery.FenceResponse, error) {
	if req.Topology == nil {
		return nil, wire.Errorf(wire.Invalid, "%s sent no topology", from)
	}
	if known := n.topology.Load(); req.Topology.Recoveries() > known.Recoveries() {
		if err := n.takeTopology(req.Topology); err != nil {
			return nil, err
		}
	}
	return &recovery.FenceResponse{Version: n.topology.Load().Version}, nil
}

// fence refuses the Raft messages of those who were given up. If this node is one of them, its replicas end: they speak for a past that was given up too.
func (n *Node) fence(t *directory.Topology) error {
	n.net.SetFenced(t.Fenced())
	self, _ := t.Node(n.cfg.ID)
	if !self.Fenced() {
		return nil
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	var failed error
	for _, g := range n.host.Groups() {
		n.log.Error("this node was given up for ever: its replica ends", "shard", g.Shard())
		failed = errors.Join(failed, n.host.Remove(g.Shard()))
		n.client.Untrack(g.Shard())
	}
	return failed
}

// tellFenced tells nodes that were given up, and are up again with what they had, that they were, until ctx ends. Their own directory may say otherwise.
func (n *Node) tellFenced(ctx context.Context) {
	up := make(chan struct{}, 1)
	n.net.OnChange(func(string, bool) {
		select {
		case up <- struct{}{}:
		default:
		}
	})
	told := make(map[string]uint64) // version that was taken
	for ctx.Err() == nil {
		t := n.topology.Load()
		for _, id := range t.Fenced() {
			switch {
			case id == n.cfg.ID:
			case !n.net.Up(id):
				delete(told, id)
			case told[id] < t.Version:
				try, cancel := context.WithTimeout(ctx, 5*time.Second)
				var resp recovery.FenceResponse
				err := n.net.Call(try, id, recovery.MethodFence, &recovery.FenceRequest{Topology: t}, &resp)
				cancel()
				if err == nil {
					told[id] = t.Version
				} else if ctx.Err() == nil {
					n.log.Info("a node that was given up is not told yet", "peer", id, "err", err)
				}
			}
		}
		select {
		case <-up:
		case <-time.After(topologyPause):
		case <-ctx.Done():
		}
	}
}

// RecoveryPlan says what a recovery would do now.
func (n *Node) RecoveryPlan(ctx context.Context) (*recovery.Plan, error) {
	if n.recovery == nil {
		return nil, errKeepsNothing(n.cfg.ID)
	}
	return n.recovery.Plan(ctx)
}

// Recover begins a recovery.
func (n *Node) Recover(ctx context.Context, req recovery.Request) (*recovery.Job, error) {
	if n.recovery == nil {
		return nil, errKeepsNothing(n.cfg.ID)
	}
	if level := n.directory.Level(); level < feature.Moves {
		return nil, wire.Errorf(wire.Unavailable, "the cluster is at feature level %s, whose programs cannot recover a shard: see `hongyan admin upgrade`", level)
	}
	return n.recovery.Start(ctx, req)
}

// Recovery is the one that this node was asked for last, nil if there was none.
func (n *Node) Recovery() *recovery.Job {
	if n.recovery == nil {
		return nil
	}
	return n.recovery.Job()
}

func errKeepsNothing(id string) error {
	return wire.Errorf(wire.Invalid, "%s keeps no mail: ask a node that does", id)
}
