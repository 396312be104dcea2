package directory

import (
	"context"
	"errors"

	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// How many checkpoints of a shard are kept, and of how many records one may consist.
const (
	keptCheckpoints = 2
	MaxParts        = 2048
)

// Checkpoint is a shard's saved state, cut into records of volumes.
type Checkpoint struct {
	ID      [16]byte     `cbor:"1,keyasint"`
	Applied uint64       `cbor:"2,keyasint"` // log entry up to which it holds
	Taken   int64        `cbor:"3,keyasint"` // unix seconds, when it was begun
	Bytes   uint64       `cbor:"4,keyasint"`
	Parts   []volume.Ref `cbor:"5,keyasint"`
	// Noise of the directory's own: how many entries of its log up to Applied entered checkpoints, or a few more. A directory
	// in which nothing else has changed needs no new one.
	Noise uint64 `cbor:"6,keyasint,omitempty"`
}

// Checkpoints are the last ones of a shard, the newest last. What they refer to is live.
type Checkpoints struct {
	Shard uint32       `cbor:"1,keyasint"`
	List  []Checkpoint `cbor:"2,keyasint"`
}

// AddCheckpoint enters a checkpoint and forgets the oldest. One that is not newer than those there is refused.
type AddCheckpoint struct {
	Shard      uint32     `cbor:"1,keyasint"`
	Checkpoint Checkpoint `cbor:"2,keyasint"`
}

func addCheckpoint(t *index.Txn, c *AddCheckpoint) (*Result, error) {
	if n := len(c.Checkpoint.Parts); n == 0 || n > MaxParts {
		return nil, refuse("a checkpoint of %d parts: expected 1 to %d", n, MaxParts)
	}
	key := numberKey(checkpointTable, uint64(c.Shard))
	list, err := loadIf[Checkpoints](t, key)
	if err != nil {
		return nil, err
	}
	if n := len(list.List); n > 0 && list.List[n-1].Applied >= c.Checkpoint.Applied {
		return nil, refuse("shard %d has a checkpoint of entry %d already", c.Shard, list.List[n-1].Applied)
	}
	for i, part := range c.Checkpoint.Parts {
		if i > 0 && part.Volume == c.Checkpoint.Parts[i-1].Volume {
			continue
		}
		if gone, err := condemned(t, part.Volume); err != nil {
			return nil, err
		} else if gone {
			return nil, refuse("volume %s, with a part of the checkpoint, is being collected: take it again", part.Volume)
		}
	}
	if _, err := nextNumber(t, func(n *counters) *uint64 { return &n.Noise }); err != nil {
		return nil, err
	}
	list.Shard = c.Shard
	list.List = append(list.List, c.Checkpoint)
	list.List = list.List[max(0, len(list.List)-keptCheckpoints):]
	return &Result{Created: true}, save(t, key, &list)
}

// AddCheckpoint enters a shard's checkpoint, whose records are durable.
func (s *Service) AddCheckpoint(ctx context.Context, shard uint32, c Checkpoint) error {
	_, err := s.propose(ctx, &Command{AddCheckpoint: &AddCheckpoint{Shard: shard, Checkpoint: c}})
	return err
}

// Checkpoints lists the checkpoints of all shards as this node's replica has them.
func (s *Service) Checkpoints() ([]Checkpoints, error) { return list[Checkpoints](s, checkpointTable) }

// Noise counts the log entries of the directory that entered checkpoints.
func (s *Service) Noise() (uint64, error) {
	c, err := record[counters](s, []byte(counterKey))
	return c.Noise, err
}

// References says which records of a volume this node's replica of the directory refers to, as parts of checkpoints, and which
// compaction of the volume was begun last.
func (s *Service) References(id volume.ID) (attempt uint32, records []uint64, err error) {
	v, err := s.view()
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	e, err := load[replica.Entry](v, numberKey(volumeTable, uint64(id)))
	if err != nil {
		return 0, nil, err
	}
	err = each(v, checkpointTable, func(all *Checkpoints) error {
		for _, c := range all.List {
			for _, part := range c.Parts {
				if part.Volume == id {
					records = append(records, part.Record)
				}
			}
		}
		return nil
	})
	return e.Attempt, records, err
}
