package cluster

import (
	"context"
	"errors"

	"hongyan/cluster/client"
	"hongyan/cluster/feature"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/wire"
)

// openReconcile makes what mends folders that contradict the volumes.
func (n *Node) openReconcile() {
	c := reconcile.Config{
		Self: n.cfg.ID, Net: n.net, Router: n.router, Host: n.host, Directory: n.directory, Copies: n.volumes,
		Door: func() reconcile.Door { return n.client }, Nodes: n.storageNodes, Clock: &n.clock, Log: n.log.With("part", "reconcile"),
	}
	if n.store != nil {
		c.Volumes = n.store.Volumes
	}
	n.reconcile = reconcile.New(c)
	n.closing(func(context.Context) error { n.reconcile.Close(); return nil })
}

// CheckAccount holds an account's folders against their messages and those against the volumes, from a cursor on, and with repair mends what contradicts.
func (n *Node) CheckAccount(ctx context.Context, address string, repair bool, after reconcile.Cursor) (*reconcile.Checked, error) {
	if level := n.directory.Level(); level < feature.Moves {
		return nil, wire.Errorf(wire.Unavailable, "the cluster is at feature level %s, whose programs cannot mend an account: see `hongyan admin upgrade`", level)
	}
	a, err := n.client.Resolve(ctx, address)
	if errors.Is(err, client.ErrNoUser) {
		return nil, wire.Errorf(wire.NotFound, "there is no account %s", address)
	}
	if err != nil {
		return nil, err
	}
	return n.reconcile.Check(ctx, a, repair, after)
}
