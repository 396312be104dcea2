package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/mover"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/durable"
)

// Waits between two rounds of askKept.
const (
	keptPause        = 20 * time.Millisecond
	longestKeptPause = 2 * time.Second
)

// openGroups starts the replicas that this node has on its disk. A storage node that has none, and knows of no cluster, first finds
// out in the background whether there is one.
func (n *Node) openGroups(ctx context.Context) error {
	transport.HandleUnary(n.net, mover.MethodOpen, n.serveOpen)
	transport.HandleUnary(n.net, mover.MethodErase, n.serveErase)
	transport.HandleUnary(n.net, mover.MethodReplicas, n.serveReplicas)
	if n.store == nil {
		return nil
	}
	var err error
	if n.logs, err = shard.OpenLogs(filepath.Join(n.cfg.Data, "raft"), n.store.Key, n.log); err != nil {
		return n.setLogsAside(err)
	}
	n.closing(func(context.Context) error { return n.logs.Close() })
	n.closing(func(context.Context) error {
		n.replicas.Lock()
		n.stopped = true
		n.replicas.Unlock()
		return n.host.Stop()
	})
	if n.incarnation, err = readIncarnation(n.cfg.Data); err != nil {
		return err
	}
	kept, gone, err := shard.Replicas(vfs.Default, n.cfg.Data)
	if err != nil {
		return err
	}
	for _, number := range gone {
		if err := n.erase(number); err != nil {
			return err
		}
	}
	n.empty.Store(len(kept)+len(gone) == 0)
	if len(kept) == 0 && n.topology.Load().Version == 0 && !n.cfg.Join {
		n.work.Go(func() { n.openFirst(ctx) })
		return nil
	}
	return n.startKept(kept)
}

// setLogsAside has the next start begin with logs and an index that are empty if these cannot be trusted: the node takes its own place with them, as one whose
// disk was lost, and its replicas are made anew. Its volumes stay.
func (n *Node) setLogsAside(why error) error {
	damaged := (*shard.DamagedError)(nil)
	if !errors.As(why, &damaged) {
		return why
	}
	if err := n.store.Index.Distrust(); err != nil { // first: it belongs to the logs, and a crash leaves those to be found again
		return errors.Join(why, err)
	}
	to, err := durable.SetAside(vfs.Default, damaged.Dir)
	if err != nil {
		return errors.Join(why, err)
	}
	n.log.Error("logs set aside: started again, this node has its replicas made anew from the others", "was", damaged.Dir, "now", to, "err", damaged.Why)
	return fmt.Errorf("%w; they were set aside as %s: started again, this node has its replicas made anew from the others", why, to)
}

// lapsed is told by a leader that this node's disk lacks what it has promised: the disk lost some, or is an older copy. The next start sets the logs aside.
func (n *Node) lapsed(number uint32, by string, had, has uint64) {
	why := fmt.Errorf("shard %d: this node had acknowledged entry %d to %s, and started with %d: its disk has lost some, or is an older copy of itself", number, had, by, has)
	if err := shard.MarkDamaged(filepath.Join(n.cfg.Data, "raft"), why.Error()); err != nil {
		why = errors.Join(why, err)
	}
	n.endUnfit(why)
}

// askKept asks every other storage node once what this one has acknowledged to it before it began (shard/lapse.go), until ctx ends.
func (n *Node) askKept(ctx context.Context) {
	asked := make(map[string]bool)
	for wait := keptPause; ; wait = min(2*wait, longestKeptPause) {
		left := 0
		for _, p := range n.storagePeers() {
			if p.ID == n.cfg.ID || asked[p.ID] {
				continue
			}
			asked[p.ID] = n.net.Up(p.ID) && n.host.AskKept(ctx, p.ID) == nil
			if !asked[p.ID] {
				left++
			}
		}
		if left == 0 && n.topology.Load().Version > 0 {
			return
		}
		if !pause.For(ctx, wait) {
			return
		}
	}
}

// openFirst begins the first groups, on a node that has never had a replica, if there is no cluster yet. If there is one, what this node is to have is
// opened by who looks after placement.
func (n *Node) openFirst(ctx context.Context) {
	err := n.mayFound(ctx)
	if err == nil && n.topology.Load().Version == 0 {
		err = n.foundGroups()
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("the first replicas do not start: correct what is said and start the node again", "err", err)
	}
}

func (n *Node) foundGroups() error {
	n.replicas.Lock()
	defer n.replicas.Unlock()
	for _, g := range n.topology.Load().Groups {
		if !g.Holds(n.cfg.ID) || n.stopped {
			continue
		}
		lost, err := n.startGroup(g, founds)
		if err == nil && lost != nil {
			err = lost
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startKept starts the replicas that are on the disk. Their logs say who the members are, so nothing is begun here: a folder that a crash left
// empty waits for its leader.
func (n *Node) startKept(kept []uint32) error {
	n.replicas.Lock()
	defer n.replicas.Unlock()
	if err := n.foreign(); err != nil {
		n.log.Error("no replica is started", "err", err)
		return nil
	}
	t := n.topology.Load()
	if self, _ := t.Node(n.cfg.ID); self.Emptied != "" {
		return nil // what is on the disk is of another time: dropForeign
	}
	for _, number := range kept {
		g := placement.Group{Shard: number}
		if i := slices.IndexFunc(t.Groups, func(g placement.Group) bool { return g.Shard == number }); i >= 0 {
			g = t.Groups[i]
		}
		lost, err := n.startGroup(g, waits)
		if err != nil {
			return err
		}
		if lost != nil {
			n.lost.add(g, lost)
		}
	}
	return nil
}

// dropForeign erases what is on the disk of a node that was taken in place of another one, before it gets anything: it is of another time.
func (n *Node) dropForeign() error {
	self, _ := n.topology.Load().Node(n.cfg.ID)
	if n.store == nil || self.Emptied == "" || self.Emptied != n.incarnation {
		return nil
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	kept, _, err := shard.Replicas(vfs.Default, n.cfg.Data)
	for _, number := range kept {
		if _, runs := n.host.Group(number); err == nil && !runs && !n.stopped {
			err = n.erase(number)
		}
	}
	return err
}

// serveOpen makes a replica of a shard here: an empty one that the leader fills, or one of a new group.
func (n *Node) serveOpen(ctx context.Context, from string, req *mover.OpenRequest) (*mover.OpenResponse, error) {
	if n.store == nil {
		return nil, wire.Errorf(wire.Denied, "%s keeps no mail: its configuration has no role storage", n.cfg.ID)
	}
	if err := cmp.Or(n.foreign(), n.misplaced()); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "%v", err)
	}
	if req.Found {
		if err := n.mayBegin(ctx, req.Group); err != nil {
			return nil, err
		}
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	if n.stopped {
		return nil, wire.Errorf(wire.Unavailable, "%s stops", n.cfg.ID)
	}
	if _, ok := n.host.Group(req.Group.Shard); ok {
		return &mover.OpenResponse{}, nil
	}
	if n.lost.has(req.Group.Shard) {
		return nil, wire.Errorf(wire.Unavailable, "%s fetches the index of its replica of shard %d", n.cfg.ID, req.Group.Shard)
	}
	if err := n.erase(req.Group.Shard); err != nil { // of another time, if there is something: who is to join is no member
		return nil, err
	}
	how := joins
	if req.Found {
		how = founds
	}
	lost, err := n.startGroup(req.Group, how)
	if err == nil && lost != nil {
		err = lost
	}
	if err != nil {
		return nil, fmt.Errorf("open a replica of shard %d for %s: %w", req.Group.Shard, from, err)
	}
	n.log.Info("replica opened", "shard", req.Group.Shard, "for", from)
	return &mover.OpenResponse{}, nil
}

// mayBegin says why this node may not begin a replica of a new group.
func (n *Node) mayBegin(ctx context.Context, g placement.Group) error {
	if err := n.directory.CatchUp(ctx); err != nil {
		return err
	}
	founding, err := n.directory.Founding()
	if err != nil {
		return err
	}
	t, err := n.directory.Topology()
	if err != nil {
		return err
	}
	self, _ := t.Node(n.cfg.ID)
	if !slices.Contains(founding, g.Shard) || self.Emptied != "" || ctx.Err() != nil {
		return wire.Errorf(wire.Unavailable, "shard %d is not being founded now, or %s has lost its disk", g.Shard, n.cfg.ID)
	}
	return nil
}

// serveErase removes this node's replica of a shard, if the leader says that it is no member. Where the data is not what the node is known with nothing is
// removed: it may be another node's, and the only replica left.
func (n *Node) serveErase(ctx context.Context, from string, req *mover.EraseRequest) (*mover.EraseResponse, error) {
	if n.store == nil {
		return &mover.EraseResponse{}, nil
	}
	if err := n.foreign(); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "erase the replica of shard %d: %v", req.Shard, err)
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	now, err := n.router.Members(ctx, req.Shard, req.Members) // under the lock: an answer must not become old
	if err != nil {
		return nil, err
	}
	switch {
	case now.Holds(n.cfg.ID):
		return nil, wire.Errorf(wire.Invalid, "%s is a member of shard %d", n.cfg.ID, req.Shard)
	case n.lost.has(req.Shard):
		return nil, wire.Errorf(wire.Unavailable, "%s fetches the index of its replica of shard %d", n.cfg.ID, req.Shard)
	case n.stopped || ctx.Err() != nil:
		return nil, wire.Errorf(wire.Unavailable, "%s stops, or was asked too long ago", n.cfg.ID)
	}
	if err := errors.Join(n.host.Remove(req.Shard), n.erase(req.Shard)); err != nil {
		return nil, fmt.Errorf("erase the replica of shard %d for %s: %w", req.Shard, from, err)
	}
	n.client.Untrack(req.Shard)
	n.log.Info("replica erased", "shard", req.Shard, "for", from)
	return &mover.EraseResponse{}, nil
}

func (n *Node) erase(number uint32) error {
	return shard.Erase(n.logs, shard.Dir(n.cfg.Data, number), number, n.store.Index.Shard(number))
}

// serveReplicas lists what is on the disk, running or not.
func (n *Node) serveReplicas(context.Context, string, *mover.ReplicasRequest) (*mover.ReplicasResponse, error) {
	resp := &mover.ReplicasResponse{Incarnation: n.incarnation}
	if n.store == nil {
		return resp, nil
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	var err error
	resp.Shards, _, err = shard.Replicas(vfs.Default, n.cfg.Data)
	return resp, err
}

// storageNodes are the ids of storagePeers.
func (n *Node) storageNodes() (ids []string) {
	for _, p := range n.storagePeers() {
		ids = append(ids, p.ID)
	}
	return ids
}

// startMover has this node look after placement whenever it leads the directory.
func (n *Node) startMover(ctx context.Context) {
	n.mover = mover.New(mover.Config{
		Self: n.cfg.ID, Net: n.net, Router: n.router, Host: n.host, Directory: n.directory,
		LostAfter: seconds(n.cfg.Placement.LostAfterSeconds), Log: n.log.With("part", "mover"),
	})
	n.work.Go(func() { n.mover.Run(ctx) })
}

// Topology is who is in the cluster and where replicas are, as this node knows it.
func (n *Node) Topology() *directory.Topology { return n.topology.Load() }
