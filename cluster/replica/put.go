package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Bounds of Put.
const (
	putPause   = 20 * time.Millisecond  // before the second round through the nodes, doubled up to
	putPauses  = 500 * time.Millisecond // before later ones
	putPerByte = time.Second / (1 << 20)
	// putPatience is how long nobody may be able to take a blob before the caller is told: new volumes are open well before.
	putPatience = 10 * time.Second
)

// Put stores a blob wherever that can be done now: on this node's volumes if it has usable ones, else on a peer's, in
// the home region and near ones first, and nowhere but where the policy allows. It goes from node to node until ctx or its patience ends; a blob can be read again, so
// nothing but bytes without a reference is left of an attempt that failed. In the end wire.ErrUnavailable, with the last
// round's reasons.
func (m *Manager) Put(ctx context.Context, to Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	if len(meta) > maxMeta {
		return volume.Ref{}, wire.Errorf(wire.Limit, "put: metadata of %d bytes, limit %d", len(meta), maxMeta)
	}
	if b.Length() > m.cfg.MaxBlob {
		return volume.Ref{}, wire.Errorf(wire.Limit, "put: blob of %d bytes, limit %d", b.Length(), m.cfg.MaxBlob)
	}
	pause, start := putPause, time.Now()
	if m.first(to) { // the short way, nearly always
		near, pass := m.passTo()
		if pass {
			if ref, err := m.putOn(ctx, near, to, kind, meta, b); err == nil {
				return ref, nil
			}
		}
		if ref, err := m.putOn(ctx, m.cfg.ID, to, kind, meta, b); err == nil {
			return ref, nil
		}
	}
	for {
		var reasons error
		for _, node := range m.targets(to) {
			ref, err := m.putOn(ctx, node, to, kind, meta, b)
			if err == nil {
				return ref, nil
			}
			reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
			if ctx.Err() != nil || to.follow(ctx) {
				break
			}
			if permanent(err) || node == m.cfg.ID && !retryable(err) {
				return volume.Ref{}, fmt.Errorf("put: %w", reasons)
			}
		}
		if reasons == nil {
			reasons = fmt.Errorf("no node that keeps mail is where the policy wants it (%s)", to.Policy)
		}
		if time.Since(start) > putPatience || !m.pause(ctx, pause) {
			return volume.Ref{}, wire.Errorf(wire.Unavailable, "put: %v", errors.Join(ctx.Err(), m.ctx.Err(), m.lacking(to.Policy), reasons))
		}
		pause = min(2*pause, putPauses)
		to.follow(ctx)
	}
}

// errBlob is wrapped when the blob cannot be read: no other node would change that.
var errBlob = errors.New("blob not readable")

// permanent says that the blob itself is the trouble.
func permanent(err error) bool {
	return errors.Is(err, wire.ErrLimit) || errors.Is(err, wire.ErrInvalid) || errors.Is(err, errBlob)
}

// pause waits, but not longer than until a volume becomes open.
func (m *Manager) pause(ctx context.Context, d time.Duration) bool {
	m.mu.Lock()
	opened := m.opened
	m.mu.Unlock()
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-opened:
	case <-ctx.Done():
	case <-m.ctx.Done():
		return false
	}
	return ctx.Err() == nil
}

// targets lists the nodes to try.
func (m *Manager) targets(to Place) []string {
	nodes := slices.DeleteFunc(m.allowed(m.peerIDs(), to.Policy), func(node string) bool { return node == m.cfg.ID })
	m.sortTargets(nodes, to)
	if m.cfg.Volumes == nil || !to.Policy.Allows(m.cfg.Region) {
		return nodes
	}
	if m.first(to) {
		return append([]string{m.cfg.ID}, nodes...)
	}
	return append(nodes, m.cfg.ID)
}

// sortTargets is sortNodes for new mail: those that take none come last, and of equals one has its turn (shares.go).
func (m *Manager) sortTargets(nodes []string, to Place) {
	m.sortNodes(nodes, to.Home)
	taking := make(map[string]bool, len(nodes))
	for _, node := range m.takers() {
		taking[node] = true
	}
	slices.SortStableFunc(nodes, func(a, b string) int { return last(!taking[a], !taking[b]) })
	equals := 0
	for equals < len(nodes) && taking[nodes[equals]] && m.alike(nodes[0], nodes[equals]) {
		equals++
	}
	if equals < 2 {
		return
	}
	standings := make(map[string]standing, equals)
	for i, s := range m.shares.standings(turn{policy: to.Policy.Key(), home: m.peer(nodes[0]).Region, put: true}, nodes[:equals]) {
		standings[nodes[i]] = s
	}
	slices.SortStableFunc(nodes[:equals], func(a, b string) int { return last(!standings[a].lead, !standings[b].lead) })
}

// alike says that sortNodes had nothing but affinity to choose between two nodes by.
func (m *Manager) alike(a, b string) bool {
	now := time.Now()
	m.mu.Lock()
	same := m.byID[a].Region == m.byID[b].Region && now.Before(m.avoided[a]) == now.Before(m.avoided[b])
	m.mu.Unlock()
	return same && m.cfg.Net.InDoubt(a) == m.cfg.Net.InDoubt(b) && m.distance(a) == m.distance(b)
}

// first says that mail is put on this node before others.
func (m *Manager) first(to Place) bool { return m.usable(to) && !m.yields(to.Policy) }

// yields says that mail is not for this node's volumes though there may be some: it is to take none, and others can.
func (m *Manager) yields(p policy.Policy) bool { return !m.takes() && m.elsewhere(p) }

// usable says that this node has a volume that gets on.
func (m *Manager) usable(to Place) bool {
	if m.cfg.Volumes == nil {
		return false
	}
	list := m.candidates(to, volume.ClassSmall)
	return len(list) > 0 && !list[0].slow
}

// putOn tries one node. A node that does not get on costs a bounded time.
func (m *Manager) putOn(ctx context.Context, node string, to Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	ctx, stop := context.WithTimeout(ctx, idleTimeout+time.Duration(b.StoredLength())*putPerByte)
	defer stop()
	if node == m.cfg.ID {
		return m.Append(ctx, to, kind, meta, b)
	}
	ctx, leave := m.cfg.Net.Sound(ctx, node)
	defer leave()
	ref, err := m.putThere(ctx, node, to, kind, meta, b)
	if err != nil {
		m.avoidAfter(node, err)
	}
	return ref, err
}

func (m *Manager) putThere(ctx context.Context, node string, to Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	s, err := m.cfg.Net.Open(ctx, node, methodPut)
	if err != nil {
		return volume.Ref{}, err
	}
	defer hangUp(s)
	req := putRequest{Home: to.Home, Policy: to.Policy.Stored(), Meta: meta, Length: b.Length(), Stored: b.StoredLength(), Hash: b.Hash(), Kind: kind}
	if d := b.Dictionary(); d != nil {
		req.Dictionary = d.ID()
	}
	if err := sendBlob(s, req, b); err != nil {
		// A node that refuses says why and stops reading: its reason is better than that of the send.
		if errors.Is(err, errBlob) {
			return volume.Ref{}, err
		}
		if _, why := s.Recv(); why != nil && !errors.Is(why, io.EOF) {
			return volume.Ref{}, why
		}
		return volume.Ref{}, err
	}
	var reply putReply
	if err := s.RecvValue(&reply); err != nil {
		return volume.Ref{}, err
	}
	m.shares.count(node, int(b.StoredLength()))
	if reply.Ref.Length != b.Length() || reply.Ref.Hash != b.Hash() {
		return volume.Ref{}, fmt.Errorf("%s answered with a reference to something else", node)
	}
	return reply.Ref, nil
}

func sendBlob(s *transport.Stream, req putRequest, b *volume.Blob) (err error) {
	stored, err := b.Stored()
	if err != nil {
		return fmt.Errorf("%w: %w", errBlob, err)
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	if err := s.SendValue(req); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, min(chunkRoom, max(req.Stored, 1)))
	for left := req.Stored; left > 0; {
		n, err := io.ReadFull(stored, buf[:min(uint64(len(buf)), left)])
		if err != nil {
			return fmt.Errorf("%w: %w", errBlob, err)
		}
		if err := s.Send(buf[:n]); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		left -= uint64(n)
	}
	return s.CloseSend()
}

// servePut stores a peer's blob with this node as primary.
func (m *Manager) servePut(ctx context.Context, from string, s *transport.Stream) error {
	select {
	case m.puts <- struct{}{}:
		defer func() { <-m.puts }()
	default:
		return wire.Errorf(wire.Unavailable, "%s takes in %d blobs at once already", m.cfg.ID, maxPuts)
	}
	var req putRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("put by %s: %w", from, err)
	}
	if len(req.Meta) > maxMeta || req.Length > m.cfg.MaxBlob {
		return wire.Errorf(wire.Limit, "put by %s of %d bytes, metadata %d", from, req.Length, len(req.Meta))
	}
	to := Place{Home: req.Home, Policy: policy.Of(req.Policy)}
	if err := m.storingUnder(to.Policy); err != nil {
		return wire.Errorf(wire.Unavailable, "%s: %v", m.cfg.ID, err)
	}
	if req.Stored > blobMemory {
		if err := volume.SpoolRoom(m.cfg.FS, m.cfg.SpoolDir, m.cfg.SpoolKeep+req.Stored); err != nil {
			return wire.Errorf(wire.Unavailable, "put by %s: %v", from, err)
		}
	}
	var dictionary *volume.Dictionary
	if req.Dictionary != 0 {
		if dictionary = m.cfg.Dictionary(req.Dictionary); dictionary == nil {
			return wire.Errorf(wire.Unavailable, "put by %s: %s has not learned dictionary %d yet", from, m.cfg.ID, req.Dictionary)
		}
	}
	b, err := volume.ReceiveBlob(&streamReader{s: s}, req.Length, req.Stored, req.Hash, dictionary, m.cfg.FS, m.cfg.SpoolDir, blobMemory)
	if err != nil {
		return fmt.Errorf("put by %s: %w", from, err)
	}
	ref, err := m.Append(ctx, to, req.Kind, req.Meta, b)
	if err := errors.Join(err, b.Close()); err != nil {
		return fmt.Errorf("put by %s: %w", from, err)
	}
	return s.SendValue(putReply{Ref: ref})
}

// storingUnder says why this node cannot store a blob as primary under a policy. Volumes of one that is new here may be about to open.
func (m *Manager) storingUnder(p policy.Policy) error {
	switch {
	case p.Key() == "":
		return m.storing()
	case !p.Allows(m.cfg.Region):
		return m.noVolume(p)
	}
	return m.full.reason()
}

// streamReader reads the messages of a stream as one run of bytes.
type streamReader struct {
	s    *transport.Stream
	rest []byte
}

func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		msg, err := r.s.Recv()
		if err != nil {
			return 0, err
		}
		r.rest = msg
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
