package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// live is what all shards together refer to of a volume.
type live struct {
	records *roaring.Bitmap
	owner   map[uint32]index.Reference // of each record, the first account and mailbox: messages of one lie together
	floors  map[uint32]uint32          // by shard, the least that an answer had
}

// ask unites the answers of all shards (step 3).
func (c *Collector) ask(ctx context.Context, id volume.ID, floor uint32) (*live, error) {
	all, err := c.cfg.Shards.All(ctx)
	if err != nil {
		return nil, err
	}
	l, err := c.unite(ctx, all, func(ctx context.Context, shard uint32, fn func(index.Reference)) (uint32, error) {
		return c.cfg.Shards.References(ctx, shard, id, floor, fn)
	})
	if err == nil { // a shard may have been recovered meanwhile, and lack what it is about to get back
		_, err = c.cfg.Shards.All(ctx)
	}
	return l, err
}

// unite unites what ask hears of shards.
func (c *Collector) unite(ctx context.Context, all []uint32, ask func(ctx context.Context, shard uint32, fn func(index.Reference)) (uint32, error)) (*live, error) {
	l := &live{records: roaring.New(), owner: make(map[uint32]index.Reference), floors: make(map[uint32]uint32)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards l and failed
	var failed error
	var work sync.WaitGroup
	turns := make(chan struct{}, c.cfg.AtOnce)
	for _, shard := range all {
		turns <- struct{}{}
		work.Go(func() {
			defer func() { <-turns }()
			var refs []index.Reference
			lowest, err := ask(ctx, shard, func(r index.Reference) { refs = append(refs, r) })
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if failed == nil {
					failed = fmt.Errorf("ask shard %d what it refers to: %w", shard, err)
				}
				cancel()
				return
			}
			l.floors[shard] = lowest
			l.add(refs)
		})
	}
	work.Wait()
	return l, failed
}

func (l *live) add(refs []index.Reference) {
	for _, r := range refs {
		n := uint32(r.Record)
		if first, known := l.owner[n]; !known || byOwner(r, first) < 0 {
			l.owner[n] = r
		}
		l.records.Add(n)
	}
}

func byOwner(a, b index.Reference) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Mailbox, b.Mailbox), cmp.Compare(a.Record, b.Record))
}

// order lists the records that stay as the next generation has them: dictionaries, which others need, then grouped by mailbox.
func (l *live) order(stay *roaring.Bitmap) []uint32 {
	out := roaring.AndNot(stay, l.records).ToArray()
	grouped := make([]index.Reference, 0, len(l.owner))
	for n, r := range l.owner {
		r.Record = uint64(n)
		grouped = append(grouped, r)
	}
	slices.SortFunc(grouped, byOwner)
	for _, r := range grouped {
		out = append(out, uint32(r.Record))
	}
	return out
}

// final asks for what can ever be live: steps 1 to 3. What was asked before may do.
func (c *Collector) final(ctx context.Context, e replica.Entry, l *live) (replica.Entry, *live, error) {
	if e.Attempt == e.Generation {
		var err error
		if e, err = c.cfg.Directory.CompactVolume(ctx, e.ID); err != nil {
			return e, nil, err
		}
		c.cfg.Copies.Entered(e)
	}
	floor, asked := e.Generation+1, true
	all, err := c.cfg.Shards.All(ctx)
	if err != nil {
		return e, nil, err
	}
	for _, shard := range all {
		if l.floors[shard] >= floor {
			continue
		}
		asked = false
		if err := c.cfg.Shards.Condemn(ctx, shard, e.ID, e.Attempt); err != nil {
			return e, nil, fmt.Errorf("condemn in shard %d: %w", shard, err)
		}
	}
	if asked {
		return e, l, nil
	}
	l, err = c.ask(ctx, e.ID, floor)
	return e, l, err
}
