package directory

import (
	"context"
	"errors"

	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// AddCopy names one more node for a copy of a sealed volume, which has to make it. Epoch is that of the entry which the decision was made on;
// refused if it has changed since.
type AddCopy struct {
	ID    volume.ID `cbor:"1,keyasint"`
	Node  string    `cbor:"2,keyasint"`
	Epoch uint64    `cbor:"3,keyasint"`
}

// RemoveCopy takes a node out of a sealed volume's entry, of which two others are left.
type RemoveCopy struct {
	ID    volume.ID `cbor:"1,keyasint"`
	Node  string    `cbor:"2,keyasint"`
	Epoch uint64    `cbor:"3,keyasint"`
}

// changeCopies saves an entry as change makes it, or says why not.
func changeCopies(t *index.Txn, id volume.ID, change func(replica.Entry) (replica.Entry, error)) (*Result, error) {
	e, key, err := loadVolume(t, id)
	if err != nil {
		return nil, err
	}
	changed, err := change(*e)
	if err != nil {
		return nil, refuse("%v", err)
	}
	return &Result{Volume: &changed}, save(t, key, &changed)
}

func addCopy(t *index.Txn, c *AddCopy) (*Result, error) {
	e, _, err := loadVolume(t, c.ID)
	if err == nil {
		err = mayLie(t, e, c.Node)
	}
	if err != nil {
		return nil, err
	}
	return changeCopies(t, c.ID, func(e replica.Entry) (replica.Entry, error) { return e.WithCopy(c.Node, c.Epoch) })
}

// AddCopy implements replica.Directory.
func (s *Service) AddCopy(ctx context.Context, e replica.Entry, node string) (replica.Entry, error) {
	return s.volume(ctx, &Command{AddCopy: &AddCopy{ID: e.ID, Node: node, Epoch: e.Epoch}})
}

// RemoveCopy implements replica.Directory.
func (s *Service) RemoveCopy(ctx context.Context, e replica.Entry, node string) (replica.Entry, error) {
	return s.volume(ctx, &Command{RemoveCopy: &RemoveCopy{ID: e.ID, Node: node, Epoch: e.Epoch}})
}

// Volume implements replica.Directory: it reads this node's replica once that has all that was acknowledged before.
func (s *Service) Volume(ctx context.Context, id volume.ID) (e replica.Entry, known bool, err error) {
	if err := s.CatchUp(ctx); err != nil {
		return e, false, err
	}
	v, err := s.view()
	if err != nil {
		return e, false, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	e, err = load[replica.Entry](v, numberKey(volumeTable, uint64(id)))
	if errors.Is(err, errNoRecord) {
		return e, false, nil
	}
	return e, err == nil, err
}
