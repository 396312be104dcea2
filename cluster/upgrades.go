package cluster

import (
	"context"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/upgrade"
)

// openUpgrades makes this node's part in the rise of the cluster's feature level.
func (n *Node) openUpgrades() {
	n.upgrades = upgrade.New(upgrade.Config{
		Build: n.cfg.Build, Data: n.cfg.Data, Net: n.net, Directory: n.directory, Topology: n.topology.Load, Log: n.log.With("part", "upgrade"),
		Leads: func() bool {
			g, ok := n.host.Group(placement.DirectoryShard)
			return ok && g.IsLeader()
		},
	})
	n.upgrades.Register(n.net)
}

// fits is nil if this program knows the feature level of a cluster.
func fits(t *directory.Topology) error {
	if at := t.AtLevel(); at > feature.Newest() {
		return &feature.Outdated{Knows: feature.Newest(), Cluster: at}
	}
	return nil
}

// tooOld has Outdated give the reason, the first one.
func (n *Node) tooOld(why error) {
	select {
	case n.outdated <- why:
	default:
	}
}

// Outdated gives why this node's program is too old for the cluster, once that is found: the process should end, and start again with a newer one.
func (n *Node) Outdated() <-chan error { return n.outdated }

// Level is the cluster's feature level.
func (n *Node) Level() feature.Level { return n.directory.Level() }

// Upgrade says what each node runs, and what the cluster's feature level waits for.
func (n *Node) Upgrade(ctx context.Context) *upgrade.Status { return n.upgrades.Status(ctx) }

// HoldUpgrade has the cluster's feature level stay where it is, or ends that, and gives what the nodes say then.
func (n *Node) HoldUpgrade(ctx context.Context, hold bool) (*upgrade.Status, error) {
	return n.upgrades.Hold(ctx, hold)
}
