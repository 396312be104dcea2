package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/policy"
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
			m.refreshPolicies(m.ctx)
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
		if !pause.For(m.ctx, tickEvery) { // kicks come in bursts
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
	others string // ids of the nodes with the other copies, in order
	class  uint8
	policy string // its key
}

func slotOf(key string, others []Peer, class uint8) slot {
	return slot{others: strings.Join(slices.Sorted(slices.Values(ids(others))), "\x00"), class: class, policy: key}
}

// fill opens what is missing and retires what is not wanted any more.
func (m *Manager) fill(ctx context.Context, now time.Time) {
	if m.full.reason() != nil || m.cfg.Net.InDoubt(m.cfg.ID) {
		return
	}
	m.mu.Lock()
	own, closed := m.primaries(), m.closed
	m.mu.Unlock()
	if closed {
		return
	}
	crews := m.crews(now)
	held := m.prune(own, crews, now)
	connecting := 0
	type kind struct {
		policy string
		class  uint8
	}
	serves := make(map[kind]bool) // what this node takes already
	for _, p := range held {
		if p.isConnecting() {
			connecting++
		} else {
			serves[kind{p.key, p.entry.Class}] = true
		}
	}
	for _, p := range m.groups() {
		crew := crews[p.Key()]
		if !m.isOf(crew) {
			continue
		}
		classes := []uint8{volume.ClassSmall}
		m.mu.Lock()
		if m.wantBulk[p.Key()] {
			classes = append(classes, volume.ClassBulk)
		}
		m.mu.Unlock()
		for _, others := range m.partners(p, crew, held, now) {
			for _, class := range classes {
				if p.Key() != "" && connecting >= maxConnecting {
					return // whichever is connected kicks the keeper
				}
				if serves[kind{p.Key(), class}] && connecting >= maxBesides {
					continue // as above
				}
				if m.fillSlot(ctx, held, p, others, class) {
					connecting++
				}
			}
		}
	}
}

// fillSlot says whether it began to open a volume.
func (m *Manager) fillSlot(ctx context.Context, held map[slot]*primary, p policy.Policy, others []Peer, class uint8) bool {
	if held[slotOf(p.Key(), others, class)] != nil || ctx.Err() != nil {
		return false
	}
	if err := m.open(ctx, p, others, class); err != nil {
		m.stats.openFailures.Add(1)
		m.log.Info("no volume opened", "with", ids(others), "policy", p, "err", err)
		m.kick() // without who refuses others may be needed
		return false
	}
	return true
}

// prune says which slots are held, and retires what has a successor: a volume that is long or old enough, one whose copies are not spread once another of
// its policy has them so, one with a node that is not of the policy's crew, and one under a policy that no domain has.
func (m *Manager) prune(own []*primary, crews map[string][]Peer, now time.Time) map[slot]*primary {
	held := make(map[slot]*primary)
	var ending, near, unwanted []*primary
	spread, here := make(map[string]bool), make(map[string]bool)
	for key, crew := range crews {
		here[key] = m.isOf(crew)
	}
	for _, p := range own {
		l, takes := p.load(now)
		switch {
		case !m.wanted(p.key):
			p.retire()
			continue
		case !here[p.key] || !p.within(crews[p.key]):
			unwanted = append(unwanted, p)
			continue
		case takes && (l.old || l.stage >= long):
			m.noteUse(p)
			ending = append(ending, p)
			continue
		case takes && !p.apart:
			near = append(near, p)
		}
		spread[p.key] = spread[p.key] || takes && p.apart
		if takes || p.isConnecting() {
			held[p.slot()] = p
		}
	}
	for _, p := range ending {
		next := held[p.slot()]
		if next == nil {
			continue
		}
		if l, takes := p.load(now); takes && (l.old || l.stage >= overlong) && !next.isConnecting() {
			p.retire()
		}
	}
	for _, p := range near {
		if spread[p.key] {
			p.retire()
		}
	}
	m.retireUnwanted(unwanted, held, here, now)
	return held
}

// retireUnwanted ends volumes on nodes that take none any more, as soon as mail can go to others: of this node, or at another one. Without
// such others they go on, for nothing is refused because a node is to be emptied. here says by policy whether this node is of the crew.
func (m *Manager) retireUnwanted(list []*primary, held map[slot]*primary, here map[string]bool, now time.Time) {
	if len(list) == 0 {
		return
	}
	can := make(map[string]bool) // by policy
	for _, p := range held {
		if l, takes := p.load(now); takes && l.stalled <= m.cfg.AckTimeout/slowAfter {
			can[p.key] = true
		}
	}
	for _, p := range list {
		if can[p.key] || !here[p.key] && m.elsewhere(policy.Of(p.entry.Policy)) {
			p.retire()
		}
	}
}

// partners lists the sets of peers to keep volumes of a policy with, nearest first. Where copies are to survive a region these are peers of other regions,
// or of this one while no other region has a node that takes copies. One in doubt is better than none. Of more equals than are wanted each node takes
// others, the heavy ones more often.
func (m *Manager) partners(p policy.Policy, crew []Peer, held map[slot]*primary, now time.Time) [][]Peer {
	if list := m.partnersIf(p, crew, held, now, func(node string) bool { return !m.cfg.Net.InDoubt(node) }); len(list) > 0 {
		return list
	}
	return m.partnersIf(p, crew, held, now, m.cfg.Net.Up)
}

func (m *Manager) partnersIf(p policy.Policy, crew []Peer, held map[slot]*primary, now time.Time, usable func(node string) bool) [][]Peer {
	var fit []Peer
	m.mu.Lock()
	for _, peer := range crew {
		if peer.ID != m.cfg.ID && !now.Before(m.refused[peer.ID]) && usable(peer.ID) {
			fit = append(fit, peer)
		}
	}
	m.mu.Unlock()
	most := maxSets
	if p.Key() != "" {
		most = maxSetsElse
	}
	c := chooser{self: m.self(), distance: m.distance, order: func(p Peer) float64 { return rendezvous(m.affinity(p.ID), p.Weight) }}
	sets, spread := partnerSets(c, p, fit, most)
	if spread {
		return sets
	}
	for _, own := range held {
		if own.key == p.Key() && own.apart && !slices.ContainsFunc(own.others, func(o Peer) bool { return !usable(o.ID) }) {
			return nil
		}
	}
	return sets
}

// open is step 1. The directory's part is waited for here, the copies are made in the background.
func (m *Manager) open(ctx context.Context, p policy.Policy, others []Peer, class uint8) error {
	copies := []string{m.cfg.ID}
	for _, o := range others {
		asked, stop := context.WithTimeout(ctx, fenceTimeout)
		var reply offerReply
		err := m.cfg.Net.Call(asked, o.ID, methodOffer, &offerRequest{Class: class, Last: !o.Takes()}, &reply)
		stop()
		if err != nil {
			m.refuse(o.ID, refuseFor)
			return fmt.Errorf("offer to %s: %w", o.ID, err)
		}
		copies = append(copies, o.ID)
	}
	entered, stop := context.WithTimeout(ctx, directoryWait)
	defer stop()
	e, err := m.cfg.Directory.OpenVolume(entered, m.cfg.ID, copies, class, p)
	if err != nil {
		m.refuse(others[0].ID, refuseFor)
		return fmt.Errorf("enter new volume: %w", err)
	}
	v := newPrimary(m, e, others)
	m.mu.Lock()
	m.own[e.ID] = v
	m.mu.Unlock()
	m.background(func() { m.connect(v) })
	return nil
}

// connect makes the copies and lets the volume take appends.
func (m *Manager) connect(p *primary) {
	ctx, stop := context.WithTimeout(p.ctx, connectTimeout)
	defer stop()
	rule, err := policy.Of(p.entry.Policy).Encode()
	if err != nil {
		p.fence(err)
		return
	}
	h := volume.Header{Policy: rule, ID: p.entry.ID, Epoch: p.entry.Epoch, Primary: p.entry.Primary, Copies: p.entry.Copies,
		Class: p.entry.Class, Created: m.cfg.Clock.Now().Unix(), Salt: rand.Uint64()}
	if blame, err := p.connect(ctx, h); err != nil {
		m.stats.openFailures.Add(1)
		m.refuse(blame, refuseFor)
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
	m.kick() // others may wait for their turn
}
