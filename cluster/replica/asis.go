package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A copy is filled from bytes that verify. When no other copy has a record any more, that would leave everything behind it
// with one copy for ever: the trap of a disk that is rebuilt from one with a bad sector. So after a few attempts in which every
// other copy was asked the copy takes what is there, damage included, which scrubbing then mends, or reports for both.
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

// takeAsIs is what is left when mendCopy has failed with cause, which it returns as long as it does nothing: while a node that may
// have what is lacking was not heard, other than one that was given up, there is hope.
func (m *Manager) takeAsIs(ctx context.Context, state *mending, e Entry, cause error) error {
	var l *lacking
	if !errors.As(cause, &l) {
		return cause
	}
	for _, node := range e.Copies {
		givenUp := m.peer(node).Leaving && !m.Up(node)
		if node != m.cfg.ID && !slices.Contains(l.nodes, node) && !givenUp {
			return cause
		}
	}
	nodes, _ := m.Others(ctx, e)
	vol, err := m.cfg.Volumes.Get(e.ID)
	if err != nil || len(nodes) == 0 || vol.Durable() >= e.Length || vol.Header().Generation != e.Generation {
		return cause
	}
	i := state.incomplete[e.ID]
	i.failures++
	due := i.failures >= asIsAfter && time.Since(i.filled) >= asIsAgain
	if due {
		i.failures = 0
	}
	state.incomplete[e.ID] = i
	if !due {
		return cause
	}
	from := vol.Durable()
	if err := m.cfg.Volumes.Fill(e.ID, e.Length, &damagedCopy{m: m, ctx: ctx, entry: e, nodes: nodes}); err != nil {
		return errors.Join(cause, err)
	}
	i.filled = time.Now()
	state.incomplete[e.ID] = i
	if vol, err = m.cfg.Volumes.Get(e.ID); err != nil {
		return errors.Join(cause, err)
	}
	if durable := vol.Durable(); durable != e.Length {
		return errors.Join(cause, fmt.Errorf("filled as it is, and whole up to %d of %d", durable, e.Length))
	}
	m.log.Error("copy filled with what other copies have, damage included", "volume", e.ID, "from", from, "to", e.Length, "nodes", nodes, "err", cause)
	m.noteDamage(e.ID, 0)
	return nil
}

// damagedCopy is what other nodes have of a file: sectors that none of their disks gives are zeros.
type damagedCopy struct {
	m     *Manager
	ctx   context.Context
	entry Entry
	nodes []string
}

// ReadAt implements io.ReaderAt. It fails if a node that may have what no other gives broke off.
func (d *damagedCopy) ReadAt(p []byte, off int64) (int, error) {
	if given, _ := d.read(p, off); given {
		return len(p), nil
	}
	for n := 0; n < len(p); n += sectorSize {
		piece := p[n:min(n+sectorSize, len(p))]
		given, err := d.read(piece, off+int64(n))
		if err != nil {
			return 0, err
		}
		if !given {
			clear(piece)
		}
	}
	return len(p), nil
}

// read says whether a node gave the bytes. Without an error all have answered.
func (d *damagedCopy) read(p []byte, off int64) (given bool, err error) {
	for _, node := range d.nodes {
		readErr := d.readFrom(node, p, off)
		if readErr == nil {
			return true, nil
		}
		if !lacks(readErr) {
			err = errors.Join(err, fmt.Errorf("read volume %s at %d on %s: %w", d.entry.ID, off, node, readErr))
		}
	}
	return false, err
}

func (d *damagedCopy) readFrom(node string, p []byte, off int64) error {
	got := 0
	_, err := d.m.fetchFrom(d.ctx, node, rawRequest{Volume: d.entry.ID, Off: off, End: off + int64(len(p)), Generation: d.entry.Generation}, func(piece []byte) error {
		if got+len(piece) > len(p) {
			return io.ErrShortBuffer
		}
		got += copy(p[got:], piece)
		return nil
	})
	return err
}
