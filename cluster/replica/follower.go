package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// follower is the copy of another node's open volume while its stream lasts. One goroutine receives; the
// handler's own fsyncs and acknowledges all that arrived meanwhile.
type follower struct {
	id     volume.ID
	vol    *volume.Volume
	stream *transport.Stream
	dirty  chan struct{} // capacity one: something was received
	cut    chan struct{} // closed by the fence
	shares *shares
	self   string // this node

	mu       sync.Mutex // guards what follows
	received int64
	fenced   bool
	moved    chan struct{} // closed after an fsync, if somebody waits
}

// serveOffer says whether this node would take a copy now.
func (m *Manager) serveOffer(_ context.Context, from string, req *offerRequest) (*offerReply, error) {
	if m.cfg.Volumes == nil {
		return nil, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	if !m.takes() && !(req.Last && m.isReserve()) {
		return nil, wire.Errorf(wire.Denied, "%s takes no new volumes: it has no weight, is being drained, or is in region %s by its configuration and in another by the table of nodes", m.cfg.ID, m.cfg.Region)
	}
	if err := m.full.reason(); err != nil {
		return nil, wire.Errorf(wire.Full, "%s: %v", m.cfg.ID, err)
	}
	if req.Bytes > 0 {
		free, err := m.cfg.Volumes.FreeBytes()
		if err == nil && free < uint64(req.Bytes)+diskEnough {
			return nil, wire.Errorf(wire.Full, "%s: %d bytes free beyond the reserve, %d wanted for a copy", m.cfg.ID, free, req.Bytes)
		}
	}
	return &offerReply{}, nil
}

// serveStream is the receiving side of steps 1 and 2.
func (m *Manager) serveStream(ctx context.Context, from string, s *transport.Stream) error {
	var req streamOpen
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("volume stream of %s: %w", from, err)
	}
	f, err := m.follow(from, req, s)
	if err != nil {
		return err
	}
	defer m.unfollow(f)
	received := make(chan error, 1)
	go func() { received <- f.receive() }() // ends with the stream, which the transport closes after this handler
	return f.commit(ctx, received)
}

// follow makes the copy's file. That it must be new is what keeps a fence for good (I2).
func (m *Manager) follow(from string, open streamOpen, s *transport.Stream) (*follower, error) {
	if m.cfg.Volumes == nil {
		return nil, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	var secret *keys.Secret
	if open.Seed != nil {
		var err error
		if secret, err = open.Seed.Secret(); err != nil {
			return nil, wire.Errorf(wire.Invalid, "copy of a volume of %s: %v", from, err)
		}
	}
	vol, err := m.cfg.Volumes.CreateCopy(open.Block, secret)
	if err != nil {
		return nil, storageError(fmt.Errorf("copy of a volume of %s: %w", from, err))
	}
	h := vol.Header()
	if h.Primary != from || from == m.cfg.ID || !slices.Contains(h.Copies, m.cfg.ID) {
		refusal := wire.Errorf(wire.Denied, "volume %s of %s with copies on %v is not for %s to stream to %s",
			h.ID, h.Primary, h.Copies, from, m.cfg.ID)
		return nil, errors.Join(refusal, m.cfg.Volumes.Remove(h.ID))
	}
	if err := m.refuseForbidden(h); err != nil {
		return nil, errors.Join(err, m.cfg.Volumes.Remove(h.ID))
	}
	f := &follower{id: h.ID, vol: vol, stream: s, dirty: make(chan struct{}, 1), cut: make(chan struct{}),
		shares: &m.shares, self: m.cfg.ID, received: vol.Durable()}
	f.dirty <- struct{}{} // the first acknowledgement says that the file is there
	m.mu.Lock()
	m.followers[h.ID] = f
	m.mu.Unlock()
	return f, nil
}

// unfollow ends the copy's growth, whatever the reason.
func (m *Manager) unfollow(f *follower) {
	f.fence()
	if err := f.vol.Seal(); err != nil {
		m.log.Warn("copy of volume did not end cleanly", "volume", f.id, "err", err)
	}
	if errors.Is(f.vol.Stats().Failed, volume.ErrFull) {
		m.full.set(f.vol.Stats().Failed)
	}
	m.mu.Lock()
	delete(m.followers, f.id)
	m.mu.Unlock()
	m.kick()
}

// receive takes frames until the stream ends. A clean end comes when the primary retires the volume.
func (f *follower) receive() error {
	for {
		msg, err := f.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("stream of volume %s: %w", f.id, err)
		}
		off, p, err := parseFrame(msg)
		if err != nil {
			return wire.Errorf(wire.Invalid, "stream of volume %s: %v", f.id, err)
		}
		if err := f.take(off, p); err != nil {
			return err
		}
	}
}

func (f *follower) take(off int64, p []byte) error {
	f.mu.Lock()
	fenced := f.fenced
	f.mu.Unlock()
	if fenced {
		return wire.Errorf(wire.Sealed, "copy of volume %s was fenced", f.id)
	}
	if err := f.vol.Receive(off, p); err != nil {
		return storageError(fmt.Errorf("receive at %d of volume %s: %w", off, f.id, err))
	}
	f.shares.count(f.self, len(p))
	f.mu.Lock()
	f.received = off + int64(len(p))
	f.mu.Unlock()
	select {
	case f.dirty <- struct{}{}:
	default:
	}
	return nil
}

// commit fsyncs in groups: one for all that arrived during the last.
func (f *follower) commit(ctx context.Context, received <-chan error) error {
	for {
		select {
		case <-f.dirty:
			if err := f.acknowledge(); err != nil {
				return err
			}
		case err := <-received:
			return err
		case <-f.cut:
			return wire.Errorf(wire.Sealed, "copy of volume %s was fenced", f.id)
		case <-ctx.Done():
			return fmt.Errorf("stream of volume %s: %w", f.id, ctx.Err())
		}
	}
}

// acknowledge fsyncs what was received and says so. Once a fence has begun nothing is said any more, and what was
// about to be said then is not above what the fence answers, for that is read later (I2).
func (f *follower) acknowledge() error {
	f.mu.Lock()
	received := f.received
	f.mu.Unlock()
	durable, err := f.vol.Commit()
	if err != nil {
		return storageError(fmt.Errorf("commit volume %s: %w", f.id, err))
	}
	f.mu.Lock()
	fenced := f.fenced
	f.tell()
	f.mu.Unlock()
	if fenced {
		return wire.Errorf(wire.Sealed, "copy of volume %s was fenced", f.id)
	}
	// A concurrent Receive may have put more under this fsync than received says.
	return f.stream.SendValue(streamAck{Durable: durable, Received: max(received, durable)})
}

// fence cuts the stream.
func (f *follower) fence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fenced {
		f.fenced = true
		close(f.cut)
	}
}

// storageError gives the errors of a volume their kind on the wire.
func storageError(err error) error {
	code := wire.Internal
	switch {
	case errors.Is(err, volume.ErrFull):
		code = wire.Full
	case errors.Is(err, volume.ErrExists):
		code = wire.Exists
	case errors.Is(err, volume.ErrSealed), errors.Is(err, volume.ErrClosed), errors.Is(err, volume.ErrFailed):
		code = wire.Sealed
	case errors.Is(err, volume.ErrNotFound), errors.Is(err, keys.ErrDestroyed):
		code = wire.NotFound
	case errors.Is(err, volume.ErrNoKeys):
		code = wire.Denied
	case errors.Is(err, volume.ErrMisplaced):
		code = wire.Invalid
	case isDamage(err):
		code = wire.Damaged
	}
	return wire.Errorf(code, "%v", err)
}
