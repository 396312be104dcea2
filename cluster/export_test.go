package cluster

import (
	"context"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/engine/volume"
)

// Propose commits a command of a test's own.
func (n *Node) Propose(ctx context.Context, number uint32, c *mailbox.Command) error {
	body, err := c.Encode()
	if err == nil {
		_, _, err = n.router.Propose(ctx, number, body, shard.ForPeople)
	}
	return err
}

// Early counts the messages that this node entered early, and the volumes that its replica of a shard has markers of.
func (n *Node) Early(shard uint32) (messages uint64, markers int, err error) {
	v := n.store.Index.Shard(shard).View()
	defer v.Close()
	list, err := v.EarlyVolumes()
	return n.volumes.Stats().EarlyAppends, len(list), err
}

// Entries is the volume table as this node has it.
func (n *Node) Entries(ctx context.Context) ([]replica.Entry, error) { return n.directory.Volumes(ctx) }

// Primary is the node that appends to a volume.
func (n *Node) Primary(id volume.ID) string {
	e, _ := n.volumes.Entry(id)
	return e.Primary
}

// Leads says whether this node leads a shard.
func (n *Node) Leads(shard uint32) bool {
	g, ok := n.host.Group(shard)
	return ok && g.IsLeader()
}

// FenceOff keeps this node's Raft groups from hearing of some nodes, and them of it; volumes go on.
func (n *Node) FenceOff(nodes ...string) { n.net.SetFenced(nodes) }
