// Package settle ends what messages that were entered early leave open: step 6 of "Delivery in one round trip" in docs/architecture.md.
//
// A shard has a marker for each volume that it may refer to in vain. Once the volume is sealed, the node that leads the shard finds out which
// record is the last one within the sealed length, and has the shard remove what refers to later ones, and the marker, by one command.
//
// Invariants:
//
//   - Only what the directory says of a sealed volume counts, for that never changes. That a volume is gone is believed after a read
//     index of the directory: a copy of it that lags does not know new volumes yet.
//   - Nothing of an acknowledged delivery is removed: its record is within every sealed length (package replica, I3).
//   - An early entry that is applied later makes a new marker, so nothing has to be remembered here.
//
// What a crash leaves behind: a marker, for the next leader's node.
package settle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Bounds of the work.
const (
	every    = 500 * time.Millisecond
	timeout  = 10 * time.Second // for one volume in one shard
	complain = time.Minute      // between two lines in the log about what cannot be settled
)

// Volumes knows volumes and their copies; it is a replica.Manager.
type Volumes interface {
	Entry(id volume.ID) (replica.Entry, bool)
	LastRecord(ctx context.Context, e replica.Entry) (uint64, error)
}

// Directory lists all volumes as this node's copy of the directory has them.
type Directory interface {
	Volumes(ctx context.Context) ([]replica.Entry, error)
}

// Config is what a Settler needs.
type Config struct {
	Router    *shard.Router
	Host      *shard.Host
	Volumes   Volumes
	Directory Directory
	Log       *slog.Logger
}

// Settler does it for the shards that this node leads. One goroutine uses it.
type Settler struct {
	cfg        Config
	complained time.Time
}

// New makes one.
func New(cfg Config) *Settler { return &Settler{cfg: cfg} }

// Run works until ctx ends.
func (s *Settler) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.round(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Settler) round(ctx context.Context) {
	for _, g := range s.cfg.Host.Groups() {
		if g.Shard() == placement.DirectoryShard || !g.IsLeader() {
			continue
		}
		if err := s.shard(ctx, g); err != nil && ctx.Err() == nil && time.Since(s.complained) > complain {
			s.complained = time.Now()
			s.cfg.Log.Warn("early entries not settled yet", "shard", g.Shard(), "err", err)
		}
	}
}

// shard settles what can be of one shard.
func (s *Settler) shard(ctx context.Context, g *shard.Group) error {
	list, err := marked(g.View())
	if err != nil {
		return err
	}
	var reasons error
	for _, m := range list {
		if err := s.settle(ctx, g.Shard(), m.Volume); err != nil {
			reasons = errors.Join(reasons, fmt.Errorf("volume %s: %w", m.Volume, err))
		}
	}
	return reasons
}

func marked(v *index.View) (list []index.Early, err error) {
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.EarlyVolumes()
}

// settle settles a volume in a shard, unless it is open.
func (s *Settler) settle(ctx context.Context, number uint32, id volume.ID) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e, known := s.cfg.Volumes.Entry(id)
	var last uint64
	switch {
	case known && e.State != replica.Sealed:
		return nil
	case known:
		var err error
		if last, err = s.cfg.Volumes.LastRecord(ctx, e); err != nil {
			return err
		}
	default:
		if gone, err := s.gone(ctx, id); err != nil || !gone {
			return err
		}
	}
	c := &mailbox.Command{Settle: &mailbox.Settle{Volume: id, Last: last}}
	_, _, err := c.Commit(func(body []byte) ([]byte, uint64, error) {
		return s.cfg.Router.Propose(ctx, number, body, shard.Background)
	})
	if err == nil {
		s.cfg.Log.Info("early entries settled", "shard", number, "volume", id, "last", last)
	}
	return err
}

// gone says that the directory has no such volume any more: nothing in it was acknowledged.
func (s *Settler) gone(ctx context.Context, id volume.ID) (bool, error) {
	g, ok := s.cfg.Host.Group(placement.DirectoryShard)
	if !ok {
		return false, errors.New("this node has no copy of the directory")
	}
	at, err := s.cfg.Router.ReadIndex(ctx, placement.DirectoryShard)
	if err == nil {
		err = g.WaitApplied(ctx, at)
	}
	if err != nil {
		return false, err
	}
	list, err := s.cfg.Directory.Volumes(ctx)
	return err == nil && !slices.ContainsFunc(list, func(e replica.Entry) bool { return e.ID == id }), err
}
