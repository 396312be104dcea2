package transport

import (
	"maps"
	"slices"

	"hongyan/cluster/wire"
)

// SetFenced names the nodes with which no Raft group here has anything to do any more, in neither direction: not heartbeats, not entries, not snapshots, not
// votes. They were given up for ever, with what they promised; one that comes back with it would speak for a past that has been given up too. All else
// that they ask is answered, and they may be asked, or they would never hear of it.
func (n *Net) SetFenced(nodes []string) {
	set := make(map[string]bool, len(nodes))
	for _, id := range nodes {
		set[id] = true
	}
	if old := n.fenced.Load(); old != nil && maps.Equal(*old, set) || old == nil && len(set) == 0 {
		return
	}
	n.fenced.Store(&set)
	for _, id := range nodes {
		if p := n.find(id); p != nil {
			p.raft.reset() // pipelines hold the connection
		}
	}
	n.log.Warn("nodes are fenced: their Raft messages are refused", "peers", slices.Sorted(maps.Keys(set)))
}

// Fenced says whether SetFenced named a node.
func (n *Net) Fenced(node string) bool {
	set := n.fenced.Load()
	return set != nil && (*set)[node]
}

func (n *Net) unfenced(node string) error {
	if n.Fenced(node) {
		return wire.Errorf(wire.Denied, "node %s was given up for ever: have its data made anew by `hongyan admin node replace %s`", node, node)
	}
	return nil
}
