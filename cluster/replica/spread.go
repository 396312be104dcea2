package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/pause"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// How far a volume's records have spread: step 7 of "Delivery in one round trip" (docs/architecture.md). A record that its primary had
// fsynced before anybody asked, and that another copy has fsynced, is within every length that the volume can be sealed at:
//
//   - While both copies' processes live they tell how far they are durable, and both are past the record: so is the least of them.
//   - Of copies that were read back from disks only the longest counts, or none beside one that is certain.
//   - A copy that has answered a fence becomes durable no further, so a length that was computed before is not below one seen later.
//
// All that is said of two copies. With a third one that lags the least of the living might be before the record: volumes with more have nothing entered early.
//
// As everywhere (I3), a disk that loses what it fsynced is made up for by the other copy.

// Bounds of asking how far a volume has spread.
const (
	spreadServe   = 500 * time.Millisecond // how long an answer may be put off until the record has spread
	spreadCall    = time.Second
	spreadPoll    = 20 * time.Millisecond  // between looks for the seal of a volume that was fenced
	spreadPause   = 50 * time.Millisecond  // after nobody could answer
	spreadStep    = 100 * time.Millisecond // of that, between looks at the primary's node
	spreadDoubt   = 200 * time.Millisecond // of the other copy's node, before one seals what somebody waits for
	spreadsKept   = 256
	spreadNothing = math.MaxUint64 // as a record: only the last one of a sealed volume is asked for
)

// spreads is what this node knows of volumes that somebody here waits for. It is kept for a while.
type spreads struct {
	mu   sync.Mutex // guards what follows, and the values
	byID map[volume.ID]*spread
}

type spread struct {
	through uint64 // the records up to here are durable on a second disk
	sealed  bool   // for good: there are no more
	want    uint64 // the highest that somebody waits for
	waiting int
	asking  bool          // a goroutine asks
	failed  error         // why it got no answer last
	moved   chan struct{} // closed and replaced after each answer
}

// Spread waits until a record is durable on another copy than the primary's, and says up to which record that is so. sealed: so it stays,
// and what lies behind is lost.
func (m *Manager) Spread(ctx context.Context, id volume.ID, record uint64) (through uint64, sealed bool, err error) {
	m.spreads.mu.Lock()
	defer m.spreads.mu.Unlock()
	s := m.spreads.of(id)
	s.waiting++
	defer func() { s.waiting-- }()
	for s.through < record && !s.sealed {
		s.want = max(s.want, record)
		if !s.asking {
			s.asking = true
			m.background(func() { m.askSpread(id, s) })
		}
		moved := s.moved
		m.spreads.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			err = ctx.Err()
		case <-m.ctx.Done():
			err = m.ctx.Err()
		}
		m.spreads.mu.Lock()
		if err != nil {
			return s.through, s.sealed, wire.Errorf(wire.Unavailable, "wait for a second copy of record %d of volume %s, known up to %d: %v",
				record, id, s.through, errors.Join(err, s.failed))
		}
	}
	return s.through, s.sealed, nil
}

// of is called under mu.
func (s *spreads) of(id volume.ID) *spread {
	if one := s.byID[id]; one != nil {
		return one
	}
	if len(s.byID) >= spreadsKept {
		for other, one := range s.byID {
			if one.waiting == 0 && !one.asking {
				delete(s.byID, other)
			}
		}
	}
	one := &spread{moved: make(chan struct{})}
	s.byID[id] = one
	return one
}

// askSpread asks as long as anybody waits: one question at a time, for all.
func (m *Manager) askSpread(id volume.ID, s *spread) {
	for {
		m.spreads.mu.Lock()
		want := s.want
		if s.waiting == 0 || s.sealed || s.through >= want || m.ctx.Err() != nil {
			s.asking, s.want = false, 0
			m.spreads.mu.Unlock()
			return
		}
		m.spreads.mu.Unlock()
		reply, err := m.spreadOf(m.ctx, id, want)
		m.spreads.mu.Lock()
		if s.failed = err; err == nil {
			s.through, s.sealed = max(s.through, reply.Through), reply.Sealed
		}
		close(s.moved)
		s.moved = make(chan struct{})
		m.spreads.mu.Unlock()
		if err != nil {
			pause.For(m.ctx, spreadPause)
		}
	}
}

// spreadOf answers from this node's copy, or asks the nodes that have one: the primary last, for it learns later.
func (m *Manager) spreadOf(ctx context.Context, id volume.ID, record uint64) (spreadReply, error) {
	e, known := m.entry(id)
	if !known && m.stale() {
		m.refresh(ctx)
		e, known = m.entry(id)
	}
	if !known {
		return spreadReply{}, wire.Errorf(wire.NotFound, "volume %s is not in the directory", id)
	}
	if last, told := e.ToldLast(); told {
		return spreadReply{Through: last, Sealed: true}, nil
	}
	nodes := e.Sources()
	if e.Cold == nil && len(nodes) > 1 {
		nodes = append(nodes[1:], nodes[0])
	}
	var reasons error
	if slices.Contains(nodes, m.cfg.ID) {
		here, stop := context.WithTimeout(ctx, spreadServe)
		reply, err := m.spreadHere(here, id, record)
		stop()
		if err == nil {
			return reply, nil
		}
		reasons = err
	}
	for _, node := range nodes { // one that comes in doubt meanwhile holds up nobody: the other copy knows soon
		if node == m.cfg.ID || !m.cfg.Net.Up(node) {
			continue
		}
		reply, err := m.spreadThere(ctx, node, id, record)
		if err == nil {
			return reply, nil
		}
		reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
	}
	if reasons == nil {
		reasons = errors.New("no node with a copy is up")
	}
	return spreadReply{}, wire.Errorf(wire.Unavailable, "how far has volume %s spread: %v", id, reasons)
}

func (m *Manager) spreadThere(ctx context.Context, node string, id volume.ID, record uint64) (spreadReply, error) {
	ctx, stop := context.WithTimeout(ctx, spreadCall)
	defer stop()
	var reply spreadReply
	err := m.cfg.Net.CallSound(ctx, node, methodSpread, &spreadRequest{Volume: id, Record: record}, &reply)
	return reply, err
}

func (m *Manager) serveSpread(ctx context.Context, from string, req *spreadRequest) (*spreadReply, error) {
	ctx, stop := context.WithTimeout(ctx, spreadServe)
	defer stop()
	reply, err := m.spreadHere(ctx, req.Volume, req.Record)
	if err != nil {
		return nil, storageError(fmt.Errorf("how far volume %s has spread, for %s: %w", req.Volume, from, err))
	}
	return &reply, nil
}

// spreadHere answers from this node's copy: when the record has spread, when the volume is sealed, or as it stands when ctx ends.
//
// Somebody waits for a record that may be lost with its primary's node. If that is in doubt for a while, this copy seals the volume: the
// primary has other volumes when it is well, and nobody is to wait for the seal of one whose node is gone for long. So does the primary if
// it is the other copy's node that is in doubt.
func (m *Manager) spreadHere(ctx context.Context, id volume.ID, record uint64) (reply spreadReply, err error) {
	sound := time.Now()
	for {
		e, known := m.entry(id)
		if known && e.State == Sealed {
			last, err := m.lastHere(ctx, e)
			return spreadReply{Through: last, Sealed: err == nil}, err
		}
		step, stop := context.WithTimeout(ctx, spreadStep)
		reply.Through, err = m.spreadOpen(step, id, record)
		stop()
		if err != nil || reply.Through >= record {
			return reply, err
		}
		switch now := time.Now(); {
		case !known || !e.Holds(m.cfg.ID) || !m.otherInDoubt(e):
			sound = now
		case now.Sub(sound) < spreadDoubt:
		case e.Primary != m.cfg.ID:
			m.startSeal(e, false)
		default:
			if p := m.primaryOf(id); p != nil {
				p.fence(errors.New("a copy's node is in doubt, and somebody waits for what it owes"))
			}
		}
		if !pause.For(ctx, spreadPoll) {
			return reply, nil
		}
		if m.stale() {
			m.refresh(ctx)
		}
	}
}

// otherInDoubt says that the primary's node is in doubt, or, seen from there, another copy's.
func (m *Manager) otherInDoubt(e Entry) bool {
	if e.Primary != m.cfg.ID {
		return m.cfg.Net.InDoubt(e.Primary)
	}
	return slices.ContainsFunc(e.Copies, func(node string) bool { return node != m.cfg.ID && m.cfg.Net.InDoubt(node) })
}

// spreadOpen is how far the open volume's records are known here to be on a second disk. It waits for the record while the volume takes
// appends; of one that was fenced only the seal tells more.
func (m *Manager) spreadOpen(ctx context.Context, id volume.ID, record uint64) (uint64, error) {
	m.mu.Lock()
	p, f := m.own[id], m.followers[id]
	m.mu.Unlock()
	switch {
	case p != nil:
		return p.spread(ctx, record)
	case f != nil:
		return f.spread(ctx, record)
	case m.cfg.Volumes == nil:
		return 0, wire.Errorf(wire.NotFound, "%s stores no volumes", m.cfg.ID)
	}
	vol, err := m.cfg.Volumes.Get(id)
	if err != nil {
		return 0, err
	}
	if vol.Header().Primary == m.cfg.ID {
		return 0, nil // of an earlier process: the other copy may lack everything
	}
	return vol.LastBefore(vol.Durable())
}

// spread is what the other copies have acknowledged.
func (p *primary) spread(ctx context.Context, record uint64) (uint64, error) {
	p.mu.Lock()
	vol, live := p.vol, p.phase == open || p.phase == draining
	p.mu.Unlock()
	if !live {
		return 0, nil
	}
	if end, err := vol.EndOf(record); err == nil {
		if err := p.await(ctx, end); err != nil && ctx.Err() == nil {
			return 0, nil // fenced
		}
	}
	p.mu.Lock()
	copied := p.copied()
	p.mu.Unlock()
	return vol.LastBefore(copied)
}

// spread is what this copy has fsynced.
func (f *follower) spread(ctx context.Context, record uint64) (uint64, error) {
	for {
		f.mu.Lock()
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		moved := f.moved
		f.mu.Unlock()
		through, err := f.vol.LastBefore(f.vol.Durable())
		if err != nil || through >= record {
			return through, err
		}
		select {
		case <-moved:
		case <-f.cut:
			return through, nil
		case <-ctx.Done():
			return through, nil
		}
	}
}

// tell wakes those that wait for the copy to be durable further. Called under mu.
func (f *follower) tell() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// ToldLast is the number of a sealed volume's last record, if the directory was told.
func (e Entry) ToldLast() (uint64, bool) {
	return e.Last, e.State == Sealed && (e.Last > 0 || e.Length == 0)
}

// LastRecord is the number of the last record of a sealed volume, 0 if it has none.
func (m *Manager) LastRecord(ctx context.Context, e Entry) (uint64, error) {
	if last, told := e.ToldLast(); told {
		return last, nil
	}
	last, reasons := m.lastHere(ctx, e)
	if reasons == nil {
		return last, nil
	}
	for _, node := range m.sources(ctx, e.ID) {
		if !m.cfg.Net.Up(node) {
			continue
		}
		reply, err := m.spreadThere(ctx, node, e.ID, spreadNothing)
		if err == nil && !reply.Sealed {
			err = errors.New("has not heard of the seal yet")
		}
		if err == nil {
			return reply.Through, nil
		}
		reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
	}
	return 0, fmt.Errorf("last record of volume %s: %w", e.ID, reasons)
}

// lastHere is LastRecord from this node's copy, which must be as long as it should be, of a volume that was sealed by a node that did not
// tell.
func (m *Manager) lastHere(ctx context.Context, e Entry) (uint64, error) {
	if last, told := e.ToldLast(); told {
		return last, nil
	}
	switch {
	case e.Generation > 0:
		return 0, wire.Errorf(wire.Invalid, "volume %s has generation %d: it was settled before", e.ID, e.Generation)
	case e.Cold != nil && m.cfg.Cold != nil:
		census, err := m.cfg.Cold.Census(ctx, e, roaring.New())
		if err != nil || census.Here.IsEmpty() {
			return 0, err
		}
		return uint64(census.Here.Maximum()), nil
	}
	m.mu.Lock()
	_, whole := m.whole[e.ID]
	m.mu.Unlock()
	if !whole || m.cfg.Volumes == nil {
		return 0, wire.Errorf(wire.Unavailable, "no whole copy of volume %s is here", e.ID)
	}
	vol, err := m.cfg.Volumes.Get(e.ID)
	if err != nil {
		return 0, err
	}
	return vol.LastBefore(e.Length)
}

// Entry is what this node last knew of a volume in the directory.
func (m *Manager) Entry(id volume.ID) (Entry, bool) { return m.entry(id) }
