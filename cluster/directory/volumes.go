package directory

import (
	"errors"

	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

func openVolume(t *index.Txn, c *OpenVolume) (*Result, error) {
	if c.Primary == "" || len(c.Copies) < 2 {
		return nil, refuse("a volume needs a primary and at least two copies, got %q and %q", c.Primary, c.Copies)
	}
	n, err := nextNumber(t, func(c *counters) *uint64 { return &c.Volume })
	if err != nil {
		return nil, err
	}
	e := newEntry(n, c.Primary, c.Copies, c.Class)
	return &Result{Created: true, Volume: &e}, save(t, numberKey(volumeTable, n), &e)
}

func newEntry(n uint64, primary string, copies []string, class uint8) replica.Entry {
	return replica.Entry{ID: volume.ID(n), Epoch: 1, Primary: primary, Copies: copies, Class: class, State: replica.Open}
}

func sealVolume(t *index.Txn, now int64, c *SealVolume) (*Result, error) {
	key := numberKey(volumeTable, uint64(c.ID))
	e, err := load[replica.Entry](t, key)
	if errors.Is(err, errNoRecord) {
		return nil, refuse("volume %d is not in the table", c.ID)
	}
	if err != nil || e.State == replica.Sealed {
		return &Result{Volume: &e}, err
	}
	e.State, e.Length, e.Last, e.SealedAt, e.Epoch = replica.Sealed, c.Length, c.Last, now, e.Epoch+1
	return &Result{Volume: &e}, save(t, key, &e)
}

func dropVolume(t *index.Txn, c *DropVolume) (*Result, error) {
	key := numberKey(volumeTable, uint64(c.ID))
	e, err := load[replica.Entry](t, key)
	if errors.Is(err, errNoRecord) {
		return &Result{}, nil
	}
	if err != nil {
		return nil, err
	}
	if e.State != replica.Sealed {
		return nil, refuse("volume %d is open: seal it before it is dropped", c.ID)
	}
	if e.Length != 0 {
		return nil, refuse("volume %d holds records: it cannot be dropped", c.ID)
	}
	return &Result{}, t.Delete(key)
}

// compact takes the number of the next attempt. Every attempt has its own, so what an earlier one prepared is never taken for this one's.
func compact(t *index.Txn, c *Compact) (*Result, error) {
	key := numberKey(volumeTable, uint64(c.ID))
	e, err := load[replica.Entry](t, key)
	switch {
	case errors.Is(err, errNoRecord):
		return nil, refuse("volume %d is not in the table", c.ID)
	case err != nil:
		return nil, err
	case e.State != replica.Sealed || e.Length == 0:
		return nil, refuse("volume %d is open or empty: there is nothing to compact", c.ID)
	}
	e.Attempt++
	return &Result{Volume: &e}, save(t, key, &e)
}

func compacted(t *index.Txn, c *Compacted) (*Result, error) {
	key := numberKey(volumeTable, uint64(c.ID))
	e, err := load[replica.Entry](t, key)
	switch {
	case errors.Is(err, errNoRecord):
		return nil, refuse("volume %d is not in the table", c.ID)
	case err != nil:
		return nil, err
	case e.Generation == c.Generation && e.Generation > 0:
		return &Result{Volume: &e}, nil // asked again
	case c.Generation != e.Attempt || c.Generation == 0:
		return nil, refuse("volume %d: generation %d was given up for %d", c.ID, c.Generation, e.Attempt)
	case c.Length < 0 || c.Length > e.Length:
		return nil, refuse("volume %d: a length of %d after compaction, %d before", c.ID, c.Length, e.Length)
	}
	if e.Cold != nil && c.Length != 0 {
		return nil, refuse("volume %d is cold: thaw it first", c.ID)
	}
	e.Generation, e.Length, e.Cold = c.Generation, c.Length, nil
	return &Result{Volume: &e}, save(t, key, &e)
}

// condemned says whether a volume takes no new references: a compaction of it was begun, or it is gone. What the directory itself
// refers to in volumes holds to that, as messages do (package collect).
func condemned(t *index.Txn, id volume.ID) (bool, error) {
	e, err := load[replica.Entry](t, numberKey(volumeTable, uint64(id)))
	if errors.Is(err, errNoRecord) {
		return true, nil
	}
	return e.Attempt > 0, err
}
