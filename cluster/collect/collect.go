package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Bounds of the work on one volume.
const (
	volumeTimeout = 30 * time.Minute // most of it goes to copying at the nodes' rates
	busyPause     = 2 * time.Second  // before a node that is at work for another volume is asked again
	busyTries     = 30
	movedPause    = time.Second // before a volume is looked at again since accounts moved meanwhile
	movedTries    = 90
	eraseAgain    = 6 * time.Hour // keys are destroyed again although nothing died since: a copy may have been mended with older keys
	trusted       = time.Hour     // so long after all shards were asked about a volume an estimate may say that there is nothing to do
)

// Collector is one node's part in collecting. Its methods but Metrics are for one goroutine.
type Collector struct {
	cfg    Config
	stats  stats
	erased map[volume.ID]erasure
	asked  map[volume.ID]time.Time // all shards about the volume, in the last hour
	shards []uint32                // as the round began
}

// erasure is what every copy has confirmed.
type erasure struct {
	stay       uint64 // so many records kept their keys
	generation uint32
	epoch      uint64 // since then other nodes may have copies, with keys from before
	at         time.Time
}

// New makes a collector. Run it, or call Round.
func New(cfg Config) (*Collector, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Collector{cfg: cfg, erased: make(map[volume.ID]erasure), asked: make(map[volume.ID]time.Time)}, nil
}

// Run goes through the volumes again and again until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	for {
		wait := time.NewTimer(c.cfg.Every/2 + rand.N(c.cfg.Every))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		c.Round(ctx)
	}
}

// Round looks at every volume that is this node's to collect once.
func (c *Collector) Round(ctx context.Context) {
	began := time.Now()
	var dead, bytes int64
	mine := make(map[volume.ID]bool)
	var err error
	if c.shards, err = c.cfg.Shards.All(ctx); err != nil {
		c.stats.failures.Add(1)
		c.cfg.Log.Warn("nothing is collected now", "err", err)
		return
	}
	entries := c.cfg.Copies.Collectable()
	slices.SortFunc(entries, func(a, b replica.Entry) int { return int(int64(a.ID) - int64(b.ID)) })
	for _, e := range entries {
		mine[e.ID] = true
		if ctx.Err() != nil {
			return
		}
		if c.cfg.Clock.Since(time.Unix(e.SealedAt, 0)) < c.cfg.Grace {
			continue
		}
		census, err := c.patiently(ctx, e)
		dead += census.Bytes - census.StayBytes
		bytes += census.Bytes
		if errors.Is(err, errMoved) {
			c.cfg.Log.Info("volume is looked at again", "volume", e.ID, "why", err)
			continue
		}
		if err != nil && ctx.Err() == nil {
			c.stats.failures.Add(1)
			c.cfg.Log.Warn("volume not collected", "volume", e.ID, "generation", e.Generation, "err", err)
		}
	}
	maps.DeleteFunc(c.erased, func(id volume.ID, _ erasure) bool { return !mine[id] })
	maps.DeleteFunc(c.asked, func(id volume.ID, at time.Time) bool { return !mine[id] || time.Since(at) > trusted })
	c.stats.round(time.Since(began), bytes, dead)
}

// patiently collects a volume at a moment in which no account moves.
func (c *Collector) patiently(ctx context.Context, e replica.Entry) (census volume.Census, err error) {
	ctx, stop := context.WithTimeout(ctx, volumeTimeout)
	defer stop()
	for range movedTries {
		if census, err = c.collect(ctx, e); !errors.Is(err, errMoved) {
			break
		}
		select {
		case <-time.After(movedPause):
		case <-ctx.Done():
			return census, err
		}
	}
	return census, err
}

// errMoved is a look at shards of which one gave an account to another meanwhile. The one may have been asked after that and the other before, and
// neither says then that the account's messages are live. Whoever has an account moved enters that in the directory once the new shard has all of it, and
// lets the old one drop it later (package relocate); so nothing is missed if none was entered between the first question and the last answer.
var errMoved = errors.New("accounts moved between shards meanwhile")

// collect takes all steps for one volume, as far as they are worth it. It says how much of the file is left dead.
func (c *Collector) collect(ctx context.Context, e replica.Entry) (volume.Census, error) {
	c.stats.looks.Add(1)
	if census, idle := c.idle(ctx, e); idle {
		return census, nil
	}
	before, err := c.cfg.Shards.Moved(ctx)
	if err != nil {
		return volume.Census{}, err
	}
	l, err := c.ask(ctx, e.ID, 0)
	if err != nil {
		return volume.Census{}, err
	}
	c.asked[e.ID] = time.Now()
	c.stats.asks.Add(1)
	census, err := c.census(ctx, e, l)
	if err != nil || census.Stay.Equals(census.Here) {
		return census, err
	}
	if e, l, err = c.final(ctx, e, l); err != nil {
		return census, err
	}
	if now, err := c.cfg.Shards.Moved(ctx); err != nil {
		return census, err
	} else if now != before {
		return census, errMoved
	}
	if census, err = c.census(ctx, e, l); err != nil {
		return census, err
	}
	if err := c.erase(ctx, e, census.Stay); err != nil {
		return census, err // and no compaction: a later round would not see any more whose keys are to go
	}
	for _, node := range e.Sources() {
		if !c.cfg.Copies.Up(node) {
			return census, nil // all copies are compacted, or none
		}
	}
	if !c.worth(l, census) {
		return census, nil
	}
	if e.Cold != nil && !l.records.IsEmpty() { // the next round compacts it
		if err := c.cfg.Copies.Thaw(ctx, e); err != nil {
			return census, fmt.Errorf("thaw to compact: %w", err)
		}
		return census, nil
	}
	length, err := c.compact(ctx, e, l, census)
	if err != nil {
		return census, err
	}
	c.stats.reclaimed.Add(uint64(max(census.Bytes-length, 0)))
	return volume.Census{Bytes: length, StayBytes: length}, nil
}

// idle says that there is nothing to do for a volume, as most have no garbage, or none since the last time. It asks one replica of each shard, as that is now:
// all voters, each after a read index, are ten times as many messages. Who is wrong is so for an hour at most.
func (c *Collector) idle(ctx context.Context, e replica.Entry) (volume.Census, bool) {
	if _, recently := c.asked[e.ID]; !recently {
		return volume.Census{}, false
	}
	l, err := c.unite(ctx, c.shards, func(ctx context.Context, shard uint32, fn func(index.Reference)) (uint32, error) {
		return 0, c.cfg.Shards.Estimate(ctx, shard, e.ID, fn)
	})
	if err != nil {
		return volume.Census{}, false
	}
	census, err := c.census(ctx, e, l)
	if err != nil {
		return volume.Census{}, false
	}
	return census, census.Stay.Equals(census.Here) || c.isErased(e, census.Stay) && !c.worth(l, census)
}

// worth says that enough of a file is dead for it to be compacted.
func (c *Collector) worth(l *live, census volume.Census) bool {
	dead := census.Bytes - census.StayBytes
	return l.records.IsEmpty() || dead*100 >= int64(c.cfg.Garbage)*census.Bytes
}

// census holds this node's copy against what is live. A copy that lacks a live record cannot tell what is dead.
func (c *Collector) census(ctx context.Context, e replica.Entry, l *live) (volume.Census, error) {
	census, err := c.count(ctx, e, l)
	if err != nil {
		return volume.Census{}, err
	}
	if lost := roaring.AndNot(l.records, census.Here); !lost.IsEmpty() {
		return volume.Census{}, fmt.Errorf("%d live records, the first is %d, are not in this node's copy: it has to be mended first", lost.GetCardinality(), lost.Minimum())
	}
	return census, nil
}

// count looks into this node's copy, or into the record index beside its fragments.
func (c *Collector) count(ctx context.Context, e replica.Entry, l *live) (volume.Census, error) {
	if e.Cold != nil {
		return c.cfg.Copies.ColdCensus(ctx, e, l.records)
	}
	v, err := c.cfg.Volumes.Get(e.ID)
	if err != nil {
		return volume.Census{}, err
	}
	if have := v.Header().Generation; have != e.Generation {
		return volume.Census{}, fmt.Errorf("generation %d is here, the volume has %d: the copy is behind", have, e.Generation)
	}
	return v.Census(l.records)
}

// isErased says that every copy has confirmed lately that all keys but those of the records that stay are destroyed.
func (c *Collector) isErased(e replica.Entry, stay *roaring.Bitmap) bool {
	last, done := c.erased[e.ID]
	return done && last.stay == stay.GetCardinality() && last.generation == e.Generation && last.epoch == e.Epoch && time.Since(last.at) < eraseAgain
}

// erase is step 4. It fails when a copy cannot be reached; the others have done it then.
func (c *Collector) erase(ctx context.Context, e replica.Entry, stay *roaring.Bitmap) error {
	if c.isErased(e, stay) {
		return nil
	}
	var failed error
	for _, node := range e.Sources() {
		n, err := c.cfg.Copies.Erase(ctx, node, e.ID, stay)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("destroy keys of dead records on %s: %w", node, err))
		}
		if n > 0 {
			c.cfg.Log.Info("keys of dead records destroyed", "volume", e.ID, "node", node, "keys", n)
		}
	}
	if failed == nil {
		c.erased[e.ID] = erasure{stay: stay.GetCardinality(), generation: e.Generation, epoch: e.Epoch, at: time.Now()}
	}
	return failed
}

// compact is steps 5 and 6, under a number of its own. It gives the length of the new generation.
func (c *Collector) compact(ctx context.Context, e replica.Entry, l *live, census volume.Census) (int64, error) {
	e, err := c.cfg.Directory.CompactVolume(ctx, e.ID)
	if err != nil {
		return 0, err
	}
	c.cfg.Copies.Entered(e)
	var made volume.Prepared
	if !l.records.IsEmpty() {
		if made, err = c.prepare(ctx, e, l, census); err != nil {
			return 0, err
		}
	}
	e, err = c.cfg.Directory.VolumeCompacted(ctx, e.ID, e.Attempt, made.Length)
	if err != nil {
		return 0, err
	}
	c.cfg.Copies.Entered(e)
	c.stats.compactions.Add(1)
	c.cfg.Log.Info("volume compacted", "volume", e.ID, "generation", e.Generation, "from", census.Bytes, "to", made.Length, "records", l.records.GetCardinality())
	return made.Length, nil
}

// prepare is step 5: one node after the other, so that two collectors never wait for each other. Without copies there is nothing to make it from: the
// volume turned cold since it was looked at. That is not what is entered of a volume with nothing live, a generation of length 0.
func (c *Collector) prepare(ctx context.Context, e replica.Entry, l *live, census volume.Census) (volume.Prepared, error) {
	if e.Cold != nil || len(e.Copies) == 0 {
		return volume.Prepared{}, wire.Errorf(wire.Unavailable, "the volume turned cold meanwhile: the next round thaws it")
	}
	v, err := c.cfg.Volumes.Get(e.ID)
	if err != nil {
		return volume.Prepared{}, err
	}
	block, err := v.NextBlock(e.Attempt, rand.Uint64())
	if err != nil {
		return volume.Prepared{}, err
	}
	records := l.order(census.Stay)
	var first volume.Prepared
	for i, node := range e.Copies {
		made, err := c.prepareOn(ctx, node, e, block, records, census.StayBytes)
		switch {
		case err != nil:
			return made, fmt.Errorf("prepare generation %d on %s: %w", e.Attempt, node, err)
		case i == 0:
			first = made
		case made != first:
			return made, fmt.Errorf("generation %d comes out as %d bytes, SHA-256 %x on %s, and %d bytes, %x on %s: the copies differ, scrub them",
				e.Attempt, first.Length, first.Sum, e.Copies[0], made.Length, made.Sum, node)
		}
	}
	if first.Length == 0 {
		return first, fmt.Errorf("generation %d of %d live records has come out empty", e.Attempt, l.records.GetCardinality())
	}
	return first, nil
}

// prepareOn waits a while for a node that is at work for another volume.
func (c *Collector) prepareOn(ctx context.Context, node string, e replica.Entry, block []byte, records []uint32, bytes int64) (volume.Prepared, error) {
	for try := 1; ; try++ {
		made, err := c.cfg.Copies.Prepare(ctx, node, e, block, records, bytes)
		if err == nil || try == busyTries || !errors.Is(err, wire.ErrUnavailable) {
			return made, err
		}
		select {
		case <-time.After(busyPause/2 + rand.N(busyPause)):
		case <-ctx.Done():
			return made, err
		}
	}
}
