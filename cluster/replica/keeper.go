package replica

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hongyan/engine/volume"
)

// keep is the goroutine that looks after the volumes' life: it reads the directory, seals what nobody else will, and
// keeps enough volumes open. It alone asks the directory for new volumes, so an open volume of this
// node that it does not know is a leftover of an earlier process or of a lost answer.
func (m *Manager) keep() {
	for {
		m.refresh(m.ctx)
		m.noteDown(time.Now())
		if m.cfg.Volumes != nil {
			m.judge(time.Now())
			m.fill(m.ctx, time.Now())
		}
		wait := time.NewTimer(keepEvery/2 + rand.N(keepEvery))
		select {
		case <-m.kicks:
		case <-wait.C:
		case <-m.ctx.Done():
			wait.Stop()
			return
		}
		wait.Stop()
		if !sleep(m.ctx, tickEvery) { // kicks come in bursts
			return
		}
	}
}

// refresh reads this node's copy of the directory. What this node knows to be newer stays, should the copy lag behind.
func (m *Manager) refresh(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, directoryWait)
	defer stop()
	list, err := m.cfg.Directory.Volumes(ctx)
	if err != nil {
		m.log.Debug("directory not readable", "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[volume.ID]Entry, len(list))
	for _, e := range list {
		old, known := m.entries[e.ID]
		if known && old.after(e) {
			e = old
		}
		m.takeEntry(next, e, old)
	}
	m.entries, m.seen = next, time.Now()
	for id := range m.whole {
		if e := next[id]; !e.Holds(m.cfg.ID) {
			delete(m.whole, id)
		}
	}
}

// judge starts the seals that are this node's to start, and ends own volumes that another sealed.
func (m *Manager) judge(now time.Time) {
	var stale []Entry
	var lost []*primary
	m.mu.Lock()
	for id, e := range m.entries {
		p := m.own[id]
		switch {
		case !e.Holds(m.cfg.ID):
		case e.State == Sealed && p != nil:
			lost = append(lost, p)
		case e.State == Sealed:
		case e.Primary == m.cfg.ID:
			if p == nil {
				stale = append(stale, e) // of an earlier process
			}
		default:
			since, down := m.downSince[e.Primary]
			if down && now.Sub(since) >= m.cfg.PeerDown {
				stale = append(stale, e)
			}
		}
	}
	m.mu.Unlock()
	for _, p := range lost {
		p.fence(fmt.Errorf("sealed by another node"))
	}
	for _, e := range stale {
		m.startSeal(e, false)
	}
	signal(m.mend)
}

// noteDown keeps who the peers are, and since when each of them does not answer.
func (m *Manager) noteDown(now time.Time) {
	peers := m.cfg.Peers()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setPeers(peers)
	for _, peer := range peers {
		switch _, down := m.downSince[peer.ID]; {
		case peer.ID == m.cfg.ID:
		case m.cfg.Net.Up(peer.ID):
			delete(m.downSince, peer.ID)
		case !down:
			m.downSince[peer.ID] = now
		}
	}
}

// slot is what this node wants one open volume for.
type slot struct {
	partner string
	class   uint8
}

// fill opens what is missing and retires what is not wanted any more.
func (m *Manager) fill(ctx context.Context, now time.Time) {
	if m.full.reason() != nil || m.cfg.Net.InDoubt(m.cfg.ID) {
		return
	}
	m.mu.Lock()
	own, bulk, closed := m.primaries(), m.wantBulk, m.closed
	m.mu.Unlock()
	if closed {
		return
	}
	held := m.prune(own, now)
	if !m.takes() {
		return
	}
	for _, partner := range m.partners(held, now) {
		m.fillSlot(ctx, held, partner, volume.ClassSmall)
		if bulk {
			m.fillSlot(ctx, held, partner, volume.ClassBulk)
		}
	}
}

func (m *Manager) fillSlot(ctx context.Context, held map[slot]*primary, partner Peer, class uint8) {
	if held[slot{partner.ID, class}] != nil || ctx.Err() != nil {
		return
	}
	if err := m.open(ctx, partner, class); err != nil {
		m.stats.openFailures.Add(1)
		m.log.Info("no volume opened", "partner", partner.ID, "err", err)
		m.refuse(partner.ID, refuseFor)
	}
}

// prune says which slots are held, and retires what has a successor: a volume that is long or old enough, one with both
// copies in this region once another has a copy elsewhere, and one on a node that takes none any more.
func (m *Manager) prune(own []*primary, now time.Time) map[slot]*primary {
	held := make(map[slot]*primary)
	var long, near, unwanted []*primary
	cross, here := false, m.takes()
	for _, p := range own {
		l, takes := p.load(now)
		switch {
		case !here || !m.peer(p.partner).Takes():
			unwanted = append(unwanted, p)
			continue
		case takes && (l.old || l.size >= replaceAt(m.cfg.MaxVolume)):
			long = append(long, p)
			continue
		case takes && !p.cross():
			near = append(near, p)
		}
		cross = cross || takes && p.cross()
		if takes || p.isConnecting() {
			held[slot{p.partner, p.entry.Class}] = p
		}
	}
	for _, p := range long {
		next := held[slot{p.partner, p.entry.Class}]
		if next == nil {
			continue
		}
		if l, takes := p.load(now); takes && (l.old || l.size >= m.cfg.MaxVolume) && !next.isConnecting() {
			p.retire()
		}
	}
	if cross {
		for _, p := range near {
			p.retire()
		}
	}
	m.retireUnwanted(unwanted, held, here, now)
	return held
}

// retireUnwanted ends volumes on nodes that take none any more, as soon as mail can go to others: of this node, or at another one. Without
// such others they go on, for nothing is refused because a node is to be emptied.
func (m *Manager) retireUnwanted(list []*primary, held map[slot]*primary, here bool, now time.Time) {
	if len(list) == 0 {
		return
	}
	can := !here && m.elsewhere()
	for _, p := range held {
		if l, takes := p.load(now); takes && l.stalled <= m.cfg.AckTimeout/slowAfter {
			can = true
		}
	}
	if !can {
		return
	}
	for _, p := range list {
		p.retire()
	}
}

// partners lists the peers to keep volumes with, nearest first: those of other regions, or of this one while no other
// region has a node that takes copies. One in doubt is better than none. Of more equals than are wanted each node takes others, the
// heavy ones more often.
func (m *Manager) partners(held map[slot]*primary, now time.Time) []Peer {
	if list := m.partnersIf(held, now, func(node string) bool { return !m.cfg.Net.InDoubt(node) }); len(list) > 0 {
		return list
	}
	return m.partnersIf(held, now, m.cfg.Net.Up)
}

func (m *Manager) partnersIf(held map[slot]*primary, now time.Time, usable func(node string) bool) []Peer {
	var here, elsewhere []Peer
	m.mu.Lock()
	for _, peer := range m.peers {
		if peer.ID == m.cfg.ID || !peer.Takes() || now.Before(m.refused[peer.ID]) || !usable(peer.ID) {
			continue
		}
		if peer.Region == m.cfg.Region {
			here = append(here, peer)
		} else {
			elsewhere = append(elsewhere, peer)
		}
	}
	m.mu.Unlock()
	chosen := elsewhere
	if len(elsewhere) == 0 {
		for _, p := range held {
			if p.cross() && usable(p.partner) {
				return nil
			}
		}
		chosen = here
	}
	slices.SortStableFunc(chosen, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(m.distance(a.ID), m.distance(b.ID)),
			cmp.Compare(rendezvous(m.affinity(a.ID), a.Weight), rendezvous(m.affinity(b.ID), b.Weight)))
	})
	return chosen[:min(len(chosen), maxPartners)]
}

// open is step 1. The directory's part is waited for here, the copies are made in the background.
func (m *Manager) open(ctx context.Context, partner Peer, class uint8) error {
	asked, stop := context.WithTimeout(ctx, fenceTimeout)
	defer stop()
	var reply offerReply
	if err := m.cfg.Net.Call(asked, partner.ID, methodOffer, &offerRequest{Class: class}, &reply); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	entered, stop2 := context.WithTimeout(ctx, directoryWait)
	defer stop2()
	e, err := m.cfg.Directory.OpenVolume(entered, m.cfg.ID, []string{m.cfg.ID, partner.ID}, class)
	if err != nil {
		return fmt.Errorf("enter new volume: %w", err)
	}
	p := newPrimary(m, e, partner)
	m.mu.Lock()
	m.own[e.ID] = p
	m.mu.Unlock()
	m.background(func() { m.connect(p) })
	return nil
}

// connect makes the copies and lets the volume take appends.
func (m *Manager) connect(p *primary) {
	ctx, stop := context.WithTimeout(p.ctx, connectTimeout)
	defer stop()
	h := volume.Header{ID: p.entry.ID, Epoch: p.entry.Epoch, Primary: p.entry.Primary, Copies: p.entry.Copies,
		Class: p.entry.Class, Created: m.cfg.Clock.Now().Unix(), Salt: rand.Uint64()}
	if err := p.connect(ctx, h); err != nil {
		m.stats.openFailures.Add(1)
		m.refuse(p.partner, refuseFor)
		p.fence(err)
		return
	}
	m.log.Info("volume opened", "volume", p.entry.ID, "partner", p.partner, "class", p.entry.Class)
	m.mu.Lock()
	close(m.opened)
	m.opened = make(chan struct{})
	closed := m.closed
	m.mu.Unlock()
	if closed {
		p.retire()
	}
}
