package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
)

const (
	lookEvery         = time.Second // at the shards that this node leads
	directoryInterval = time.Minute
	retryAfter        = 10 * time.Second // a shard whose checkpoint failed
	putWait           = time.Minute      // for the entry in the directory
)

// Config is what a Keeper needs.
type Config struct {
	Net       *transport.Net
	Host      *shard.Host
	Directory *directory.Service
	Store     Store
	FS        vfs.FS
	SpoolDir  string
	Interval  time.Duration // between two checkpoints of a shard that changes slowly
	Changes   uint64        // entries after which a shard is saved sooner
	Rate      int64         // bytes a second that a shard's checkpoints may cost on average
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Keeper saves the shards that this node leads.
type Keeper struct {
	cfg     Config
	metrics *metrics
	stop    context.CancelFunc
	done    sync.WaitGroup
	asks    chan ask
	failed  map[uint32]time.Time // shards to leave alone until then; of the one goroutine
}

// New makes a Keeper and registers its method, which must happen before the network serves. Start begins its work.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, metrics: newMetrics(), stop: func() {}, asks: make(chan ask), failed: make(map[uint32]time.Time)}
	transport.HandleUnary(cfg.Net, MethodSave, k.serveSave)
	return k
}

// Start begins to look after the shards.
func (k *Keeper) Start() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.done.Go(func() { k.work(ctx) })
}

// Close ends it, also in the middle of a checkpoint.
func (k *Keeper) Close() {
	k.stop()
	k.done.Wait()
}

// look saves those shards that are due, one after the other.
func (k *Keeper) look(ctx context.Context) {
	last, err := k.last()
	if err != nil {
		k.cfg.Log.Warn("no checkpoints for now: the directory cannot be read", "err", err)
		return
	}
	k.metrics.note(last, k.cfg.Clock)
	for _, g := range k.cfg.Host.Groups() {
		if ctx.Err() != nil || !g.IsLeader() || time.Now().Before(k.failed[g.Shard()]) {
			continue
		}
		due, err := k.due(g, last[g.Shard()])
		if err == nil && due {
			_, err = k.save(ctx, g)
		}
		if err != nil && ctx.Err() == nil {
			k.metrics.results.WithLabelValues("failed").Inc()
			k.failed[g.Shard()] = time.Now().Add(retryAfter)
			k.cfg.Log.Warn("shard not saved into volumes, will be tried again", "shard", g.Shard(), "err", err)
		}
	}
}

// due says whether a shard needs a new checkpoint. Clocks of leaders may differ; a last one from the future is just old.
func (k *Keeper) due(g *shard.Group, last directory.Checkpoint) (bool, error) {
	changes, err := k.changes(g, last)
	if err != nil {
		return false, err
	}
	interval := k.cfg.Interval
	if g.Shard() == placement.DirectoryShard {
		interval = min(interval, directoryInterval)
	}
	pause := time.Duration(float64(last.Bytes) / float64(k.cfg.Rate) * float64(time.Second))
	age := k.cfg.Clock.Since(time.Unix(last.Taken, 0))
	if age < 0 {
		age = max(interval, pause)
	}
	return changes > 0 && age >= pause && (age >= interval || changes >= k.cfg.Changes), nil
}

// changes counts the entries since a shard's last checkpoint; of the directory's, those that entered checkpoints do not count.
func (k *Keeper) changes(g *shard.Group, last directory.Checkpoint) (uint64, error) {
	applied := g.Applied()
	changes := applied - min(last.Applied, applied)
	if g.Shard() != placement.DirectoryShard {
		return changes, nil
	}
	noise, err := k.cfg.Directory.Noise()
	if err != nil {
		return 0, err
	}
	return changes - min(changes, noise-min(last.Noise, noise)), nil
}

// save writes a checkpoint of a shard. Steps: the parts, each durable on all copies of its volume; then the entry.
func (k *Keeper) save(ctx context.Context, g *shard.Group) (made directory.Checkpoint, err error) {
	began := time.Now()
	home := ""
	if g.Shard() != placement.DirectoryShard {
		home = g.Home()
	}
	w := &writer{ctx: ctx, store: k.cfg.Store, fs: k.cfg.FS, dir: k.cfg.SpoolDir, home: home, size: partSize,
		meta: Meta{Shard: g.Shard(), Applied: g.Applied(), Taken: k.cfg.Clock.Now().Unix()}}
	rand.Read(w.meta.ID[:]) // never fails (crypto/rand since Go 1.24)
	w.out.ID, w.out.Taken = w.meta.ID, w.meta.Taken
	defer func() { err = errors.Join(err, w.abort()) }()
	if w.out.Applied, err = g.Save(w); err != nil {
		return made, fmt.Errorf("save the state: %w", err)
	}
	if err := w.finish(); err != nil {
		return made, err
	}
	if g.Shard() == placement.DirectoryShard {
		if w.out.Noise, err = k.cfg.Directory.Noise(); err != nil { // later than the state: see directory.Checkpoint
			return made, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, putWait)
	defer cancel()
	if err := k.cfg.Directory.AddCheckpoint(ctx, g.Shard(), w.out); err != nil {
		return made, fmt.Errorf("enter it in the directory: %w", err)
	}
	k.metrics.results.WithLabelValues("ok").Inc()
	k.metrics.bytes.Add(float64(w.out.Bytes))
	k.metrics.seconds.Observe(time.Since(began).Seconds())
	k.cfg.Log.Info("shard saved into volumes", "shard", g.Shard(), "index", w.out.Applied, "bytes", w.out.Bytes, "parts", len(w.out.Parts))
	return w.out, nil
}
