package directory

import (
	"context"
	"errors"

	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// FreezeVolume puts fragments in the place of a sealed volume's copies. Generation and Attempt are those of the entry that they were made
// from: had a collection begun since, it might have destroyed keys that are alive beside the fragments.
type FreezeVolume struct {
	ID         volume.ID    `cbor:"1,keyasint"`
	Generation uint32       `cbor:"2,keyasint,omitempty"`
	Attempt    uint32       `cbor:"3,keyasint,omitempty"`
	Cold       replica.Cold `cbor:"4,keyasint"`
}

// ThawVolume puts whole copies in the place of a cold volume's fragments. The first of them is the primary from then on.
type ThawVolume struct {
	ID         volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
	Copies     []string  `cbor:"3,keyasint"`
}

// MoveFragment gives a fragment to another node, which has to make it.
type MoveFragment struct {
	ID    volume.ID `cbor:"1,keyasint"`
	Index uint8     `cbor:"2,keyasint,omitempty"`
	From  string    `cbor:"3,keyasint"`
	To    string    `cbor:"4,keyasint"`
}

// loadVolume gives a volume's entry; a refusal if there is none.
func loadVolume(t *index.Txn, id volume.ID) (*replica.Entry, []byte, error) {
	key := numberKey(volumeTable, uint64(id))
	e, err := load[replica.Entry](t, key)
	if errors.Is(err, errNoRecord) {
		return nil, nil, refuse("volume %d is not in the table", id)
	}
	return &e, key, err
}

func freezeVolume(t *index.Txn, c *FreezeVolume) (*Result, error) {
	e, key, err := loadVolume(t, c.ID)
	switch k, m := int(c.Cold.Data), int(c.Cold.Parity); {
	case err != nil:
		return nil, err
	case k == 0 || m == 0 || k+m != len(c.Cold.Nodes):
		return nil, refuse("volume %d: %d nodes for %d+%d fragments", c.ID, len(c.Cold.Nodes), k, m)
	case e.Cold != nil:
		return nil, refuse("volume %d is cold already", c.ID)
	case e.State != replica.Sealed || e.Length == 0:
		return nil, refuse("volume %d is open or empty", c.ID)
	case e.Generation != c.Generation || e.Attempt != c.Attempt:
		return nil, refuse("volume %d has changed since its fragments were made", c.ID)
	}
	if err := mayLie(t, e, c.Cold.Nodes...); err != nil {
		return nil, err
	}
	cold := c.Cold
	e.Copies, e.Cold, e.Epoch = nil, &cold, e.Epoch+1
	e.Attempt++ // a compaction that was begun finds no copies any more
	return &Result{Volume: e}, save(t, key, e)
}

func thawVolume(t *index.Txn, now int64, c *ThawVolume) (*Result, error) {
	e, key, err := loadVolume(t, c.ID)
	switch {
	case err != nil:
		return nil, err
	case len(c.Copies) < 2:
		return nil, refuse("volume %d: a volume needs at least two copies, got %q", c.ID, c.Copies)
	case e.Cold == nil || e.Generation != c.Generation:
		return nil, refuse("volume %d is not cold in generation %d", c.ID, c.Generation)
	}
	if err := mayLie(t, e, c.Copies...); err != nil {
		return nil, err
	}
	e.Primary, e.Copies, e.Cold, e.Epoch = c.Copies[0], c.Copies, nil, e.Epoch+1
	e.SealedAt = now // it is not to turn cold again at once
	return &Result{Volume: e}, save(t, key, e)
}

func moveFragment(t *index.Txn, c *MoveFragment) (*Result, error) {
	e, key, err := loadVolume(t, c.ID)
	switch {
	case err != nil:
		return nil, err
	case e.Cold == nil || int(c.Index) >= len(e.Cold.Nodes) || e.Cold.Nodes[c.Index] != c.From || c.To == "":
		return nil, refuse("volume %d: fragment %d is not on %q", c.ID, c.Index, c.From)
	}
	if err := mayLie(t, e, c.To); err != nil {
		return nil, err
	}
	e.Cold.Nodes[c.Index], e.Epoch = c.To, e.Epoch+1
	return &Result{Volume: e}, save(t, key, e)
}

// FreezeVolume implements cold.Directory.
func (s *Service) FreezeVolume(ctx context.Context, e replica.Entry, c replica.Cold) (replica.Entry, error) {
	return s.volume(ctx, &Command{FreezeVolume: &FreezeVolume{ID: e.ID, Generation: e.Generation, Attempt: e.Attempt, Cold: c}})
}

// ThawVolume implements cold.Directory.
func (s *Service) ThawVolume(ctx context.Context, e replica.Entry, copies []string) (replica.Entry, error) {
	return s.volume(ctx, &Command{ThawVolume: &ThawVolume{ID: e.ID, Generation: e.Generation, Copies: copies}})
}

// MoveFragment implements cold.Directory.
func (s *Service) MoveFragment(ctx context.Context, id volume.ID, index int, from, to string) (replica.Entry, error) {
	return s.volume(ctx, &Command{MoveFragment: &MoveFragment{ID: id, Index: uint8(index), From: from, To: to}})
}
