package engine

import (
	"context"
	"errors"
	"fmt"

	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// KeyUse says how a store's files are wrapped.
type KeyUse struct {
	Masters map[string]int // key files by the master key that wraps them
	Plain   int            // volumes that are not encrypted
	Left    int            // key files that still need another master key than the newest
}

// KeyUse reads the headers of all key files.
func (s *Store) KeyUse() (*KeyUse, error) {
	return s.eachKey(func(*keys.File) error { return nil })
}

// Rewrap wraps every key file by the newest master key that is not yet. It ends early, without an error, when ctx does: then
// KeyUse.Left says how many are left, and it is called again. An error about one file does not keep it from the others.
func (s *Store) Rewrap(ctx context.Context) (*KeyUse, error) {
	return s.eachKey(func(f *keys.File) error {
		if f.MasterID() == s.master.ID() || ctx.Err() != nil {
			return nil
		}
		return f.Rewrap(ctx, s.master)
	})
}

// eachKey calls do with every key file and counts them afterwards.
func (s *Store) eachKey(do func(*keys.File) error) (*KeyUse, error) {
	use := &KeyUse{Masters: make(map[string]int)}
	if s.master == nil {
		use.Plain = len(s.Volumes.List())
		return use, nil
	}
	newest := s.master.ID()
	visit := func(f *keys.File) error {
		err := do(f)
		use.Masters[f.MasterID()]++
		if f.MasterID() != newest {
			use.Left++
		}
		return err
	}
	var errs []error
	if s.own != nil {
		errs = append(errs, visit(s.own))
	}
	for _, id := range s.Volumes.List() {
		err := s.Volumes.UseKeys(id, visit)
		switch {
		case errors.Is(err, volume.ErrNoKeys):
			use.Plain++
		case errors.Is(err, volume.ErrNotFound): // removed meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("key file of volume %s: %w", id, err))
		}
	}
	kept, err := s.Cold.Keyed()
	errs = append(errs, err)
	for _, id := range kept {
		if err := s.Cold.UseKeys(id, visit); err != nil && !errors.Is(err, cold.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return use, errors.Join(errs...)
}
