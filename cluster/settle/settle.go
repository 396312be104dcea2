// Package settle ends what messages that were entered early leave open: step 6 of "Delivery in one round trip" in docs/architecture.md.
//
// A shard has a marker for each volume that it may refer to in vain. Once the volume is sealed, the node that leads the shard finds out which
// record is the last one within the sealed length, and has the shard remove what refers to later ones, and the marker, by one command.
//
// Invariants:
//
//   - Only what the directory says of a sealed volume counts, for that never changes. That a volume is gone is believed after a read
//     index of the directory: a copy of it that lags does not know new volumes yet. Nor is it believed while a directory that went on from a survivor
//     (package recovery) has volumes to be found that it never heard of.
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

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
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

// Directory is this node's copy of the directory.
type Directory interface {
	CatchUp(ctx context.Context) error // until it has all that was acknowledged before
	RecoveryNotes() ([]directory.RecoveryNote, error)
	Volumes(ctx context.Context) ([]replica.Entry, error)
}

// Config is what a Settler needs.
type Config struct {
	Router    *shard.Router
	Host      *shard.Host
	Volumes   Volumes
	Directory Directory
	Clock     *clock.Clock
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

// held says whether messages of a shard are looked for that was recovered: what was entered in vain may be found in another volume. That ends by itself, for accounts with such entries
// are not shown.
func (s *Settler) held(ctx context.Context, shard uint32) (bool, error) {
	return s.noted(ctx, func(n directory.RecoveryNote) bool { return n.Shard == shard && n.Held(s.cfg.Clock.Now().Unix()) }) // before the shard went on
}

// noted says whether there is such a note among all that were acknowledged before.
func (s *Settler) noted(ctx context.Context, such func(directory.RecoveryNote) bool) (bool, error) {
	if err := s.cfg.Directory.CatchUp(ctx); err != nil {
		return false, err
	}
	notes, err := s.cfg.Directory.RecoveryNotes()
	return slices.ContainsFunc(notes, such), err
}

func marked(v *index.View) (list []index.Early, err error) {
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.EarlyVolumes()
}

// settle settles a volume in a shard, unless it is open.
func (s *Settler) settle(ctx context.Context, number uint32, id volume.ID) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last, ended, err := s.end(ctx, id)
	if err != nil || !ended {
		return err
	}
	if held, err := s.held(ctx, number); err != nil || held {
		return err
	}
	c := &mailbox.Command{Settle: &mailbox.Settle{Volume: id, Last: last}}
	_, _, err = c.Commit(func(body []byte) ([]byte, uint64, error) {
		return s.cfg.Router.Propose(ctx, number, body, shard.Background)
	})
	if err == nil {
		s.cfg.Log.Info("early entries settled", "shard", number, "volume", id, "last", last)
	}
	return err
}

// end says whether a volume has ended, and its last record.
func (s *Settler) end(ctx context.Context, id volume.ID) (last uint64, ended bool, err error) {
	e, known := s.cfg.Volumes.Entry(id)
	switch {
	case !known:
		ended, err = s.gone(ctx, id)
	case e.State == replica.Sealed:
		last, err = s.cfg.Volumes.LastRecord(ctx, e)
		ended = err == nil
	}
	return last, ended, err
}

// gone says that the directory has no such volume any more: nothing in it was acknowledged. Notes are read first: a volume that was found is entered before its
// note goes.
func (s *Settler) gone(ctx context.Context, id volume.ID) (bool, error) {
	behind, err := s.noted(ctx, func(n directory.RecoveryNote) bool { return n.Shard == placement.DirectoryShard })
	if err != nil || behind {
		return false, err
	}
	list, err := s.cfg.Directory.Volumes(ctx)
	return err == nil && !slices.ContainsFunc(list, func(e replica.Entry) bool { return e.ID == id }), err
}
