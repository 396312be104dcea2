package replica

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"math/bits"
	"slices"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// candidate is an open volume as the choice sees it.
type candidate struct {
	p        *primary
	slow     bool
	home     bool // one copy is in the recipient's home region
	cross    bool // the copies are in different regions
	distance int  // of the farthest copy, in steps of doubling round trips
	crowded  bool // many appends are in flight already
	affinity uint64
}

// rank puts the best first. Among equals all appends go to one volume until it is crowded: they then
// share its writes and fsyncs. Which one that is differs from node to node.
func rank(list []candidate) {
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(
			last(a.slow, b.slow),
			last(!a.home, !b.home),
			last(!a.cross, !b.cross),
			cmp.Compare(a.distance, b.distance),
			last(a.crowded, b.crowded),
			cmp.Compare(a.affinity, b.affinity),
		)
	})
}

func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// distance is a peer's round trip time in coarse steps, so that nodes in one place count as equals.
func (m *Manager) distance(node string) int {
	if node == m.cfg.ID {
		return 0
	}
	rtt, ok := m.cfg.Net.RTT(node)
	if !ok {
		return 64
	}
	return bits.Len64(uint64(rtt / (4 * time.Millisecond)))
}

// affinity orders peers differently on every node.
func (m *Manager) affinity(node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.cfg.ID + "\x00" + node)) // a hash never fails
	return h.Sum64()
}

// regionOf gives a storage node's region, "" if it is not known.
func (m *Manager) regionOf(node string) string {
	for _, peer := range m.cfg.Peers() {
		if peer.ID == node {
			return peer.Region
		}
	}
	return ""
}

// candidates lists the open volumes of a class that an append for home may go to, best first.
func (m *Manager) candidates(home string, class uint8) []candidate {
	m.mu.Lock()
	own := m.primaries()
	m.mu.Unlock()
	now := time.Now()
	var list []candidate
	for _, p := range own {
		if p.entry.Class != class {
			continue
		}
		l, takes := p.load(now)
		if !takes {
			continue
		}
		partner := p.partner()
		list = append(list, candidate{
			p: p, slow: l.slow, cross: p.cross, crowded: l.inflight >= spillAt,
			home:     m.cfg.Region == home || m.regionOf(partner) == home,
			distance: m.distance(partner), affinity: m.affinity(partner),
		})
	}
	rank(list)
	return list
}

// classOf gives the class of volumes that a blob belongs in.
func classOf(b *volume.Blob) uint8 {
	if b.StoredLength() > bulkFrom {
		return volume.ClassBulk
	}
	return volume.ClassSmall
}

// Append stores a blob on this node as primary. It is on every copy's disk when the reference comes back. home is the
// recipient's region: one copy goes there if that is possible. If one volume fails the next is tried; wire.ErrUnavailable
// when none is left, wire.ErrFull when all that is left said so.
func (m *Manager) Append(ctx context.Context, home string, meta []byte, b *volume.Blob) (volume.Ref, error) {
	if m.cfg.Volumes == nil {
		return volume.Ref{}, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	began := time.Now()
	class := classOf(b)
	if class == volume.ClassBulk {
		m.awaitBulk(ctx)
	}
	tried := make(map[*primary]bool)
	var reasons error
	for {
		p := m.next(home, class, tried)
		if p == nil {
			break
		}
		tried[p] = true
		ref, err := p.append(ctx, meta, b)
		if err == nil {
			m.stats.appended(time.Since(began), b.Length())
			return ref, nil
		}
		if ctx.Err() != nil || !retryable(err) {
			return volume.Ref{}, err
		}
		m.stats.appendRetries.Add(1)
		reasons = errors.Join(reasons, err)
	}
	m.stats.appendFailures.Add(1)
	if err := m.full.reason(); err != nil {
		return volume.Ref{}, wire.Errorf(wire.Full, "append on %s: %v", m.cfg.ID, err)
	}
	if reasons == nil {
		reasons = errors.New("no open volume with another node")
	}
	return volume.Ref{}, wire.Errorf(wire.Unavailable, "append on %s: %v", m.cfg.ID, reasons)
}

// next chooses a volume that was not tried yet, a small one if there is none of the class.
func (m *Manager) next(home string, class uint8, tried map[*primary]bool) *primary {
	list := m.candidates(home, class)
	if class != volume.ClassSmall {
		list = append(list, m.candidates(home, volume.ClassSmall)...)
	}
	for _, c := range list {
		if !tried[c.p] {
			return c.p
		}
	}
	return nil
}

// retryable says whether another volume may do better.
func retryable(err error) bool {
	return volumeEnded(err) || errors.Is(err, wire.ErrSealed) || errors.Is(err, wire.ErrFull) ||
		errors.Is(err, wire.ErrUnavailable)
}

// awaitBulk has bulk volumes kept from the first large blob on, and gives them a moment to appear then.
func (m *Manager) awaitBulk(ctx context.Context) {
	m.mu.Lock()
	opened := m.opened
	m.wantBulk = true
	m.mu.Unlock()
	m.kick()
	wait := time.NewTimer(bulkWait)
	defer wait.Stop()
	for len(m.candidates("", volume.ClassBulk)) == 0 {
		select {
		case <-opened:
		case <-wait.C:
			return
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		opened = m.opened
		m.mu.Unlock()
	}
}

// Ready says why this node cannot store mail as primary, nil if it can.
func (m *Manager) Ready() error {
	if m.cfg.Volumes == nil {
		return nil
	}
	if err := m.full.reason(); err != nil {
		return err
	}
	if len(m.candidates(m.cfg.Region, volume.ClassSmall)) == 0 {
		return errors.New("no open volume with another node")
	}
	return nil
}
