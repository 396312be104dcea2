package checkpoint

import (
	"context"
	"fmt"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
)

// MethodSave asks a shard's leader for a checkpoint now.
const MethodSave = "checkpoint.save"

// SaveRequest names the shard.
type SaveRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// SaveResponse is the shard's last checkpoint, which nothing has changed since the request came.
type SaveResponse struct {
	Applied uint64 `cbor:"1,keyasint"`
	Taken   int64  `cbor:"2,keyasint"`
	Bytes   uint64 `cbor:"3,keyasint,omitempty"`
}

// ask is a request on its way to the goroutine that saves.
type ask struct {
	group *shard.Group
	done  chan saved // capacity one
}

// saved is what became of it.
type saved struct {
	last directory.Checkpoint
	err  error
}

// serveSave saves a shard that this node leads, if it has changed.
func (k *Keeper) serveSave(ctx context.Context, from string, req *SaveRequest) (*SaveResponse, error) {
	g, ok := k.cfg.Host.Group(req.Shard)
	if !ok || !g.IsLeader() {
		return nil, &wire.Error{Code: wire.NotLeader, Message: fmt.Sprintf("shard %d is not led here", req.Shard)}
	}
	a := ask{group: g, done: make(chan saved, 1)}
	select {
	case k.asks <- a:
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Unavailable, "checkpoint for %s: %v", from, ctx.Err())
	}
	select {
	case s := <-a.done:
		if s.err != nil {
			return nil, wire.Errorf(wire.Unavailable, "checkpoint of shard %d: %v", req.Shard, s.err)
		}
		return &SaveResponse{Applied: s.last.Applied, Taken: s.last.Taken, Bytes: s.last.Bytes}, nil
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Unavailable, "checkpoint for %s: %v", from, ctx.Err())
	}
}

// answer saves a shard that somebody asked for.
func (k *Keeper) answer(ctx context.Context, a ask) saved {
	last, err := k.last()
	if err != nil {
		return saved{err: err}
	}
	was := last[a.group.Shard()]
	changes, err := k.changes(a.group, was)
	if err != nil || changes == 0 {
		return saved{was, err}
	}
	now, err := k.save(ctx, a.group)
	return saved{now, err}
}

// last gives the last checkpoint of each shard, as this node's directory knows them.
func (k *Keeper) last() (map[uint32]directory.Checkpoint, error) {
	all, err := k.cfg.Directory.Checkpoints()
	if err != nil {
		return nil, err
	}
	last := make(map[uint32]directory.Checkpoint, len(all))
	for _, c := range all {
		if n := len(c.List); n > 0 {
			last[c.Shard] = c.List[n-1]
		}
	}
	return last, nil
}

// work saves shards that are due, and those that somebody asks for, one after the other.
func (k *Keeper) work(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			k.look(ctx)
		case a := <-k.asks:
			a.done <- k.answer(ctx, a)
		}
	}
}
