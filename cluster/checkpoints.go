package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hongyan/cluster/checkpoint"
	"hongyan/cluster/wire"
)

// CheckpointLine is a shard's last checkpoint.
type CheckpointLine struct {
	Shard   uint32 `json:"shard"`
	Applied uint64 `json:"applied"`
	Taken   int64  `json:"taken"` // unix seconds
	Bytes   uint64 `json:"bytes"`
}

// Checkpoint has the leaders of all shards save what changed since their last checkpoints, and gives the last ones. The directory comes
// last: it refers to the others.
func (n *Node) Checkpoint(ctx context.Context) (any, error) {
	shards := n.router.Shards()
	lines := make([]CheckpointLine, len(shards))
	for i, number := range slices.Backward(shards) {
		g, _ := n.router.Group(number)
		resp, err := n.checkpointAt(ctx, number, g.Voters)
		if err != nil {
			return nil, fmt.Errorf("save shard %d into volumes: %w", number, err)
		}
		lines[i] = CheckpointLine{Shard: number, Applied: resp.Applied, Taken: resp.Taken, Bytes: resp.Bytes}
	}
	return map[string]any{"checkpoints": lines}, nil
}

// checkpointAt asks the voters in turn; the leader does it.
func (n *Node) checkpointAt(ctx context.Context, shard uint32, voters []string) (*checkpoint.SaveResponse, error) {
	var failed error
	for _, v := range voters {
		resp := new(checkpoint.SaveResponse)
		err := n.net.Call(ctx, v, checkpoint.MethodSave, &checkpoint.SaveRequest{Shard: shard}, resp)
		if err == nil {
			return resp, nil
		}
		if !errors.Is(err, wire.ErrNotLeader) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", v, err))
		}
	}
	return nil, wire.Errorf(wire.Unavailable, "no leader did it: %v", failed)
}
