package replica

import (
	"cmp"
	"context"
	"hash/fnv"
	"math/bits"
	"slices"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// candidate is an open volume as the choice sees it.
type candidate struct {
	p        *primary
	slow     bool
	reserve  bool // a copy is on a node that takes mail as a last resort only
	home     bool // one copy is in the recipient's home region
	cross    bool // the copies are in different regions, or zones if their loss is what they are to survive
	distance int  // of the farthest copy, in steps of doubling round trips
	crowded  bool // many appends are in flight already
	affinity uint64
	standing // of the partners, among those that are as good in all above crowded
}

// rank puts the best first. Among equals all appends go to one volume until its partner's turn is over (shares.go), or it is crowded: they
// then share its writes and fsyncs. Which one begins differs from node to node.
func rank(list []candidate) {
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(
			byFitness(a, b),
			last(a.over, b.over),
			last(a.crowded, b.crowded),
			last(!a.lead, !b.lead),
			cmp.Compare(a.level, b.level),
			cmp.Compare(a.affinity, b.affinity),
		)
	})
}

// byFitness compares what counts more than shares of mail.
func byFitness(a, b candidate) int {
	return cmp.Or(
		last(a.slow, b.slow),
		last(a.reserve, b.reserve),
		last(!a.home, !b.home),
		last(!a.cross, !b.cross),
		cmp.Compare(a.distance, b.distance),
	)
}

// weigh judges the partners of the best candidates by the weights. list is ranked, and is ranked again.
func (m *Manager) weigh(list []candidate, t turn) {
	equals := 1
	for equals < len(list) && byFitness(list[0], list[equals]) == 0 {
		equals++
	}
	if len(list) < 2 || equals < 2 {
		return
	}
	partners := make([][]string, equals)
	for i, c := range list[:equals] {
		partners[i] = ids(c.p.others)
	}
	for i, s := range m.shares.standingsOf(t, partners) {
		list[i].standing = s
	}
	rank(list[:equals])
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
	rtt, ok := m.cfg.rtt(node)
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

// Place says where a blob is wanted.
type Place struct {
	Home   string        // the recipient's region: one copy goes there if that is possible
	Policy policy.Policy // strict about regions and the number of copies
	// Now, if it is set, is asked for the policy after each failure of a Put: volumes of one that is given up meanwhile are open no more.
	Now func(context.Context) (policy.Policy, error)
}

// follow takes the policy of now, and says whether that is another one. One that cannot be learned stays.
func (to *Place) follow(ctx context.Context) (changed bool) {
	if to.Now == nil {
		return false
	}
	now, err := to.Now(ctx)
	if err != nil || now.Key() == to.Policy.Key() {
		return false
	}
	to.Policy = now
	return true
}

// Anywhere is a place under the default policy.
func Anywhere(home string) Place { return Place{Home: home, Policy: policy.Default()} }

// candidates lists the open volumes of a class that an append for a place may go to, best first.
func (m *Manager) candidates(to Place, class uint8) []candidate {
	home, key := to.Home, to.Policy.Key()
	m.mu.Lock()
	own := m.primaries()
	t := turn{class: class, policy: key}
	for _, p := range m.peers {
		if home != m.cfg.Region && p.Region == home {
			t.home = home
		}
	}
	m.mu.Unlock()
	now := time.Now()
	var list []candidate
	for _, p := range own {
		if p.entry.Class != class || p.key != key {
			continue
		}
		l, takes := p.load(now)
		if !takes {
			continue
		}
		list = append(list, candidate{
			p: p, slow: l.stalled > m.cfg.AckTimeout/slowAfter, cross: p.apart, crowded: l.inflight >= spillAt,
			reserve: !m.takes() || p.onReserve(), home: m.cfg.Region == home || p.isIn(home),
			distance: p.distance(), affinity: m.affinity(p.partner),
		})
	}
	rank(list)
	m.weigh(list, t)
	return list
}

// classOf gives the class of volumes that a blob belongs in.
func classOf(b *volume.Blob) uint8 {
	if b.StoredLength() > bulkFrom {
		return volume.ClassBulk
	}
	return volume.ClassSmall
}

// Append stores a blob on this node as primary. It is on every copy's disk when the reference comes back. meta must not change afterwards, even if it fails.
//
// If one volume fails the next is tried, and already while one makes no progress: what is stored twice then costs space,
// waiting would cost a sender's time. wire.ErrUnavailable when no volume is left or none gets on, wire.ErrFull when the disk is why.
func (m *Manager) Append(ctx context.Context, to Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	if m.cfg.Volumes == nil {
		return volume.Ref{}, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	began := time.Now()
	class := classOf(b)
	m.await(ctx, to.Policy, class)
	ctx, stop := context.WithCancel(ctx)
	defer stop() // attempts that nobody waits for any more
	a := attempts{m: m, to: to, class: class, kind: kind, meta: meta, blob: b, tried: make(map[*primary]bool)}
	ref, err := a.run(ctx)
	if err != nil {
		m.stats.appendFailures.Add(1)
		return volume.Ref{}, err
	}
	m.stats.appended(time.Since(began), b.Length())
	return ref, nil
}

// Ready says why this node cannot store mail, nil if it can: as primary, or at others if it is to take none itself.
func (m *Manager) Ready() error {
	if m.cfg.Volumes == nil {
		return nil
	}
	if !m.takes() && slices.ContainsFunc(m.takers(), m.cfg.Net.Up) {
		return nil
	}
	return m.storing()
}

// storing says why this node cannot store mail as primary, nil if it can.
func (m *Manager) storing() error {
	if err := m.full.reason(); err != nil {
		return err
	}
	if len(m.candidates(Anywhere(m.cfg.Region), volume.ClassSmall)) == 0 {
		return m.noVolume(policy.Default())
	}
	return nil
}
