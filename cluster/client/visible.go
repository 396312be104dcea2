package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// A view of a replica is shown once all that it shows is on a second disk: step 7 of "Delivery in one round trip" in docs/architecture.md.
const (
	visibleWait = time.Second            // how long a query waits for that before another replica is asked
	lookEvery   = 100 * time.Millisecond // between looks at volumes that no reader waits for
	lookWait    = 2 * time.Second
)

// spreading finds out how far a volume's records are on a second disk; it is a replica.Manager.
type spreading interface {
	Spread(ctx context.Context, id volume.ID, record uint64) (through uint64, sealed bool, err error)
}

// readers knows what the replicas here may not show yet.
type readers struct {
	volumes spreading
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	early   map[uint32]*mailbox.Early
	looking map[volume.ID]bool
}

func newReaders(volumes spreading) *readers {
	return &readers{volumes: volumes, stop: func() {}, early: make(map[uint32]*mailbox.Early), looking: make(map[volume.ID]bool)}
}

// Track has queries of a shard's replica here wait for what e says. It is called before the replica runs.
func (c *Client) Track(shard uint32, e *mailbox.Early) {
	c.readers.mu.Lock()
	defer c.readers.mu.Unlock()
	c.readers.early[shard] = e
}

// Untrack ends that, when the replica has been erased.
func (c *Client) Untrack(shard uint32) {
	c.readers.mu.Lock()
	defer c.readers.mu.Unlock()
	delete(c.readers.early, shard)
}

// view opens a view of which everything that q is about may be shown.
func (r *readers) view(ctx context.Context, open func() *index.View, q *mailbox.Query) (*index.View, error) {
	r.mu.Lock()
	e := r.early[q.Shard]
	r.mu.Unlock()
	if e == nil {
		return open(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, visibleWait)
	defer cancel()
	for {
		before := e.Changed()
		v := open()
		needs, known, changed := e.Needs(q.Account, q.Mailbox)
		if changed != before {
			if err := v.Close(); err != nil {
				return nil, err
			}
			continue
		}
		lost, err := r.await(ctx, e, needs, v, changed)
		if err == nil && !lost && known {
			return v, nil
		}
		if err := errors.Join(err, v.Close()); err != nil {
			return nil, err
		}
		select {
		case <-changed: // what was lost has been removed, or whose it is is known
		case <-ctx.Done():
			return nil, wire.Errorf(wire.Unavailable, "shard %d: an entry without its bytes is about to be removed: %v", q.Shard, ctx.Err())
		}
	}
}

// await returns when all that is needed is durable on a second disk, or some of it is lost.
func (r *readers) await(ctx context.Context, e *mailbox.Early, needs []mailbox.Need, v *index.View, changed <-chan struct{}) (lost bool, err error) {
	for _, n := range needs {
		through, _, err := r.volumes.Spread(ctx, n.Volume, n.Record)
		if err != nil {
			return false, fmt.Errorf("an entry's bytes are not known to be on a second disk: %w", err)
		}
		e.Durable(n.Volume, through)
		if through < n.Record {
			lost = true
			if err := e.Ended(v, changed, n.Volume, through); err != nil {
				return true, err
			}
		}
	}
	return lost, nil
}

// start begins to look after what no reader asks for, so that readers seldom wait and memory stays small.
func (r *readers) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.work.Go(func() {
		tick := pause.Ticker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.look(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
}

func (r *readers) close() {
	r.stop()
	r.work.Wait()
}

// look asks for every volume that something is open of, unless that is being asked already.
func (r *readers) look(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	highest := make(map[volume.ID]uint64)
	for _, e := range r.early {
		for _, n := range e.Open() {
			highest[n.Volume] = max(highest[n.Volume], n.Record)
		}
	}
	for id, record := range highest {
		if r.looking[id] {
			continue
		}
		r.looking[id] = true
		r.work.Go(func() { r.lookAt(ctx, id, record) })
	}
}

func (r *readers) lookAt(ctx context.Context, id volume.ID, record uint64) {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	through, _, err := r.volumes.Spread(ctx, id, record)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.looking, id)
	if err != nil {
		return // the next look, or a reader, asks again
	}
	for _, e := range r.early {
		e.Durable(id, through)
	}
}
