package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/klauspost/reedsolomon"
	"golang.org/x/sync/errgroup"
)

// Source gives blocks of one fragment in their stored form, from this node's disk or from another node. It is asked for at most
// MaxBlocks at a time, by several goroutines at once.
type Source interface {
	ReadBlocks(ctx context.Context, first, n int64) ([]byte, error)
}

// MaxBlocks bounds what a Source is asked for at once.
const MaxBlocks = batch

// Reader reads a volume's file through its fragments. Several goroutines may use it.
type Reader struct {
	layout  Layout
	code    reedsolomon.Encoder
	sources []Source // one of each fragment; nil: nobody has it
	order   []int    // in which fragments are asked for when one is missing

	restored atomic.Int64 // blocks
}

// NewReader makes a Reader. order names the fragments, the one that answers fastest first; those it leaves out come last.
func NewReader(l Layout, sources []Source, order []int) (*Reader, error) {
	code, err := newCode(l)
	if err != nil {
		return nil, err
	}
	if len(sources) != l.Fragments() {
		return nil, fmt.Errorf("read volume %s: %d sources: %w", l.Volume, len(sources), ErrLayout)
	}
	r := &Reader{layout: l, code: code, sources: sources}
	for _, i := range order {
		if i >= 0 && i < len(sources) && !slices.Contains(r.order, i) {
			r.order = append(r.order, i)
		}
	}
	for i := range sources {
		if !slices.Contains(r.order, i) {
			r.order = append(r.order, i)
		}
	}
	return r, nil
}

// Restored is how many blocks were computed from others so far.
func (r *Reader) Restored() int64 { return r.restored.Load() }

// Layout says what is read.
func (r *Reader) Layout() Layout { return r.layout }

// ReadAt fills p with the file's bytes from off on: through the data fragments that hold them, and where one of these is missing
// or damaged through the same blocks of others. At the end of the file it is io.EOF, as io.ReaderAt has it.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read volume %s at %d: %w", r.layout.Volume, off, ErrLayout)
	}
	done := 0
	for done < len(p) && off < r.layout.Length {
		column := off / r.layout.Column()
		at := off - column*r.layout.Column()
		first := at / BlockRoom
		end := min(at+int64(len(p)-done), r.layout.Column(), r.layout.Length-column*r.layout.Column())
		n := min((end+BlockRoom-1)/BlockRoom-first, batch)
		payload, err := r.blocks(ctx, int(column), first, n)
		if err != nil {
			return done, fmt.Errorf("read volume %s at %d: %w", r.layout.Volume, off, err)
		}
		payload = payload[at-first*BlockRoom:]
		m := copy(p[done:], payload[:min(int64(len(payload)), end-at)])
		done, off = done+m, off+int64(m)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// blocks gives the payload of blocks of one fragment, from itself or from the others.
func (r *Reader) blocks(ctx context.Context, index int, first, n int64) ([]byte, error) {
	stored, err := r.ask(ctx, index, first, n)
	if err == nil {
		return strip(stored), nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	stored, others := r.restore(ctx, index, first, n)
	if others != nil {
		return nil, fmt.Errorf("%w; %w", err, others)
	}
	return strip(stored), nil
}

// errAbsent: nobody is known to have the fragment.
var errAbsent = errors.New("is nowhere")

// ask reads and checks blocks of one fragment.
func (r *Reader) ask(ctx context.Context, index int, first, n int64) ([]byte, error) {
	source := r.sources[index]
	if source == nil {
		return nil, fmt.Errorf("fragment %d %w", index, errAbsent)
	}
	stored, err := source.ReadBlocks(ctx, first, n)
	if err != nil {
		return nil, fmt.Errorf("fragment %d: %w", index, err)
	}
	return stored, r.layout.check(index, first, n, stored)
}

// restore computes blocks of a fragment, in their stored form, from k others. It asks the k first in order at once, and for each that fails the next.
func (r *Reader) restore(ctx context.Context, index int, first, n int64) ([]byte, error) {
	others := slices.DeleteFunc(slices.Clone(r.order), func(i int) bool { return i == index || r.sources[i] == nil })
	shards := make([][]byte, r.layout.Fragments())
	have := 0
	reasons := []error{}
	for have < int(r.layout.Data) {
		need := int(r.layout.Data) - have
		if len(others) < need {
			return nil, fmt.Errorf("fragment %d from %d others, %d are needed: %w: %w", index, have+len(others), r.layout.Data, ErrTooFew, errors.Join(reasons...))
		}
		failed := make([]error, need)
		var group errgroup.Group
		for turn, i := range others[:need] {
			group.Go(func() error {
				shards[i], failed[turn] = r.ask(ctx, i, first, n)
				return nil
			})
		}
		_ = group.Wait() // its functions give none
		for turn, err := range failed {
			if err == nil {
				have++
				continue
			}
			shards[others[turn]] = nil
			reasons = append(reasons, err)
		}
		others = others[need:]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	wanted := make([]bool, len(shards))
	wanted[index] = true
	if err := r.code.ReconstructSome(shards, wanted); err != nil {
		return nil, fmt.Errorf("compute fragment %d: %w", index, err)
	}
	r.layout.sum(index, first, shards[index])
	r.restored.Add(n)
	return shards[index], nil
}

// Rebuild gives a sink the blocks of a lost fragment from a block on, computed from others.
func (r *Reader) Rebuild(ctx context.Context, index int, to Target, pace Pace) error {
	if index < 0 || index >= r.layout.Fragments() {
		return fmt.Errorf("rebuild fragment %d of volume %s: %w", index, r.layout.Volume, ErrLayout)
	}
	for first := to.From; first < r.layout.Blocks(); first += batch {
		n := min(batch, r.layout.Blocks()-first)
		if err := pace.wait(ctx, r.layout.payload(first, n)*int64(r.layout.Data)); err != nil {
			return fmt.Errorf("rebuild fragment %d of volume %s: %w", index, r.layout.Volume, err)
		}
		stored, err := r.restore(ctx, index, first, n)
		if err != nil {
			return fmt.Errorf("rebuild fragment %d of volume %s: %w", index, r.layout.Volume, err)
		}
		if err := to.Sink.Append(ctx, stored); err != nil {
			return fmt.Errorf("rebuild fragment %d of volume %s: %w", index, r.layout.Volume, err)
		}
	}
	return nil
}
