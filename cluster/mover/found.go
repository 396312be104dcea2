package mover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// A new shard is entered in the directory first, with its voters, as being founded: no account is placed there. Then its voters are told to begin the
// group, those that can be reached, and once it has a leader the directory says that it is founded. From then on no replica is begun any more but such as
// a leader fills. The voters that were entered stay those of the group until then, for a node that does not answer may have begun it: so only nodes that answer
// are chosen. A node begins one only while the directory says so, after all that was acknowledged, and not on a disk that was emptied.

// leastVoters is how many nodes begin a shard at least: what is acknowledged by one is on one disk.
const leastVoters = 2

// foundTimeout is how long a new group may take to get a leader before it is told again.
const foundTimeout = 5 * time.Second

// Added is the group that a new shard is to have, of nodes that answer now; others get their replicas when they are back, as any that are missing.
func Added(t *directory.Topology, home string, up func(node string) bool) (placement.Group, error) {
	with := *t
	with.Nodes = slices.Clone(t.Nodes)
	known, answers := false, false
	for i, n := range t.Nodes {
		with.Nodes[i].Lost = n.Lost || !up(n.ID)
		here := n.Stores() && !n.Leaving() && n.Region == home
		known, answers = known || here, answers || here && up(n.ID)
	}
	switch {
	case !known:
		return placement.Group{}, wire.Errorf(wire.Invalid, "no node that keeps mail and stays is in region %.64q", home)
	case !answers:
		return placement.Group{}, wire.Errorf(wire.Unavailable, "no node that keeps mail answers in region %s now: a shard is added there once one does", home)
	}
	g := placement.Group{Home: home}
	for _, other := range t.Groups {
		g.Shard = max(g.Shard, other.Shard+1)
	}
	with.Groups = append(slices.Clone(t.Groups), g)
	goal, err := Target(&with, nil) // a replica is begun on no disk that was emptied
	if err != nil {
		return g, err
	}
	i := slices.IndexFunc(goal.Groups, func(w placement.Group) bool { return w.Shard == g.Shard })
	if g = goal.Groups[i]; len(g.Voters) < leastVoters || slices.ContainsFunc(g.Voters, func(node string) bool { return !up(node) }) {
		return g, wire.Errorf(wire.Unavailable, "a shard at home in %s needs %d nodes that keep mail and answer now: see `hongyan admin node list`", home, leastVoters)
	}
	return g, nil
}

// found gets on with the shards that are being founded, and lists those that still are.
func (m *Mover) found(ctx context.Context, t *directory.Topology) (founding []uint32, err error) {
	numbers, err := m.cfg.Directory.Founding()
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		i := slices.IndexFunc(t.Groups, func(g placement.Group) bool { return g.Shard == number })
		if i < 0 {
			continue
		}
		err := m.foundOne(ctx, t.Groups[i])
		m.note(number, err)
		if err != nil {
			founding = append(founding, number)
		}
	}
	return founding, nil
}

func (m *Mover) foundOne(ctx context.Context, g placement.Group) error {
	var failed error
	for _, node := range g.Voters {
		if err := m.call(ctx, node, MethodOpen, &OpenRequest{Group: g, Found: true}, &OpenResponse{}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("begin shard %d on %s: %w", g.Shard, node, err))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	if _, err := m.members(ctx, g); err != nil {
		return errors.Join(failed, fmt.Errorf("shard %d has no leader yet: %w", g.Shard, err))
	}
	if err := m.cfg.Directory.ShardFounded(ctx, g.Shard); err != nil {
		return fmt.Errorf("shard %d: %w", g.Shard, err)
	}
	m.cfg.Log.Info("shard founded", "shard", g.Shard, "voters", g.Voters)
	return nil
}
