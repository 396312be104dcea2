package client

import (
	"context"
	"errors"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/lease"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// Lease says that of all sessions which want an account for themselves one has it: see package lease.
type Lease = lease.Lease

// Exclusive gives a session an account for itself, in the whole cluster, once another one that has it ends within patience. It keeps out
// only those who ask for this too. ErrInUse, ErrUnavailable.
func (c *Client) Exclusive(ctx context.Context, a Account, patience time.Duration) (*Lease, error) {
	l, err := c.leases.Take(ctx, a.ID, a.Shard, patience)
	if err != nil && !errors.Is(err, ErrInUse) {
		err = unavailable(err)
	}
	return l, err
}

// Arrived tells the door that an account is about to become a shard's.
func (c *Client) Arrived(shard uint32, account uint64) { c.leases.Arrived(shard, account) }

// leased is the door as package lease needs it.
type leased struct{ c *Client }

func (l leased) AtLeader(ctx context.Context, shard uint32, method string, req, resp any) error {
	return l.c.cfg.Router.AtLeader(ctx, shard, method, req, resp)
}

func (l leased) Office(ctx context.Context, shard uint32) (lease.Office, error) {
	g, ok := l.c.cfg.Host.Group(shard)
	if !ok {
		return lease.Office{}, wire.Errorf(wire.NotLeader, "this node runs no replica of shard %d", shard)
	}
	term, since, err := g.Office(ctx)
	return lease.Office{Term: term, Since: since}, err
}

func (l leased) Readable(shard uint32, account uint64) error {
	g, ok := l.c.cfg.Host.Group(shard)
	if !ok {
		return wire.Errorf(wire.NotLeader, "this node runs no replica of shard %d", shard)
	}
	v := g.View()
	defer func() { _ = v.Close() }() // it was read
	return v.Readable(account)
}

func (l leased) Place(account uint64, given uint32) uint32 { return l.c.places.of(account, given) }

func (l leased) Level() feature.Level { return l.c.cfg.Directory.Level() }

func (l leased) Follow(ctx context.Context, account uint64, given uint32, moved *index.MovedError, try int) error {
	return l.c.follow(ctx, account, given, moved, try)
}
