package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"hongyan/cluster/config"
	"hongyan/cluster/directory"
	"hongyan/cluster/mover"
	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
)

// shownSteps bounds what Placement lists.
const shownSteps = 100

// Nodes lists the members of the cluster, and what each still keeps. Who knows no cluster knows of nobody what it keeps.
func (n *Node) Nodes(ctx context.Context) ([]mover.NodeStatus, error) {
	known := &directory.HoldingsResponse{Topology: *n.topology.Load()}
	if known.Topology.Version > 0 || n.directory.Own() {
		var err error
		if known, err = n.directory.Holdings(ctx); err != nil {
			return nil, err
		}
	}
	t := &known.Topology
	out := []mover.NodeStatus{}
	for _, m := range t.Nodes {
		if m.Removed {
			continue
		}
		s := mover.NodeStatus{ID: m.ID, Region: m.Region, Zone: m.Zone, Address: m.Address, Roles: m.Roles, Weight: m.Weight, Labels: m.Labels,
			State: stateOf(m), Drain: m.Draining, Since: m.Since, Up: n.net.Up(m.ID)}
		for _, g := range t.Groups {
			if g.Holds(m.ID) && (g.Shard != placement.DirectoryShard || slices.Contains(g.Voters, m.ID)) {
				s.Replicas++
			}
		}
		on := known.On(m.ID)
		s.Copies, s.Fragments, s.Bytes = on.Copies, on.Fragments, on.Bytes
		s.Empty = t.Version > 0 && s.Replicas+s.Copies+s.Fragments == 0
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
	if !n.directory.Own() {
		return n.topology.Load(), nil
	}
	if err := n.directory.CatchUp(ctx); err != nil {
		return nil, err
	}
	return n.directory.Topology()
}

// AddNode lets a node into the cluster. One that is a member with just these properties is left as it is.
func (n *Node) AddNode(ctx context.Context, in mover.NewNode) error {
	switch {
	case !config.ValidName(in.ID) || !config.ValidName(in.Region):
		return wire.Errorf(wire.Invalid, "node %q in region %q: expected names of a-z, 0-9 and inner hyphens, as in the node's configuration", in.ID, in.Region)
	case !config.ValidAddress(in.Address):
		return wire.Errorf(wire.Invalid, "node %s: address %q: expected host:port", in.ID, in.Address)
	}
	t, err := n.freshTopology(ctx)
	if err != nil {
		return err
	}
	if old, known := t.Node(in.ID); known && !old.Removed && old.Region == in.Region && old.Zone == in.Zone && old.Address == in.Address &&
		old.Weight == in.Weight && slices.Equal(old.Roles, in.Roles) && maps.Equal(old.Labels, in.Labels) {
		return nil
	}
	return n.directory.AddNode(ctx, directory.Node{
		ID: in.ID, Region: in.Region, Zone: in.Zone, Address: in.Address, Roles: in.Roles, Weight: in.Weight, Labels: in.Labels,
	})
}

// ChangeNode changes a member. A change that makes a domain's policy impossible is refused, unless c says that it is meant all the same.
func (n *Node) ChangeNode(ctx context.Context, id string, c mover.NodeChange) error {
	if c.Address != nil && !config.ValidAddress(*c.Address) {
		return wire.Errorf(wire.Invalid, "node %s: address %q: expected host:port", id, *c.Address)
	}
	if !c.Anyway && (c.Weight != nil && *c.Weight == 0 || c.Zone != nil || c.Draining != nil && *c.Draining) {
		if err := n.keepsPolicies(ctx, id, c); err != nil {
			return err
		}
	}
	return n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Weight: c.Weight, Address: c.Address, Zone: c.Zone, Draining: c.Draining})
}

// keepsPolicies refuses a change after which the nodes that take mail could not hold what a domain's policy asks for, and before which they could: mail for that
// domain would go on to the node that is to take none (the reserve, see package replica), or be nearer together. The directory does not ask it, so of two changes at the same moment it sees neither.
func (n *Node) keepsPolicies(ctx context.Context, id string, c mover.NodeChange) error {
	t, err := n.freshTopology(ctx)
	if err != nil {
		return err
	}
	domains, err := n.directory.Domains(ctx)
	if err != nil {
		return fmt.Errorf("see whether domains' policies could still be held, as another node may and --anyway does not: %w", err)
	}
	before, after := placesWith(t, "", c), placesWith(t, id, c)
	for _, d := range domains {
		rule := policy.Of(d.Policy)
		if err := rule.Feasible(after); err != nil && rule.Feasible(before) == nil {
			return wire.Errorf(wire.Invalid, "mail for %s needs %s as it is, for its policy could not be held otherwise: %v. Let a node join, change the policy (`hongyan admin domain policy`), or say --anyway", d.Name, id, err)
		}
	}
	return nil
}

// placesWith is where the nodes are that take mail, up or not, with a change of one of them.
func placesWith(t *directory.Topology, id string, c mover.NodeChange) (places []policy.Place) {
	for _, m := range t.Nodes {
		if m.ID == id {
			if c.Weight != nil {
				m.Weight = *c.Weight
			}
			if c.Zone != nil {
				m.Zone = *c.Zone
			}
			if c.Draining != nil {
				m.Draining = *c.Draining
			}
		}
		if m.Stores() && !m.Leaving() && m.Weight > 0 {
			places = append(places, policy.Place{Region: m.Region, Zone: m.Zone})
		}
	}
	return places
}

// RemoveNode ends a node's membership. It is refused while a shard or a volume has a replica or a copy there. For one that was removed before nothing is
// to do.
func (n *Node) RemoveNode(ctx context.Context, id string) error {
	t, err := n.freshTopology(ctx)
	if err != nil {
		return err
	}
	if old, known := t.Node(id); known && old.Removed {
		return nil
	}
	yes := true
	return n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Removed: &yes})
}

// ReplaceNode takes a node that runs with other data than it is known with for the member: what shards had there is made anew. With the data that
// it is known with nothing happens, and changed is false.
func (n *Node) ReplaceNode(ctx context.Context, id string) (changed bool, err error) {
	known, ok := n.topology.Load().Node(id)
	if !ok || known.Removed {
		return false, wire.Errorf(wire.Invalid, "node %s is no member", id)
	}
	var have mover.ReplicasResponse
	if err := n.net.Call(ctx, id, mover.MethodReplicas, &mover.ReplicasRequest{}, &have); err != nil {
		return false, fmt.Errorf("ask %s, which should run by now, for its data: %w", id, err)
	}
	if known.Incarnation == have.Incarnation {
		return false, nil
	}
	return true, n.directory.ChangeNode(ctx, directory.ChangeNode{ID: id, Incarnation: &have.Incarnation, Accept: true})
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
