package transport

import (
	"context"
	"fmt"
	"slices"

	"hongyan/cluster/wire"
)

// table is the nodes that this one talks to, itself not among them. It is never changed: SetPeers puts another in its place.
type table struct {
	list     []Peer // in the order given
	peers    map[string]*peer
	replaced chan struct{} // closed when another is in its place
}

// SetPeers replaces the peer table, whole. Peers that are new are dialled at once, if Serve was called. Those that are gone are refused
// from now on, and every connection with them is closed: what waits for them fails with Unavailable, and OnChange and OnDoubt tell it as of
// any peer that goes down. Those that stay keep their connections; another address holds from the next one on. The node itself may
// be in the list, which is ignored.
//
// A list that names a node twice, or an address that is none, is refused, and so is any once the Net is closed; then nothing changes. The
// same list again changes nothing either.
func (n *Net) SetPeers(peers []Peer) error {
	if err := checkPeers(n.cfg.ID, peers); err != nil {
		return fmt.Errorf("change the peer table: %w", err)
	}
	changed, err := n.replaceTable(peers)
	if err != nil {
		return fmt.Errorf("change the peer table: %w", err)
	}
	if !changed {
		return nil
	}
	n.examine() // who else is well may have changed
	n.mu.Lock()
	callbacks := n.onPeers[:len(n.onPeers):len(n.onPeers)]
	n.mu.Unlock()
	for _, f := range callbacks {
		f()
	}
	return nil
}

// OnPeers adds a callback for changes of the peer table, which Peers then tells. Two changes at a time may call it at a time.
func (n *Net) OnPeers(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onPeers = append(n.onPeers, f)
}

// Peers is the peer table as it is now, without the node itself.
func (n *Net) Peers() []Peer { return slices.Clone(n.table.Load().list) }

// Knows says that a node is in the peer table, or is this one.
func (n *Net) Knows(node string) bool { return node == n.cfg.ID || n.find(node) != nil }

// replaceTable works in an order that leaves no gap: the new table first, so that nobody finds a peer that is about to end; then
// the ends; then the beginnings.
func (n *Net) replaceTable(peers []Peer) (changed bool, err error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	if n.ctx.Err() != nil {
		return false, errClosed
	}
	for id, ended := range n.leaving {
		select {
		case <-ended:
			delete(n.leaving, id)
		default:
		}
	}
	old := n.table.Load()
	next, added := n.successor(old, peers)
	if slices.EqualFunc(old.list, next.list, sameLine) {
		return false, nil
	}
	n.table.Store(next)
	close(old.replaced)
	for id, p := range old.peers {
		if next.peers[id] != nil {
			continue
		}
		n.log.Info("peer taken out of the table", "peer", id)
		if n.serving.Load() {
			n.leaving[id] = p.ended
		}
		p.leave()
	}
	for _, line := range next.list {
		if p := next.peers[line.ID]; *p.addr.Load() != line.Addr {
			n.log.Info("peer has another address", "peer", p.ID, "addr", line.Addr)
			p.move(line.Addr)
		}
	}
	for _, p := range added {
		n.log.Info("peer added to the table", "peer", p.ID, "addr", *p.addr.Load())
		if n.serving.Load() {
			n.spawn(p.run) // unless the Net is closing
		}
	}
	return true, nil
}

// successor is the table of a list: peers of the old one that stay, and new ones.
func (n *Net) successor(old *table, peers []Peer) (next *table, added []*peer) {
	next = &table{peers: make(map[string]*peer, len(peers)), replaced: make(chan struct{})}
	for _, line := range peers {
		if line.ID == n.cfg.ID {
			continue
		}
		line.Roles = slices.Clone(line.Roles) // the list is the caller's
		next.list = append(next.list, line)
		p := old.peers[line.ID]
		if p == nil {
			p = newPeer(n, line, n.leaving[line.ID])
			added = append(added, p)
		}
		next.peers[line.ID] = p
	}
	return next, added
}

func sameLine(a, b Peer) bool {
	return a.ID == b.ID && a.Region == b.Region && a.Addr == b.Addr && slices.Equal(a.Roles, b.Roles)
}

// find gives a node's peer, nil when it is not in the table.
func (n *Net) find(node string) *peer { return n.table.Load().peers[node] }

func (n *Net) peer(node string) (*peer, error) {
	p := n.find(node)
	if p == nil {
		return nil, wire.Errorf(wire.Unavailable, "node %q is not in the peer table", node)
	}
	return p, nil
}

// awaitPeer waits for a node to be in the table, until ctx ends.
func (n *Net) awaitPeer(ctx context.Context, node string) (*peer, error) {
	for {
		t := n.table.Load()
		if p := t.peers[node]; p != nil {
			return p, nil
		}
		select {
		case <-t.replaced:
		case <-ctx.Done():
			return nil, wire.Errorf(wire.Unavailable, "node %q is not in the peer table", node)
		}
	}
}
