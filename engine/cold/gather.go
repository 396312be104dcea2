package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Gathered are the fragments of one volume in several stores: those of nodes that do not run, so that nobody knows better which
// fragments there should be.
type Gathered struct {
	Layout Layout
	// Holders are, of each fragment, the stores that have it, by their place in what Gather was given.
	Holders [][]int
	// Lost are the fragments of which not even the header is right.
	Lost []error

	id         volume.ID
	generation uint32
	stores     []*Store
}

// Gather finds the fragments of each volume's newest generation, in the order of the volumes. Where fragments of several layouts lie
// about, those of the one with the most count.
func Gather(stores []*Store) []*Gathered {
	newest := make(map[volume.ID]uint32)
	for _, s := range stores {
		for _, n := range s.List() {
			newest[n.Volume] = max(newest[n.Volume], n.Generation)
		}
	}
	var all []*Gathered
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		g := &Gathered{id: id, generation: newest[id], stores: stores}
		g.gather()
		all = append(all, g)
	}
	return all
}

func (g *Gathered) gather() {
	found := make(map[Layout]map[int][]int)
	for at, s := range g.stores {
		for _, n := range s.List() {
			if n.Volume != g.id || n.Generation != g.generation {
				continue
			}
			f, err := s.Get(n)
			if err != nil {
				g.Lost = append(g.Lost, fmt.Errorf("%s: %w", s.path(n), err))
				continue
			}
			if found[f.layout] == nil {
				found[f.layout] = make(map[int][]int)
			}
			found[f.layout][n.Index] = append(found[f.layout][n.Index], at)
		}
	}
	best := slices.SortedFunc(maps.Keys(found), func(a, b Layout) int {
		return cmp.Or(cmp.Compare(len(found[b]), len(found[a])), cmp.Compare(a.Data, b.Data), cmp.Compare(a.Parity, b.Parity), cmp.Compare(a.Seed, b.Seed))
	})
	if len(best) == 0 {
		return
	}
	g.Layout = best[0]
	g.Holders = make([][]int, g.Layout.Fragments())
	for index, holders := range found[g.Layout] {
		g.Holders[index] = holders
	}
}

// ID is the volume's.
func (g *Gathered) ID() volume.ID { return g.id }

// Here lists the fragments that somebody has.
func (g *Gathered) Here() (indexes []int) {
	for i, holders := range g.Holders {
		if len(holders) > 0 {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// Open opens the volume for reading, through any k fragments. ErrTooFew if there are not so many.
func (g *Gathered) Open(ctx context.Context) (*volume.Volume, error) {
	here := g.Here()
	if len(g.Holders) == 0 || len(here) < int(g.Layout.Data) {
		return nil, fmt.Errorf("volume %s: fragments %v are here, and %d are needed: %w", g.id, here, g.Layout.Data, errors.Join(ErrTooFew, errors.Join(g.Lost...)))
	}
	sources := make([]Source, len(g.Holders))
	for _, i := range here {
		sources[i] = gatheredSource{g, i}
	}
	r, err := NewReader(g.Layout, sources, nil)
	if err != nil {
		return nil, err
	}
	beside := g.stores[0]
	if i := slices.IndexFunc(g.stores, func(s *Store) bool { return s.HasAttached(g.id, g.generation) }); i >= 0 {
		beside = g.stores[i]
	}
	v, err := volume.OpenThrough(beside.fs, beside.IndexPath(g.id, g.generation), NewWindow(ctx, r), g.Layout.Length, volume.Options{Keys: g})
	if err != nil {
		return nil, fmt.Errorf("cold volume %s: %w", g.id, err)
	}
	return v, nil
}

// Record gives the key of a record from the first key file that can be unwrapped. A key that is destroyed there is gone.
func (g *Gathered) Record(n uint64) ([32]byte, error) {
	failed := fmt.Errorf("cold volume %s: %w", g.id, volume.ErrNoKeys)
	for _, s := range g.stores {
		key, err := s.Record(g.id, n)
		if err == nil || errors.Is(err, keys.ErrDestroyed) {
			return key, err
		}
		if !errors.Is(err, ErrNotFound) {
			failed = fmt.Errorf("%w: %w", failed, err)
		}
	}
	return [32]byte{}, failed
}

// Verify reads all blocks of all fragments that are here, and says what is wrong.
func (g *Gathered) Verify(ctx context.Context) ([]error, error) {
	wrong := slices.Clone(g.Lost)
	for i, holders := range g.Holders {
		for _, at := range holders {
			s, n := g.stores[at], Name{Volume: g.id, Generation: g.generation, Index: i}
			f, err := s.Get(n)
			if err != nil {
				return wrong, err
			}
			damaged, err := f.Verify(ctx, nil)
			if err != nil {
				return wrong, err
			}
			if len(damaged) > 0 {
				wrong = append(wrong, fmt.Errorf("%s: %w", s.path(n), &DamageError{Volume: g.id, Index: i, Block: damaged[0],
					Reason: fmt.Sprintf("%d of %d blocks in all", len(damaged), g.Layout.Blocks())}))
			}
		}
	}
	return wrong, nil
}

// gatheredSource is one fragment, wherever its blocks are right.
type gatheredSource struct {
	g     *Gathered
	index int
}

// ReadBlocks implements Source.
func (s gatheredSource) ReadBlocks(ctx context.Context, first, n int64) ([]byte, error) {
	var failed error
	for _, at := range s.g.Holders[s.index] {
		stored, err := s.g.stores[at].ReadBlocks(ctx, Name{Volume: s.g.id, Generation: s.g.generation, Index: s.index}, first, n)
		if err == nil {
			return stored, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}
