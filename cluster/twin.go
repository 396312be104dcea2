package cluster

import (
	"context"
	"fmt"
	"time"

	"hongyan/cluster/transport"
)

// A second process with this node's certificate is a copy of its machine, or a file that was copied for another node: both would speak for one member, vote
// with one voice twice and drive each other out of the tables. The one that the cluster's address of the node leads to stays, the other one ends. It is
// looked for before a replica is started, before an empty disk takes the place of what was known, and from time to time, for it may have been off before.
// Where the address leads nowhere from here, nobody is found.

const twinEvery = 5 * time.Second

// ownAddress is where others reach this node, "" while nobody has said so: an address of its own configuration is its own for certain.
func (n *Node) ownAddress() string {
	t := n.topology.Load()
	self, known := t.Node(n.cfg.ID)
	if t.Version == 0 || !known || self.Removed {
		return ""
	}
	return self.Address
}

func (n *Node) errTwin(addr string) error {
	return fmt.Errorf("another process answers at %s as node %s: if this one is a copy of that node, or was given its certificate by mistake, give it its own; if it is to take that node's place, switch the other one off first", addr, n.cfg.ID)
}

// refuseTwin fails if another process lives as this node, before this one listens.
func (n *Node) refuseTwin(ctx context.Context) error {
	addr := n.ownAddress()
	if addr == "" {
		return nil
	}
	name, err := transport.TwinBefore(ctx, n.transportConfig(), addr)
	if err == nil && name != "" {
		err = n.errTwin(addr)
	}
	return err
}

// yieldToTwin says whether another process lives as this node, and has this one end then.
func (n *Node) yieldToTwin(ctx context.Context) bool {
	addr := n.ownAddress()
	if addr == "" || n.net.Twin(ctx, addr) == "" {
		return false
	}
	n.endUnfit(n.errTwin(addr))
	return true
}

func (n *Node) watchTwin(ctx context.Context) {
	tick := time.NewTicker(twinEvery)
	defer tick.Stop()
	for !n.yieldToTwin(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
