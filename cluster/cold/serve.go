package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// hangUp closes a stream whose outcome is known by now.
func hangUp(s *transport.Stream) { _ = s.Close() }

// take gets one of a limited number of places.
func take(places chan struct{}) (release func(), ok bool) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, true
	default:
		return nil, false
	}
}

// serveMake writes a fragment that a peer encodes (steps 3 and 4).
func (m *Manager) serveMake(ctx context.Context, from string, s *transport.Stream) error {
	release, ok := take(m.makes)
	if !ok {
		return wire.Errorf(wire.Unavailable, "%s makes %d fragments already", m.cfg.ID, maxMakes)
	}
	defer release()
	if err := m.misplaced(); err != nil {
		return err
	}
	var req makeRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("make a fragment for %s: %w", from, err)
	}
	m.wanted(req.name())
	lost, err := m.cfg.Fragments.Lost(req.Layout, int(req.Index))
	if err != nil {
		return failed(err)
	}
	if !lost { // of an attempt that broke after this one was complete
		return s.SendValue(makeReply{Next: req.Layout.Blocks(), Done: true})
	}
	if err := m.superseded(ctx, req); err != nil {
		return err
	}
	d, err := m.cfg.Fragments.Make(ctx, req.Layout, int(req.Index))
	if err != nil {
		return failed(err)
	}
	err = m.takeBlocks(ctx, from, s, d, req)
	if closed := d.Close(); closed != nil { // before the answer: who has it may remove the fragment
		err = errors.Join(err, failed(closed))
	}
	if err != nil {
		return err
	}
	m.wanted(req.name()) // the draft may have been here for long
	return s.SendValue(makeReply{Next: d.Next(), Done: true})
}

// superseded refuses to put a fragment in the place of one that is here if the directory names that: an attempt by another layout, of a node that has not
// heard that the volume is cold, must not take from it what it is read through (I2).
func (m *Manager) superseded(ctx context.Context, req makeRequest) error {
	n, l := req.name(), req.Layout
	if !m.cfg.Fragments.Has(n) {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, directoryTTL)
	defer stop()
	e, _, err := m.cfg.Directory.Volume(ctx, n.Volume)
	if err != nil {
		return wire.Errorf(wire.Unavailable, "replace fragment %d of volume %s on %s: ask the directory whether it is named: %v", n.Index, n.Volume, m.cfg.ID, err)
	}
	if m.names(e, n) && layout(e) != l {
		return wire.Errorf(wire.Invalid, "fragment %d of volume %s on %s is of the %d+%d that the directory names: none of %d+%d takes its place",
			n.Index, n.Volume, m.cfg.ID, e.Cold.Data, e.Cold.Parity, l.Data, l.Parity)
	}
	return nil
}

// takeBlocks makes a fragment complete with what a stream brings.
func (m *Manager) takeBlocks(ctx context.Context, from string, s *transport.Stream, d *cold.Draft, req makeRequest) error {
	if err := s.SendValue(makeReply{Next: d.Next()}); err != nil {
		return err
	}
	silent := time.AfterFunc(streamIdle, func() { hangUp(s) })
	defer silent.Stop()
	for {
		stored, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("make a fragment for %s: %w", from, err)
		}
		silent.Reset(streamIdle)
		if err := d.Append(ctx, stored); err != nil {
			return failed(err)
		}
	}
	silent.Stop()
	if err := m.superseded(ctx, req); err != nil { // again: it may have turned cold meanwhile
		return err
	}
	if err := d.Finish(ctx); err != nil {
		return failed(err)
	}
	return nil
}

// serveAttach keeps what belongs to a volume's fragments.
func (m *Manager) serveAttach(_ context.Context, from string, a *attachment) (*attachReply, error) {
	if err := m.misplaced(); err != nil {
		return nil, err
	}
	if err := m.attach(a); err != nil {
		return nil, failed(fmt.Errorf("attachment from %s: %w", from, err))
	}
	return &attachReply{}, nil
}

// misplaced refuses what is new if the table of nodes has this node in another region than its configuration: who chose it went by the table, and the policy
// may not allow where it really is.
func (m *Manager) misplaced() error {
	for _, p := range m.cfg.Peers() {
		if p.ID == m.cfg.ID && p.Region != m.cfg.Region {
			return wire.Errorf(wire.Denied, "%s takes no fragments: it is known to be in region %s, and is in %s by its configuration", m.cfg.ID, p.Region, m.cfg.Region)
		}
	}
	return nil
}

// serveFetch gives it to another node that has fragments of the volume.
func (m *Manager) serveFetch(_ context.Context, from string, req *fetchRequest) (*attachment, error) {
	a, err := m.beside(req.Volume, req.Generation)
	if err != nil {
		return nil, failed(fmt.Errorf("attachment for %s: %w", from, err))
	}
	return a, nil
}

// serveHave says whether a fragment is whole here, with all that belongs to it, after destroying keys (step 6, I3). Who does not say by which layout keeps
// its copy: a fragment of another one is worth nothing to the volume.
func (m *Manager) serveHave(_ context.Context, from string, req *haveRequest) (*haveReply, error) {
	n := req.Fragment.name()
	if l := req.Layout; l == nil || l.Volume != n.Volume || l.Generation != n.Generation {
		return &haveReply{}, nil
	}
	lost, err := m.cfg.Fragments.Lost(*req.Layout, n.Index)
	if err != nil {
		return nil, failed(fmt.Errorf("%v for %s: %w", req.Fragment, from, err))
	}
	if err := m.cfg.Fragments.CheckIndex(n.Volume, n.Generation); lost || err != nil {
		_ = m.noteDamage(n.Volume, err)
		return &haveReply{}, nil
	}
	if req.Encrypted {
		if lost, err = m.cfg.Fragments.KeysLost(n.Volume); err != nil {
			return nil, failed(fmt.Errorf("%v for %s: %w", req.Fragment, from, err))
		}
		if lost {
			m.suspectBeside(n.Volume)
			return &haveReply{}, nil
		}
	}
	if len(req.Destroyed) > 0 {
		if err := m.Destroy(n.Volume, req.Destroyed); err != nil {
			return nil, failed(err)
		}
	}
	return &haveReply{Whole: true}, nil
}

// Destroy destroys the keys of records of a cold volume on this node.
func (m *Manager) Destroy(id volume.ID, records []uint64) error {
	m.views.forget(id)
	return m.noteDamage(id, m.cfg.Fragments.UseKeys(id, func(f *keys.File) error { return f.Destroy(records) }))
}

// serveRead gives a peer blocks of a fragment.
func (m *Manager) serveRead(ctx context.Context, from string, s *transport.Stream) error {
	release, ok := take(m.reads)
	if !ok {
		return wire.Errorf(wire.Unavailable, "%s serves %d reads of fragments already", m.cfg.ID, maxReads)
	}
	defer release()
	var req readRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("blocks for %s: %w", from, err)
	}
	stored, err := m.blocksHere(ctx, req.Fragment.name(), req.First, req.N)
	if err != nil {
		return failed(fmt.Errorf("blocks for %s: %w", from, err))
	}
	m.stats.served.Add(1)
	for len(stored) > 0 {
		n := min(len(stored), piece*cold.BlockSize)
		if err := s.Send(stored[:n]); err != nil {
			return fmt.Errorf("blocks for %s: %w", from, err)
		}
		stored = stored[n:]
	}
	return nil
}

// blocksHere reads blocks of a fragment of this node. What is damaged is looked after soon.
func (m *Manager) blocksHere(ctx context.Context, n cold.Name, first, blocks int64) ([]byte, error) {
	stored, err := m.cfg.Fragments.ReadBlocks(ctx, n, first, blocks)
	var damage *cold.DamageError
	if errors.As(err, &damage) {
		m.stats.damagedReads.Add(1)
		m.log.Error("fragment not readable here", "volume", n.Volume, "fragment", n.Index, "err", err)
		m.mu.Lock()
		delete(m.verified, n)
		m.mu.Unlock()
		m.kick()
	}
	return stored, err
}
