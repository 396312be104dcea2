package cluster

import (
	"context"
	"fmt"
	"slices"

	"hongyan/cluster/directory"
	"hongyan/cluster/mover"
	"hongyan/cluster/placement"
)

// shownSteps bounds what Placement lists.
const shownSteps = 100

// Nodes lists the members of the cluster, and what each still keeps.
func (n *Node) Nodes(ctx context.Context) ([]mover.NodeStatus, error) {
	t, err := n.freshTopology(ctx)
	if err != nil {
		return nil, err
	}
	out := []mover.NodeStatus{}
	for _, m := range t.Nodes {
		if m.Removed {
			continue
		}
		s := mover.NodeStatus{ID: m.ID, Region: m.Region, Zone: m.Zone, Address: m.Address, Roles: m.Roles, Weight: m.Weight, Labels: m.Labels,
			State: stateOf(m), Since: m.Since, Up: n.net.Up(m.ID)}
		for _, g := range t.Groups {
			if g.Holds(m.ID) && (g.Shard != placement.DirectoryShard || slices.Contains(g.Voters, m.ID)) {
				s.Replicas++
			}
		}
		s.Copies, s.Fragments, s.Bytes = n.volumes.Left(m.ID)
		s.Empty = s.Replicas+s.Copies+s.Fragments == 0
		out = append(out, s)
	}
	return out, nil
}

func stateOf(m directory.Node) string {
	switch {
	case m.Emptied != "":
		return "replaced"
	case m.Lost:
		return "lost"
	case m.Draining:
		return "draining"
	}
	return "active"
}

// freshTopology is one that holds what was acknowledged before, on a node that keeps the directory; else the last that is known here.
func (n *Node) freshTopology(ctx context.Context) (*directory.Topology, error) {
	if _, own := n.host.Group(placement.DirectoryShard); !own {
		return n.topology.Load(), nil
	}
	if err := n.directory.CatchUp(ctx); err != nil {
		return nil, err
	}
	return n.directory.Topology()
}

// AddNode lets a node into the cluster.
func (n *Node) AddNode(ctx context.Context, in mover.NewNode) error {
	return n.directory.AddNode(ctx, directory.Node{
		ID: in.ID, Region: in.Region, Zone: in.Zone, Address: in.Address, Roles: in.Roles, Weight: in.Weight, Labels: in.Labels,
	})
}

// ChangeNode changes a member.
func (n *Node) ChangeNode(ctx context.Context, id string, c mover.NodeChange) error {
	return n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Weight: c.Weight, Address: c.Address, Zone: c.Zone, Draining: c.Draining})
}

// RemoveNode ends a node's membership. It is refused while a shard or a volume has a replica or a copy there.
func (n *Node) RemoveNode(ctx context.Context, id string) error {
	yes := true
	return n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Removed: &yes})
}

// ReplaceNode takes a node that runs with other data than it is known with for the member: what shards had there is made anew. With the data that
// it is known with nothing happens.
func (n *Node) ReplaceNode(ctx context.Context, id string) error {
	var have mover.ReplicasResponse
	if err := n.net.Call(ctx, id, mover.MethodReplicas, &mover.ReplicasRequest{}, &have); err != nil {
		return fmt.Errorf("ask %s, which should run by now, for its data: %w", id, err)
	}
	known, ok := n.topology.Load().Node(id)
	if ok && known.Incarnation == have.Incarnation {
		return nil
	}
	return n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Incarnation: &have.Incarnation, Accept: true})
}

// Placement says which replicas of shards are about to move.
func (n *Node) Placement(ctx context.Context) (*mover.Placement, error) {
	t, err := n.freshTopology(ctx)
	if err != nil {
		return nil, err
	}
	steps, err := mover.Plan(t, shownSteps+1)
	if err != nil {
		return nil, err
	}
	p := &mover.Placement{Paused: t.Paused, Steps: []mover.Step{}, More: len(steps) > shownSteps}
	for _, s := range steps[:min(len(steps), shownSteps)] {
		p.Steps = append(p.Steps, mover.Step{Shard: s.Shard, Step: s.Kind.String(), Node: s.Node})
	}
	if n.mover != nil {
		p.Failures = n.mover.Failures()
	}
	return p, nil
}

// paused says whether the operator has stopped what moves.
func (n *Node) paused() bool { return n.topology.Load().Paused }

// PausePlacement stops or resumes what moves by itself: replicas of shards and copies of volumes.
func (n *Node) PausePlacement(ctx context.Context, paused bool) error {
	return n.directory.PausePlacement(ctx, paused)
}
