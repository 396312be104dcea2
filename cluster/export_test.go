package cluster

import (
	"context"
	"errors"

	"hongyan/cluster/client"
	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/mover"
	"hongyan/cluster/placement"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/recovery"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Propose commits a command of a test's own.
func (n *Node) Propose(ctx context.Context, number uint32, c *mailbox.Command) error {
	body, err := c.Encode()
	if err == nil {
		_, _, err = n.router.ProposeLevel(ctx, number, feature.Newest(), body, shard.ForPeople)
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

// EraseAt has another node erase its replica of a shard, as the mover does.
func (n *Node) EraseAt(ctx context.Context, node string, g placement.Group) error {
	return n.net.Call(ctx, node, mover.MethodErase, &mover.EraseRequest{Shard: g.Shard, Members: g}, &mover.EraseResponse{})
}

// ReplicasAt are the shards of which a node has replicas on its disk.
func (n *Node) ReplicasAt(ctx context.Context, node string) ([]uint32, error) {
	var have mover.ReplicasResponse
	err := n.net.Call(ctx, node, mover.MethodReplicas, &mover.ReplicasRequest{}, &have)
	return have.Shards, err
}

// FenceOff keeps this node's Raft groups from hearing of some nodes, and them of it; volumes go on.
func (n *Node) FenceOff(nodes ...string) { n.net.SetFenced(nodes) }

// Refuses says whether this node's Raft groups have nothing to do with a node.
func (n *Node) Refuses(node string) bool { return n.net.Fenced(node) }

// HoldReplicas keeps all replicas of this node from being opened, taken over or erased until release.
func (n *Node) HoldReplicas() (release func()) {
	n.replicas.Lock()
	return n.replicas.Unlock
}

// Rescue has this node's replica go on alone, as who drives a recovery asks for it.
func (n *Node) Rescue(ctx context.Context, req *recovery.RescueRequest) error {
	_, err := n.serveRescue(ctx, n.cfg.ID, req)
	return err
}

// Rows are all keys of an account in this node's replica of a shard, from their tags on.
func (n *Node) Rows(number uint32, account uint64) (map[string]string, error) {
	v := n.store.Index.Shard(number).View()
	rows := make(map[string]string)
	err := v.Account(account, func(key, value []byte) error {
		rows[string(key)] = string(value)
		return nil
	})
	return rows, errors.Join(err, v.Close())
}

// Plant writes keys of an account into this node's replica, past the log: damage that only a fault of the program's could do.
func (n *Node) Plant(number uint32, account uint64, rows map[string]string) error {
	s := n.store.Index.Shard(number)
	t := s.Begin() // nothing is applied meanwhile
	defer t.Discard()
	var pairs []index.Pair
	for key, value := range rows {
		pairs = append(pairs, index.Pair{Key: []byte(key), Value: []byte(value)})
	}
	at, err := s.Applied()
	if err == nil {
		err = t.Adopt(account, pairs)
	}
	if err == nil {
		err = t.Commit(at)
	}
	return err
}

// Mended are the contradictions that this node has looked into.
func (n *Node) Mended() []reconcile.Report { return n.reconcile.Reports() }

// Mend has this node look into a message of INBOX.
func (n *Node) Mend(ctx context.Context, a client.Account, e client.Message) (client.Ref, error) {
	return n.reconcile.Mend(ctx, a, 1, e.UID, e.Ref)
}
