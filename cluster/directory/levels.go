package directory

import (
	"context"
	"fmt"

	"hongyan/cluster/feature"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// The cluster's feature level stands in the directory, since every node follows that. Entering a level is itself a command of that level (its envelope says so,
// see shard.Command): the first one that an older program would stop at.

// The first numbers of commands that programs before feature.Moves, or before feature.Sharing, do not know.
const (
	firstMoves   = 60
	firstSharing = 80
)

// SetLevel has the cluster rise to a feature level, if the topology is still the one whose nodes were asked whether they know it.
type SetLevel struct {
	Level    feature.Level `cbor:"1,keyasint"`
	Topology uint64        `cbor:"2,keyasint"`
}

// reached is the key levelKey's record.
type reached struct {
	Level feature.Level `cbor:"1,keyasint"`
}

func setLevel(t *index.Txn, c *SetLevel) (*Result, error) {
	now, err := loadIf[reached](t, []byte(levelKey))
	if err != nil || c.Level <= max(now.Level, feature.Base) {
		return &Result{}, err
	}
	n, err := loadIf[counters](t, []byte(counterKey))
	if err != nil {
		return nil, err
	}
	if n.Topology != c.Topology {
		return nil, refuse("the topology is no longer %d: ask the nodes of %d what they know", c.Topology, n.Topology)
	}
	if err := save(t, []byte(levelKey), &reached{c.Level}); err != nil {
		return nil, err
	}
	return &Result{Created: true}, touch(t)
}

// needs is the feature level of an encoded command.
func (c *Command) needs(body []byte) (feature.Level, error) {
	if c.SetLevel != nil {
		return c.SetLevel.Level, nil
	}
	var fields map[uint64]codec.Raw
	if err := codec.Unmarshal(body, &fields); err != nil {
		return 0, fmt.Errorf("feature level of a directory command: %w", err)
	}
	level := feature.Base
	for number := range fields {
		switch {
		case number >= firstSharing:
			level = max(level, feature.Sharing)
		case number >= firstMoves:
			level = max(level, feature.Moves)
		}
	}
	return level, nil
}

// mayPropose is nil if the cluster's level lets a command of some level be proposed.
func (s *Service) mayPropose(c *Command, needs feature.Level) error {
	if now := s.Level(); needs > now && c.SetLevel == nil {
		return wire.Errorf(wire.Unavailable, "the cluster is at feature level %v, and this needs %v, which comes when all nodes are updated: see `hongyan admin upgrade`", now, needs)
	}
	return nil
}

// Level is the cluster's feature level as this node knows it: what it brought may be used. It never goes down; a moment after it has risen it may still be the one before.
func (s *Service) Level() feature.Level { return s.Known().AtLevel() }

// AtLevel is the feature level of the cluster.
func (t *Topology) AtLevel() feature.Level { return max(t.Level, feature.Base) }

// SetLevel has the cluster rise to a feature level that every node of a topology knows. It is refused (wire.ErrInvalid) if that is no longer the topology.
func (s *Service) SetLevel(ctx context.Context, level feature.Level, topology uint64) error {
	_, err := s.propose(ctx, &Command{SetLevel: &SetLevel{Level: level, Topology: topology}})
	return err
}
