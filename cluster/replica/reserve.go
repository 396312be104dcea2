package replica

import (
	"slices"
	"time"

	"hongyan/cluster/policy"
)

// Nodes of weight 0 and nodes that are being drained are to take no new mail. They are the reserve: while fewer nodes that take some can be used than a policy
// wants copies, mail under it is not refused, but goes to these as well, to those that stay first. Each node goes by what it sees itself. Who
// asks another to hold a copy says that it is a last resort (offerRequest.Last), so that the two need not see the same.
//
// It begins as soon as a node is in doubt or refuses a volume. Mail goes to a volume of theirs only while there is no other that gets on (place.go, Put). Such volumes stay open
// until reserveFor after they were needed last, so that a node that comes and goes does not have some opened each time; then they are retired once others take
// the mail (retireUnwanted), and copies leave a drained node like all it had.

// The ranks of nodes, in the order in which they are called.
const (
	willing    = iota // it takes mail, by its weight
	weightless        // it weighs nothing
	leaving           // it is being drained
	barred            // it was given up as lost, or what it has is made anew
)

func (p Peer) rank() int {
	switch {
	case p.Takes():
		return willing
	case p.Lost:
		return barred
	case p.Leaving:
		return leaving
	}
	return weightless
}

// crewOf is the rule: the nodes to which mail under a policy may go, usable or not, and how far down the ranks it had to go for them.
func crewOf(p policy.Policy, peers []Peer, usable func(node string) bool) (crew []Peer, rank int) {
	crew, ready := ranked(p, peers, willing), 0
	for rank = willing; ; rank++ {
		for _, peer := range crew {
			if peer.rank() == rank && usable(peer.ID) {
				ready++
			}
		}
		if ready >= int(p.Copies) || rank == leaving {
			return crew, rank
		}
		crew = ranked(p, peers, rank+1)
	}
}

// ranked are the nodes down to a rank that a policy allows.
func ranked(p policy.Policy, peers []Peer, rank int) (out []Peer) {
	for _, peer := range peers {
		if peer.rank() <= rank && p.Allows(peer.Region) {
			out = append(out, peer)
		}
	}
	return out
}

// PlacesUp is where the nodes are that answer and to which mail may go: under the policy, if only as a last resort, and under others, for what more could be allowed.
func PlacesUp(p policy.Policy, peers []Peer, up func(node string) bool) []policy.Place {
	crew, _ := crewOf(p, peers, up)
	return placesUp(peers, crew, up)
}

func placesUp(peers, crew []Peer, up func(node string) bool) (places []policy.Place) {
	called := ids(crew)
	for _, peer := range peers {
		if up(peer.ID) && (peer.Takes() || slices.Contains(called, peer.ID)) {
			places = append(places, peer.Place())
		}
	}
	return places
}

// resort is how far down the ranks a policy had to go lately.
type resort struct {
	rank  int
	until time.Time
}

// crews gives those of all policies that this node keeps volumes under, by key, and remembers how far they went. The keeper's.
func (m *Manager) crews(now time.Time) map[string][]Peer {
	out, next := make(map[string][]Peer), make(map[string]resort)
	for _, p := range m.groups() {
		crew, rank := m.crew(p, now)
		out[p.Key()] = crew
		was := m.resortOf(p, now)
		if rank >= was.rank {
			was = resort{rank: rank, until: now.Add(reserveFor)}
		}
		next[p.Key()] = was
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resorts = next
	return out
}

// crew is that of a policy now, and how far it has to go for it.
func (m *Manager) crew(p policy.Policy, now time.Time) (crew []Peer, rank int) {
	was := m.resortOf(p, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() || now.Sub(m.began) < reserveAfter {
		return ranked(p, m.peers, was.rank), willing // links to the others are not up yet
	}
	crew, rank = crewOf(p, m.peers, func(node string) bool {
		return node == m.cfg.ID || !now.Before(m.refused[node]) && !m.cfg.Net.InDoubt(node)
	})
	if rank < was.rank {
		crew = ranked(p, m.peers, was.rank)
	}
	return crew, rank
}

func (m *Manager) resortOf(p policy.Policy, now time.Time) resort {
	m.mu.Lock()
	defer m.mu.Unlock()
	if was := m.resorts[p.Key()]; now.Before(was.until) {
		return was
	}
	return resort{}
}

// isOf says that this node is of a crew, and may be.
func (m *Manager) isOf(crew []Peer) bool {
	return slices.Contains(ids(crew), m.cfg.ID) && !m.misplaced()
}

// isReserve says that this node is a member that takes no mail and may be asked for it all the same.
func (m *Manager) isReserve() bool {
	p := m.peer(m.cfg.ID)
	return p.ID != "" && (p.rank() == weightless || p.rank() == leaving) && !m.misplaced()
}
