package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// maxViews bounds the cold volumes whose record index is at hand.
const maxViews = 64

// Open implements replica.ColdReader.
func (m *Manager) Open(ctx context.Context, e replica.Entry, ref volume.Ref, off, n uint64) (io.ReadCloser, error) {
	r, src, v, err := m.view(ctx, e)
	if err != nil {
		return nil, err
	}
	m.stats.reads.Add(1)
	out, err := v.OpenRef(src, ref, off, n)
	if err != nil {
		return nil, m.noteDamage(e.ID, err)
	}
	return &counted{ReadCloser: out, r: r, stats: &m.stats}, nil
}

// Meta gives the metadata of a record.
func (m *Manager) Meta(ctx context.Context, e replica.Entry, record uint64) ([]byte, error) {
	_, src, v, err := m.view(ctx, e)
	if err != nil {
		return nil, err
	}
	info, err := v.Get(src, record)
	return info.Meta, err
}

// view is a cold volume with what its bytes are read through.
func (m *Manager) view(ctx context.Context, e replica.Entry) (*cold.Reader, io.ReaderAt, *volume.View, error) {
	r, err := m.reader(e, readSilence)
	if err != nil {
		return nil, nil, nil, err
	}
	src := cold.NewWindow(ctx, r)
	v, err := m.views.get(e, m.cfg.Fragments, src)
	return r, src, v, m.noteDamage(e.ID, err)
}

// counted notes at its end whether the read was a degraded one.
type counted struct {
	io.ReadCloser
	r     *cold.Reader
	stats *counters
}

func (c *counted) Close() error {
	if c.r != nil && c.r.Restored() > 0 {
		c.stats.degraded.Add(1)
	}
	c.r = nil
	return c.ReadCloser.Close()
}

// reader reads the file through its fragments, those of this node first, then the nearest.
func (m *Manager) reader(e replica.Entry, silence time.Duration) (*cold.Reader, error) {
	sources := make([]cold.Source, len(e.Cold.Nodes))
	var here, there []int
	for i, node := range e.Cold.Nodes {
		id := fragmentID{Volume: e.ID, Generation: e.Generation, Index: uint8(i)}
		switch {
		case node == m.cfg.ID:
			sources[i] = local{m, id}
			here = append(here, i)
		case m.up(node):
			sources[i] = remote{m, node, id, silence}
			there = append(there, i)
		}
	}
	m.sortByDistance(there, e.Cold.Nodes)
	return cold.NewReader(layout(e), sources, append(here, there...))
}

// local is a fragment of this node.
type local struct {
	m  *Manager
	id fragmentID
}

func (l local) ReadBlocks(ctx context.Context, first, n int64) ([]byte, error) {
	return l.m.blocksHere(ctx, l.id.name(), first, n)
}

// remote is a fragment of another node, which is left when it is silent for a while.
type remote struct {
	m       *Manager
	node    string
	id      fragmentID
	silence time.Duration
}

func (r remote) ReadBlocks(ctx context.Context, first, n int64) ([]byte, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silent := time.AfterFunc(r.silence, func() { stop(wire.Errorf(wire.Deadline, "silent for %v", r.silence)) })
	defer silent.Stop()
	stored, err := r.read(ctx, first, n, func() { silent.Reset(r.silence) })
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // says more than that it was canceled
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.node, err)
	}
	r.m.stats.remoteBlocks.Add(uint64(n))
	return stored, nil
}

func (r remote) read(ctx context.Context, first, n int64, heard func()) ([]byte, error) {
	s, err := r.m.cfg.Net.Open(ctx, r.node, methodRead)
	if err != nil {
		return nil, err
	}
	defer hangUp(s)
	if err := s.SendValue(readRequest{Fragment: r.id, First: first, N: n}); err != nil {
		return nil, err
	}
	return receive(s, int(n)*cold.BlockSize, heard)
}

// receive takes pieces up to the stream's end.
func receive(s *transport.Stream, most int, heard func()) ([]byte, error) {
	buf := make([]byte, 0, most)
	for {
		p, err := s.Recv()
		heard()
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		if len(buf)+len(p) > most {
			return nil, fmt.Errorf("more than the %d bytes asked for", most)
		}
		buf = append(buf, p...)
	}
}

// views are the cold volumes whose header and record index are open.
type views struct {
	mu   sync.Mutex // guards open
	open map[viewKey]*volume.View
}

type viewKey struct {
	id         volume.ID
	generation uint32
}

// get gives the view of a volume; src reads its header the first time.
func (v *views) get(e replica.Entry, s *cold.Store, src io.ReaderAt) (*volume.View, error) {
	key := viewKey{e.ID, e.Generation}
	v.mu.Lock()
	view := v.open[key]
	v.mu.Unlock()
	if view != nil {
		return view, nil
	}
	view, err := s.View(e.ID, e.Generation, src)
	if errors.Is(err, cold.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", volume.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for old := range v.open { // any one: they are cheap to open again
		if len(v.open) < maxViews {
			break
		}
		delete(v.open, old)
	}
	v.open[key] = view
	return view, nil
}

// forget has the views of a volume opened anew.
func (v *views) forget(id volume.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.open {
		if key.id == id {
			delete(v.open, key)
		}
	}
}
