package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/mover"
	"hongyan/cluster/relocate"
	"hongyan/cluster/wire"
)

// MoveAccounts has accounts move to a shard or a home region. It says of how many that is news; the rest is there or on its way.
func (n *Node) MoveAccounts(ctx context.Context, in relocate.Order) (planned uint64, err error) {
	if err := n.directory.CatchUp(ctx); err != nil {
		return 0, err
	}
	addresses := in.Addresses
	if len(addresses) == 0 {
		in.Domain = strings.ToLower(in.Domain)
		if err := n.knows(ctx, in); err != nil {
			return 0, err
		}
		if addresses, err = n.directory.AddressesOf(in.Domain, in.From); err != nil {
			return 0, err
		}
	}
	for part := range slices.Chunk(addresses, directory.MaxPlanned) {
		more, err := n.directory.PlanRelocations(ctx, directory.PlanRelocations{Addresses: part, Shard: in.Shard, Home: in.Home})
		planned += more
		if err != nil {
			return planned, fmt.Errorf("%d accounts are to move, the others not: %w", planned, err)
		}
	}
	return planned, nil
}

// knows says that there is no such domain or shard as accounts are to move out of.
func (n *Node) knows(ctx context.Context, in relocate.Order) error {
	if in.Domain != "" {
		list, err := n.directory.Domains(ctx)
		if err == nil && !slices.ContainsFunc(list, func(d directory.Domain) bool { return d.Name == in.Domain }) {
			err = wire.Errorf(wire.Invalid, "%s is no domain of this cluster", in.Domain)
		}
		return err
	}
	shards, err := n.directory.Shards()
	if err == nil && !slices.ContainsFunc(shards, func(s directory.Shard) bool { return s.Number == in.From }) {
		err = wire.Errorf(wire.Invalid, "there is no shard %d", in.From)
	}
	return err
}

// KeepAccounts calls moves off that have not come to their end. No addresses: all.
func (n *Node) KeepAccounts(ctx context.Context, addresses []string) (canceled uint64, err error) {
	if len(addresses) == 0 {
		if err := n.directory.CatchUp(ctx); err != nil {
			return 0, err
		}
		list, err := n.directory.Relocations()
		if err != nil {
			return 0, err
		}
		for _, m := range list {
			addresses = append(addresses, m.Address)
		}
	}
	for part := range slices.Chunk(addresses, directory.MaxPlanned) {
		some, err := n.directory.CancelRelocations(ctx, part)
		if err != nil {
			return canceled, err
		}
		canceled += some
	}
	return canceled, nil
}

// Moves lists accounts that are about to move, the first of them, and how many accounts each shard has.
func (n *Node) Moves(ctx context.Context) (*relocate.Status, error) {
	if err := n.directory.CatchUp(ctx); err != nil {
		return nil, err
	}
	list, err := n.directory.Relocations()
	if err != nil {
		return nil, err
	}
	shards, err := n.directory.Shards()
	if err != nil {
		return nil, err
	}
	s := &relocate.Status{Waiting: len(list), Moves: []relocate.Move{}, Shards: []relocate.Shard{}, Paused: n.paused()}
	var failures map[uint64]string
	if n.relocator != nil {
		failures = n.relocator.Failures()
	}
	for _, m := range list[:min(len(list), shownSteps)] {
		s.Moves = append(s.Moves, relocate.Move{Relocation: m, Failure: failures[m.Account]})
	}
	for _, sh := range shards {
		s.Shards = append(s.Shards, relocate.Shard{Number: sh.Number, Home: sh.Home, Accounts: sh.Accounts, Founding: sh.Founding})
	}
	return s, nil
}

// addTries bounds how often a shard is given the next number because somebody else adds shards.
const addTries = 5

// AddShard makes a new mailbox shard at home in a region, and says its number. It takes accounts once it is founded, a moment later.
func (n *Node) AddShard(ctx context.Context, home string) (uint32, error) {
	if level := n.directory.Level(); level < feature.Moves {
		return 0, wire.Errorf(wire.Unavailable, "shards are added once every node runs a program that can: the cluster is at level %s, see `hongyan admin upgrade`", level)
	}
	for try := 1; ; try++ {
		t, err := n.freshTopology(ctx)
		if err != nil {
			return 0, err
		}
		g, err := mover.Added(t, home, n.net.Up)
		if err != nil {
			return 0, err
		}
		err = n.directory.SetGroup(ctx, g, true)
		if try < addTries && errors.Is(err, wire.ErrInvalid) { // another one took the number meanwhile
			continue
		}
		return g.Shard, err
	}
}
