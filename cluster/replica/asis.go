package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A copy is filled from bytes that verify. When the only other copy has lost a record, that would leave everything behind it
// with one copy for ever: the trap of a disk that is rebuilt from one with a bad sector. So after a few attempts the copy
// takes what is there, damage included, which scrubbing then reports for both.
const (
	asIsAfter  = 3         // failed attempts
	asIsAgain  = time.Hour // between two such copies of a volume, should the first not have been of use
	sectorSize = 4096
)

// incomplete is what the repairer remembers of a copy that cannot be filled from bytes that verify.
type incomplete struct {
	failures int
	filled   time.Time
}

// takeAsIs is what is left when mendCopy has failed with cause, which it returns as long as it does nothing.
func (m *Manager) takeAsIs(ctx context.Context, state *mending, e Entry, cause error) error {
	nodes, _ := m.Others(ctx, e)
	vol, err := m.cfg.Volumes.Get(e.ID)
	if err != nil || len(nodes) == 0 || vol.Durable() >= e.Length || vol.Header().Generation != e.Generation {
		return cause
	}
	i := state.incomplete[e.ID]
	i.failures++
	due := i.failures >= asIsAfter && time.Since(i.filled) >= asIsAgain
	if due {
		i.filled = time.Now()
	}
	state.incomplete[e.ID] = i
	if !due {
		return cause
	}
	from := vol.Durable()
	if err := m.cfg.Volumes.Fill(e.ID, e.Length, &damagedCopy{m: m, ctx: ctx, entry: e, node: nodes[0]}); err != nil {
		return errors.Join(cause, err)
	}
	if vol, err = m.cfg.Volumes.Get(e.ID); err != nil {
		return errors.Join(cause, err)
	}
	if durable := vol.Durable(); durable != e.Length {
		return errors.Join(cause, fmt.Errorf("filled as it is, and whole up to %d of %d", durable, e.Length))
	}
	m.log.Error("copy filled with what another copy has, damage included", "volume", e.ID, "from", from, "to", e.Length, "node", nodes[0], "err", cause)
	m.noteDamage(e.ID, 0)
	return nil
}

// damagedCopy is another node's file of which some sectors may not be readable: they give zeros.
type damagedCopy struct {
	m     *Manager
	ctx   context.Context
	entry Entry
	node  string
}

// ReadAt implements io.ReaderAt. It fails only if no sector of p can be read: then it is not the disk.
func (d *damagedCopy) ReadAt(p []byte, off int64) (int, error) {
	err := d.read(p, off)
	if err == nil {
		return len(p), nil
	}
	given := false
	for n := 0; n < len(p); n += sectorSize {
		piece := p[n:min(n+sectorSize, len(p))]
		if readErr := d.read(piece, off+int64(n)); readErr == nil {
			given = true
			continue
		} else if d.ctx.Err() != nil {
			return 0, readErr
		}
		clear(piece)
	}
	if !given {
		return 0, err
	}
	return len(p), nil
}

func (d *damagedCopy) read(p []byte, off int64) error {
	got := 0
	_, _, err := d.m.fetchFrom(d.ctx, d.node, rawRequest{Volume: d.entry.ID, Off: off, End: off + int64(len(p)), Generation: d.entry.Generation}, func(piece []byte) error {
		if got+len(piece) > len(p) {
			return io.ErrShortBuffer
		}
		got += copy(p[got:], piece)
		return nil
	})
	return err
}
