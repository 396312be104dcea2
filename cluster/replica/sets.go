package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Volumes of different policies are different volumes: a node keeps open ones for the default, and for every other policy that a domain has and that
// allows its own region. With two copies a volume has one partner, as ever; with more it has a set of them.

// Bounds of open volumes: of a node with each class of a policy. The directory bounds how many policies there are.
const (
	maxSets     = maxPartners
	maxSetsElse = 3 // of a policy besides the default
	// maxConnecting is how many may be about to open when those of a policy besides the default wait: making one costs fsyncs on each of its nodes.
	maxConnecting = 4
	// maxBesides is the same where others of the policy take mail meanwhile: when a node comes or goes all nodes look for new partners.
	maxBesides = 2
)

// groupWait is how long an append waits for the first volumes under a policy that a domain has just been given.
const groupWait = 2 * time.Second

// refreshPolicies reads which policies domains have.
func (m *Manager) refreshPolicies(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, directoryWait)
	defer stop()
	list, err := m.cfg.Directory.Policies(ctx)
	if err != nil {
		m.log.Debug("policies not readable", "err", err)
		return
	}
	next := map[string]policy.Policy{"": policy.Default()}
	for _, p := range list {
		next[p.Key()] = p
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.policies = next
	for key := range m.wantBulk {
		if _, still := next[key]; !still {
			delete(m.wantBulk, key)
		}
	}
}

// wanted says whether this node is to keep open volumes under a policy with that key.
func (m *Manager) wanted(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, has := m.policies[key]
	return has && p.Allows(m.cfg.Region)
}

// groups lists the policies that this node keeps open volumes under, the default first.
func (m *Manager) groups() []policy.Policy {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]policy.Policy, 0, len(m.policies))
	for _, p := range m.policies {
		if p.Allows(m.cfg.Region) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b policy.Policy) int { return cmp.Compare(a.Key(), b.Key()) })
	return out
}

// chooser is what partnerSets asks of this node.
type chooser struct {
	self     Peer
	distance func(node string) int
	order    func(p Peer) float64 // among nodes that are as far: the least first
}

// partnerSets chooses with which others a node keeps volumes open under a policy, nearest first; with copies that need not survive a region those of its own
// come first. Sets that make copies survive what the policy says are the only ones, if there is one. Else any will do, but spread says that it is so.
//
// Each node that fits begins a set of its own, so that the loss of one leaves others; the rest of a set are nodes that share no region (or zone) with
// it if there are such, and of these the least used.
func partnerSets(c chooser, p policy.Policy, peers []Peer, most int) (sets [][]Peer, spread bool) {
	fit := slices.DeleteFunc(slices.Clone(peers), func(peer Peer) bool { return peer.ID == c.self.ID || !p.Allows(peer.Region) })
	more := int(p.Copies) - 1
	if !p.Allows(c.self.Region) || len(fit) < more {
		return nil, false
	}
	away := func(peer Peer) bool { return p.Survive == policy.Zone && peer.Region != c.self.Region }
	slices.SortStableFunc(fit, func(a, b Peer) int {
		return cmp.Or(last(away(a), away(b)), cmp.Compare(c.distance(a.ID), c.distance(b.ID)), cmp.Compare(c.order(a), c.order(b)))
	})
	used, seen := make(map[string]int), make(map[string]bool)
	for _, first := range fit {
		set := complete(c.self, p, first, fit, more, used)
		names := slices.Sorted(slices.Values(ids(set)))
		if key := strings.Join(names, "\x00"); !seen[key] {
			seen[key] = true
			sets = append(sets, set)
			for _, peer := range set {
				used[peer.ID]++
			}
		}
	}
	good := slices.DeleteFunc(slices.Clone(sets), func(set []Peer) bool { return !survives(p, c.self, set) })
	if spread = len(good) > 0; spread {
		sets = good
	}
	return sets[:min(len(sets), most)], spread
}

// complete adds nodes to a set that begins with one.
func complete(self Peer, p policy.Policy, first Peer, fit []Peer, size int, used map[string]int) []Peer {
	set := []Peer{first}
	for len(set) < size {
		taken := map[string]bool{p.Fails(self.Place()): true}
		for _, peer := range set {
			taken[p.Fails(peer.Place())] = true
		}
		left := slices.DeleteFunc(slices.Clone(fit), func(peer Peer) bool { return slices.Contains(ids(set), peer.ID) })
		set = append(set, slices.MinFunc(left, func(a, b Peer) int {
			return cmp.Or(last(taken[p.Fails(a.Place())], taken[p.Fails(b.Place())]), cmp.Compare(used[a.ID], used[b.ID]))
		}))
	}
	return set
}

func ids(peers []Peer) []string {
	out := make([]string, len(peers))
	for i, p := range peers {
		out[i] = p.ID
	}
	return out
}

// survives says whether copies on a node and a set of others outlive the loss that the policy is about.
func survives(p policy.Policy, self Peer, set []Peer) bool {
	places := []policy.Place{self.Place()}
	for _, peer := range set {
		places = append(places, peer.Place())
	}
	return p.Survives(places)
}

// noVolume says why this node has no open volume under a policy.
func (m *Manager) noVolume(p policy.Policy) error {
	if p.Key() == "" {
		return errors.New("no open volume with another node")
	}
	if !p.Allows(m.cfg.Region) {
		return fmt.Errorf("the policy (%s) keeps bytes out of region %s", p, m.cfg.Region)
	}
	return errors.Join(fmt.Errorf("no open volume under the policy (%s)", p), m.lacking(p))
}

// lacking says why the nodes that are up cannot hold what a policy asks for; that copies are not apart is no reason.
func (m *Manager) lacking(p policy.Policy) error {
	crew, _ := m.crew(p, time.Now())
	m.mu.Lock()
	peers := m.peers
	m.mu.Unlock()
	places := placesUp(peers, crew, m.cfg.Net.Up)
	fit := slices.DeleteFunc(slices.Clone(places), func(at policy.Place) bool { return !p.Allows(at.Region) })
	if len(fit) >= int(p.Copies) {
		return nil
	}
	if err := p.Feasible(places); err != nil {
		return fmt.Errorf("of the nodes that are up: %w", err)
	}
	return nil
}

// allowed leaves of some nodes those where bytes may lie. It works in place.
func (m *Manager) allowed(nodes []string, p policy.Policy) []string {
	if len(p.Regions) == 0 {
		return nodes
	}
	return slices.DeleteFunc(nodes, func(node string) bool { return !p.Allows(m.peer(node).Region) })
}

// await has volumes of a class kept that are opened only when there is mail for them, and gives what is not open yet a moment to appear.
func (m *Manager) await(ctx context.Context, p policy.Policy, class uint8) {
	wait := groupWait
	if class == volume.ClassBulk {
		m.mu.Lock()
		m.wantBulk[p.Key()] = true
		m.mu.Unlock()
		wait = bulkWait
	} else if p.Key() == "" {
		return
	}
	missing := func() bool { return len(m.candidates(Place{Policy: p}, class)) == 0 }
	m.mu.Lock()
	opened := m.opened
	m.mu.Unlock()
	if !missing() || m.lacking(p) != nil {
		return
	}
	m.kick()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for missing() {
		select {
		case <-opened:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		opened = m.opened
		m.mu.Unlock()
	}
}

// refuseForbidden is the receiving side's own look at a volume's policy.
func (m *Manager) refuseForbidden(h volume.Header) error {
	p, err := policy.Decode(h.Policy)
	if err != nil {
		return wire.Errorf(wire.Invalid, "volume %s: %v", h.ID, err)
	}
	return m.refuseUnder(p, h.ID)
}

// refuseUnder goes by this node's configuration, whatever the table of nodes says of its region.
func (m *Manager) refuseUnder(p policy.Policy, id volume.ID) error {
	if !p.Allows(m.cfg.Region) {
		return wire.Errorf(wire.Denied, "volume %s (%s) may not lie in region %s", id, p, m.cfg.Region)
	}
	return nil
}
