package cold

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/reedsolomon"
	"golang.org/x/sync/errgroup"
)

// Pace waits until so many more bytes may be read. A nil Pace does not wait.
type Pace func(ctx context.Context, bytes int64) error

func (p Pace) wait(ctx context.Context, bytes int64) error {
	if p == nil {
		return ctx.Err()
	}
	return p(ctx, bytes)
}

// Target is where one fragment goes. A nil Sink wants nothing.
type Target struct {
	Sink Sink
	From int64 // the block that it wants first
}

// newCode gives the library's coder of a layout. It uses one processor: cold volumes are nobody's hurry.
func newCode(l Layout) (reedsolomon.Encoder, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	code, err := reedsolomon.New(int(l.Data), int(l.Parity), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("code of %d+%d fragments: %w", l.Data, l.Parity, err)
	}
	return code, nil
}

// Encode reads a volume's file once and gives each target its blocks. One target of each fragment, in order. The sinks
// run at the same time, a batch of stripes each; the first error ends it all.
func Encode(ctx context.Context, src io.ReaderAt, l Layout, targets []Target, pace Pace) error {
	code, err := newCode(l)
	if err != nil {
		return err
	}
	if len(targets) != l.Fragments() {
		return fmt.Errorf("encode volume %s: %d targets: %w", l.Volume, len(targets), ErrLayout)
	}
	most := min(batch, l.Blocks())
	e := &encoder{layout: l, src: src, code: code, targets: targets, shards: make([][]byte, len(targets)), column: make([]byte, l.payload(0, most))}
	first := l.Blocks()
	for i, t := range targets {
		if t.Sink != nil {
			first = min(first, max(t.From, 0))
		}
		e.shards[i] = make([]byte, l.stored(0, most))
	}
	for ; first < l.Blocks(); first += batch {
		n := min(batch, l.Blocks()-first)
		if err := pace.wait(ctx, l.payload(first, n)*int64(l.Data)); err != nil {
			return fmt.Errorf("encode volume %s: %w", l.Volume, err)
		}
		if err := e.stripes(ctx, first, n); err != nil {
			return fmt.Errorf("encode volume %s: %w", l.Volume, err)
		}
	}
	return nil
}

// encoder holds the buffers of one Encode.
type encoder struct {
	layout  Layout
	src     io.ReaderAt
	code    reedsolomon.Encoder
	targets []Target
	shards  [][]byte // a batch of stored blocks, of each fragment
	column  []byte   // their payload, of one
}

// stripes encodes n stripes. The code is computed over the blocks with the places of their sums, which saves a copy, since each
// byte of a fragment depends only on the same byte of the others. The sums come afterwards.
func (e *encoder) stripes(ctx context.Context, first, n int64) error {
	for i := range e.shards {
		e.shards[i] = e.shards[i][:e.layout.stored(first, n)]
		if i >= int(e.layout.Data) {
			continue
		}
		p := e.column[:e.layout.payload(first, n)]
		if err := readColumn(e.src, e.layout, i, first*BlockRoom, p); err != nil {
			return err
		}
		for _, block := range blocksOf(e.shards[i], 0) {
			p = p[copy(block[sumSize:], p):]
		}
	}
	if err := e.code.Encode(e.shards); err != nil {
		return fmt.Errorf("stripes from %d on: %w", first, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, t := range e.targets {
		skip := max(t.From-first, 0)
		if t.Sink == nil || skip >= n {
			continue
		}
		group.Go(func() error {
			e.layout.sum(i, first, e.shards[i])
			if err := t.Sink.Append(ctx, e.shards[i][skip*BlockSize:]); err != nil {
				return fmt.Errorf("fragment %d: %w", i, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// readColumn fills p with the bytes of a column from off on. Behind the volume's end there are zeros.
func readColumn(src io.ReaderAt, l Layout, column int, off int64, p []byte) error {
	at := int64(column)*l.Column() + off
	have := max(min(int64(len(p)), l.Length-at), 0)
	clear(p[have:])
	if have == 0 {
		return nil
	}
	if n, err := src.ReadAt(p[:have], at); int64(n) < have {
		return fmt.Errorf("read %d bytes at %d: %w", have, at, err)
	}
	return nil
}
