package dictionary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
	"hongyan/cluster/wire"
	training "hongyan/engine/dictionary"
	"hongyan/engine/volume"
)

const (
	learnEvery      = 5 * time.Second
	defaultInterval = 10 * time.Minute
	// kept is how many a node knows: peers may still send blobs that were compressed with an older one.
	kept = 8
	// renewAfter is how old the newest must be before another is trained: mail changes slowly, and each stands in every later volume.
	renewAfter = 24 * time.Hour
	// worthwhile is what must be left of the stored bytes at most for a new dictionary to be entered.
	worthwhile = 0.97
	addTimeout = time.Minute
)

// Directory is what this package needs of the cluster's directory.
type Directory interface {
	Dictionaries(ctx context.Context, after uint32) ([]directory.Dictionary, error)
	AddDictionary(ctx context.Context, d directory.Dictionary) error
}

// Config is what a Keeper needs.
type Config struct {
	Directory Directory
	Volumes   *volume.Set   // nil on a node without the storage role, which trains nothing
	Interval  time.Duration // between two looks whether training is worthwhile, on average; 0 is ten minutes
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Keeper knows the dictionaries in use.
type Keeper struct {
	cfg     Config
	metrics *metrics
	newest  atomic.Pointer[volume.Dictionary]
	stop    context.CancelFunc
	done    sync.WaitGroup
	number  uint32 // of the newest; of the one goroutine that learns, as made is
	made    time.Time

	mu   sync.Mutex // guards list
	list []*volume.Dictionary
}

// New makes a Keeper that knows none. Start begins its work.
func New(cfg Config) *Keeper {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	return &Keeper{cfg: cfg, metrics: newMetrics(), stop: func() {}}
}

// Start begins to learn and to train.
func (k *Keeper) Start() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.done.Go(func() {
		look := time.Now().Add(k.pause())
		for {
			if err := k.learn(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Log.Debug("dictionaries not learned, will be tried again", "err", err)
			}
			if time.Now().After(look) {
				k.look(ctx)
				look = time.Now().Add(k.pause())
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(learnEvery, k.cfg.Interval)):
			}
		}
	})
}

// pause is a time until the next look, at random so that nodes seldom train at once.
func (k *Keeper) pause() time.Duration { return k.cfg.Interval/2 + rand.N(k.cfg.Interval) }

// Close ends it.
func (k *Keeper) Close() {
	k.stop()
	k.done.Wait()
}

// Newest is what to compress with; nil while there is none.
func (k *Keeper) Newest() *volume.Dictionary { return k.newest.Load() }

// Get finds one by the id that frames have; nil if this node has not learned it.
func (k *Keeper) Get(id uint32) *volume.Dictionary {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.list {
		if d.ID() == id {
			return d
		}
	}
	return nil
}

// learn takes what is new in the directory.
func (k *Keeper) learn(ctx context.Context) error {
	list, err := k.cfg.Directory.Dictionaries(ctx, k.number)
	if err != nil {
		return err
	}
	for _, e := range list {
		d, err := volume.NewDictionary(e.Bytes)
		if err != nil {
			return fmt.Errorf("learn dictionary %d: %w", e.Number, err)
		}
		k.mu.Lock()
		k.list = append(k.list, d)
		k.list = k.list[max(0, len(k.list)-kept):]
		k.mu.Unlock()
		k.newest.Store(d)
		k.number, k.made = e.Number, time.Unix(e.Made, 0)
		k.metrics.newest.Set(float64(e.Number))
		k.cfg.Log.Info("mail is compressed with a new dictionary", "dictionary", e.Number, "bytes", len(e.Bytes))
	}
	return nil
}

// look trains a dictionary if the newest is old, and enters it if that is worthwhile.
func (k *Keeper) look(ctx context.Context) {
	if k.cfg.Volumes == nil || k.number > 0 && k.cfg.Clock.Since(k.made) < renewAfter {
		return
	}
	entered, err := k.train(ctx)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, training.ErrTooLittle), errors.Is(err, wire.ErrInvalid): // another node's came first
		k.cfg.Log.Debug("no dictionary trained", "err", err)
	case err != nil:
		k.metrics.results.WithLabelValues("failed").Inc()
		k.cfg.Log.Warn("no dictionary trained, will be tried again", "err", err)
	case entered:
		k.metrics.results.WithLabelValues("entered").Inc()
	default:
		k.metrics.results.WithLabelValues("no_gain").Inc()
	}
}

// train makes a dictionary of most of a sample and tries it on the rest.
func (k *Keeper) train(ctx context.Context) (entered bool, err error) {
	learn, try, err := k.sample(ctx)
	if err != nil {
		return false, err
	}
	number := k.number + 1
	b, err := training.Train(directory.DictionaryID(number), learn)
	if err != nil {
		return false, err
	}
	var present []byte
	if d := k.Newest(); d != nil {
		present = d.Bytes()
	}
	before, err := training.Ratio(present, try)
	if err != nil {
		return false, err
	}
	after, err := training.Ratio(b, try)
	if err != nil {
		return false, err
	}
	k.cfg.Log.Info("dictionary trained", "dictionary", number, "bytes", len(b), "messages", len(learn), "stored_before", before, "stored_after", after)
	if after > worthwhile*before {
		return false, nil
	}
	if _, err := volume.NewDictionary(b); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	return true, k.cfg.Directory.AddDictionary(ctx, directory.Dictionary{Number: number, Bytes: b, Made: k.cfg.Clock.Now().Unix()})
}
