package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Bounds on reading. A segment is what one request to a peer gives: it is held in memory, so that a slow
// client ties up a megabyte here and nothing at the peer.
//
// A copy whose node hangs must not use up the time that another one needs: it is left when it is silent for a while.
// That while grows with each round, so that copies which are only slow are heard in the end.
const (
	segment      = 1 << 20
	readPatience = 5 * time.Second        // for copies that do not answer, if the caller's deadline is later
	readSilence  = 500 * time.Millisecond // of one copy in the first round, doubled in each later one
	readPause    = 100 * time.Millisecond // between rounds through the copies
)

// Read gives n raw bytes of a message from off on, fewer where it ends first: from this node's copy if that
// is whole, else from the nearest other. When a copy fails on the way the next one goes on at the same byte.
//
// Each chunk's CRC32C is verified where it leaves the disk, TLS guards it between nodes, and the record's length and hash
// are held against the reference. The SHA-256 of the content is not computed again: the writer did, and at half a
// gigabyte a second it would cost more than all the rest of a read.
//
// wire.ErrNotFound: every copy answered and none has the record. wire.ErrUnavailable: no copy could be asked.
func (m *Manager) Read(ctx context.Context, ref volume.Ref, off, n uint64) (io.ReadCloser, error) {
	off = min(off, ref.Length)
	r := &reader{m: m, ctx: ctx, ref: ref, off: off, end: off + min(n, ref.Length-off)}
	if r.off == r.end {
		return r, nil
	}
	local, err := m.readHere(ctx, ref, r.off, r.end-r.off)
	if err == nil {
		r.local = local
		return r, nil
	}
	m.noteReadError(ref, err)
	if err := r.fetch(); err != nil {
		return nil, err
	}
	return r, nil
}

// reader is a message on its way out. One goroutine uses it.
type reader struct {
	m        *Manager
	ctx      context.Context
	ref      volume.Ref
	off, end uint64
	local    io.ReadCloser // nil: peers serve
	buf      []byte        // of the current segment, not read yet
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.off == r.end {
		return 0, io.EOF
	}
	if r.local != nil {
		n, err := r.local.Read(p[:min(uint64(len(p)), r.end-r.off)])
		r.off += uint64(n)
		if err != nil && r.off < r.end {
			r.leaveLocal(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	if r.local == nil && len(r.buf) == 0 {
		if err := r.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	r.off += uint64(n)
	return n, nil
}

// leaveLocal goes on with the peers after this node's copy failed on the way.
func (r *reader) leaveLocal(err error) {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("record ends early: %w", io.ErrUnexpectedEOF)
	}
	r.m.noteReadError(r.ref, err)
	r.m.stats.readFailovers.Add(1)
	_ = r.local.Close() // it has failed already
	r.local = nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.off, r.buf = r.end, nil
	if r.local == nil {
		return nil
	}
	local := r.local
	r.local = nil
	return local.Close()
}

// fetch gets the next segment from the nearest copy that has it.
func (r *reader) fetch() error {
	ctx, stop := context.WithTimeout(r.ctx, readPatience)
	defer stop()
	for silence := readSilence; ; silence *= 2 {
		missing := true
		var reasons error
		for _, node := range r.m.sources(ctx, r.ref.Volume) {
			buf, err := r.m.readThere(ctx, node, readRequest{Ref: r.ref, Off: r.off, N: min(segment, r.end-r.off)}, silence)
			if err == nil {
				r.buf = buf
				r.m.stats.remoteReads.Add(1)
				return nil
			}
			missing = missing && errors.Is(err, wire.ErrNotFound)
			if !errors.Is(err, wire.ErrNotFound) {
				r.m.avoid(node)
			}
			reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
		}
		if missing && reasons != nil && !r.m.moved(ctx, r.ref.Volume) {
			return wire.Errorf(wire.NotFound, "read record %d of volume %s: %v", r.ref.Record, r.ref.Volume, reasons)
		}
		if !pause.For(ctx, readPause) {
			if err := r.ctx.Err(); err != nil && reasons == nil {
				reasons = err
			}
			return wire.Errorf(wire.Unavailable, "read record %d of volume %s: %v", r.ref.Record, r.ref.Volume, reasons)
		}
	}
}

// sources lists the other nodes to ask for a volume, nearest first. While the directory's copy here does not
// know the volume it is read again, and all storage nodes are asked.
func (m *Manager) sources(ctx context.Context, id volume.ID) []string {
	e, known := m.entry(id)
	if !known && m.stale() {
		m.refresh(ctx)
		e, known = m.entry(id)
	}
	nodes := e.Sources()
	if !known {
		nodes = m.peerIDs()
	}
	nodes = slices.DeleteFunc(nodes, func(node string) bool { return node == m.cfg.ID })
	m.sortNodes(nodes, "")
	return nodes
}

// stale says that the directory was not read just now.
func (m *Manager) stale() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.seen) > readPause
}

// peerIDs lists the storage nodes.
func (m *Manager) peerIDs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]string, 0, len(m.peers))
	for _, peer := range m.peers {
		ids = append(ids, peer.ID)
	}
	return ids
}

// sortNodes puts nodes in the order in which they are to be asked: those that answered lately, those in region, the nearest.
func (m *Manager) sortNodes(nodes []string, region string) {
	now := time.Now()
	m.mu.Lock()
	avoided, far := make(map[string]bool, len(nodes)), make(map[string]bool, len(nodes))
	for _, node := range nodes {
		avoided[node] = now.Before(m.avoided[node]) || m.cfg.Net.InDoubt(node)
		far[node] = m.byID[node].Region != region
	}
	m.mu.Unlock()
	slices.SortStableFunc(nodes, func(a, b string) int {
		return cmp.Or(last(avoided[a], avoided[b]),
			last(far[a], far[b]),
			cmp.Compare(m.distance(a), m.distance(b)),
			cmp.Compare(m.affinity(a), m.affinity(b)))
	})
}

// moved says that a volume's records are elsewhere now than this node thought.
func (m *Manager) moved(ctx context.Context, id volume.ID) bool {
	before, _ := m.entry(id)
	if m.stale() {
		m.refresh(ctx)
	}
	now, known := m.entry(id)
	return known && !slices.Equal(before.Sources(), now.Sources())
}

// readHere opens a record of this node's copy, if that is the record which the reference means, or of a cold volume of which
// there is a fragment here.
func (m *Manager) readHere(ctx context.Context, ref volume.Ref, off, n uint64) (io.ReadCloser, error) {
	if m.cfg.Volumes == nil {
		return nil, volume.ErrNotFound
	}
	for {
		vol, err := m.cfg.Volumes.Get(ref.Volume)
		if e, _ := m.entry(ref.Volume); errors.Is(err, volume.ErrNotFound) && e.Cold != nil && m.cfg.Cold != nil {
			return m.cfg.Cold.Open(ctx, e, ref, off, n)
		}
		if err != nil {
			return nil, err
		}
		r, err := vol.OpenRef(ref, off, n)
		if !errors.Is(err, volume.ErrClosed) || m.ctx.Err() != nil {
			return r, err
		}
		// The copy has switched to another generation since: the set has that one now.
	}
}

// noteReadError reports damage of this node's copy. That a record is elsewhere is no damage.
func (m *Manager) noteReadError(ref volume.Ref, err error) {
	if errors.Is(err, volume.ErrNotFound) {
		return
	}
	m.stats.corruptReads.Add(1)
	m.log.Error("copy of record not readable here", "volume", ref.Volume, "record", ref.Record, "err", err)
	if isDamage(err) {
		m.noteDamage(ref.Volume, ref.Record)
	}
}

// readThere reads one segment from a peer, all of it or an error. A peer that owes the next piece for as long as silence is left.
func (m *Manager) readThere(ctx context.Context, node string, req readRequest, silence time.Duration) ([]byte, error) {
	ctx, leave := m.cfg.Net.Sound(ctx, node)
	defer leave()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silent := time.AfterFunc(silence, func() { stop(wire.Errorf(wire.Deadline, "silent for %v", silence)) })
	defer silent.Stop()
	buf, err := m.readPieces(ctx, node, req, func() { silent.Reset(silence) })
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // says more than that it was canceled
	}
	return buf, err
}

func (m *Manager) readPieces(ctx context.Context, node string, req readRequest, heard func()) ([]byte, error) {
	s, err := m.cfg.Net.Open(ctx, node, methodRead)
	if err != nil {
		return nil, err
	}
	defer hangUp(s)
	if err := s.SendValue(req); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	buf := make([]byte, 0, req.N)
	for {
		piece, err := s.Recv()
		heard()
		if errors.Is(err, io.EOF) && uint64(len(buf)) == req.N {
			return buf, nil
		}
		if err != nil {
			return nil, fmt.Errorf("after %d of %d bytes: %w", len(buf), req.N, err)
		}
		if uint64(len(buf)+len(piece)) > req.N {
			return nil, fmt.Errorf("more than the %d bytes asked for", req.N)
		}
		buf = append(buf, piece...)
	}
}

// hangUp closes a stream whose outcome is known by now.
func hangUp(s *transport.Stream) { _ = s.Close() }

// serveRead gives a peer one segment of a record.
func (m *Manager) serveRead(ctx context.Context, from string, s *transport.Stream) error {
	var req readRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("read for %s: %w", from, err)
	}
	if req.N > segment || req.Off > req.Ref.Length || req.N > req.Ref.Length-req.Off {
		return wire.Errorf(wire.Invalid, "read of %d bytes at %d of %d", req.N, req.Off, req.Ref.Length)
	}
	r, err := m.readHere(ctx, req.Ref, req.Off, req.N)
	if err != nil {
		m.noteReadError(req.Ref, err)
		return storageError(fmt.Errorf("read for %s: %w", from, err))
	}
	buf := make([]byte, min(chunkRoom, req.N))
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := s.Send(buf[:n]); err != nil {
				return errors.Join(fmt.Errorf("read for %s: %w", from, err), r.Close())
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return r.Close()
		}
		if err != nil {
			m.noteReadError(req.Ref, err)
			return errors.Join(storageError(fmt.Errorf("read for %s: %w", from, err)), r.Close())
		}
	}
}
