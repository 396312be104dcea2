package collect

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/clock"
	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Options say when and how much.
type Options struct {
	Every   time.Duration // between two rounds through the volumes
	Grace   time.Duration // after a volume was sealed: clients that still hold references to it are spared a second put
	AtOnce  int           // shards that are asked at a time
	Garbage int           // percent of a file that must be dead for it to be compacted; anything dead has its keys destroyed
}

// Config is what a Collector needs.
type Config struct {
	Options
	Volumes   *volume.Set // this node's copies
	Shards    Shards
	Directory Directory
	Copies    Copies
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Shards are all state machines that may refer to records.
type Shards interface {
	// All lists them, the directory included.
	All(ctx context.Context) ([]uint32, error)
	// Moved counts the accounts that have ever gone from one to another.
	Moved(ctx context.Context) (uint64, error)
	// Condemn is step 2 for one shard.
	Condemn(ctx context.Context, shard uint32, id volume.ID, generation uint32) error
	// References is step 3 for one shard: replicas that have condemned the volume for at least generation floor tell what they refer to;
	// without enough of them it fails. lowest is the least floor that one of them has.
	References(ctx context.Context, shard uint32, id volume.ID, floor uint32, fn func(index.Reference)) (lowest uint32, err error)
	// Estimate is what one replica refers to, as that is now: it may lag behind.
	Estimate(ctx context.Context, shard uint32, id volume.ID, fn func(index.Reference)) error
}

// Directory is steps 1 and 6.
type Directory interface {
	CompactVolume(ctx context.Context, id volume.ID) (replica.Entry, error)
	VolumeCompacted(ctx context.Context, id volume.ID, generation uint32, length int64) (replica.Entry, error)
}

// Copies reaches the nodes that have copies of a volume.
type Copies interface {
	Collectable() []replica.Entry
	Prepare(ctx context.Context, node string, e replica.Entry, block []byte, records []uint32, bytes int64) (volume.Prepared, error)
	Erase(ctx context.Context, node string, id volume.ID, stay *roaring.Bitmap) (uint64, error)
	Entered(e replica.Entry)
	Up(node string) bool
	// ColdCensus is Volume.Census of a cold volume, and Thaw gives one whole copies again.
	ColdCensus(ctx context.Context, e replica.Entry, live *roaring.Bitmap) (volume.Census, error)
	Thaw(ctx context.Context, e replica.Entry) error
}

func (o Options) check() error {
	if o.Every <= 0 || o.Grace < 0 || o.AtOnce < 1 || o.Garbage < 1 || o.Garbage > 100 {
		return fmt.Errorf("collect garbage every %v, %v after the seal, from %d %% on, %d shards at a time: out of range", o.Every, o.Grace, o.Garbage, o.AtOnce)
	}
	return nil
}
