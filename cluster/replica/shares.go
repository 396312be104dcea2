package replica

import (
	"cmp"
	"context"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// How new mail follows the weights of nodes. Every node counts the bytes that it took lately, as primary and as other copy, and asks those that
// it may choose how much they took. A node's level is these bytes by its weight: weights hold when all levels are equal. So among volumes that
// are as good as each other in all that counts more, an append goes to the partner whose level is lowest. It is not asked for each message
// anew: one partner has its turn until it is a quantum above the lowest, so that appends share fsyncs as before.
//
// A level says nothing about a set of nodes, or weights, that has changed: then all counts begin at zero, on every node when it hears of it, and a
// node's answer counts only if it was for the same set. So a node that joins is not filled up with all mail until it has what the others have.

// shares is what this node knows of the bytes that nodes took.
type shares struct {
	mu      sync.Mutex // guards what follows
	key     uint64     // of the nodes and weights that the counts are for
	weights map[string]uint32
	taken   map[string]*fading
	stores  map[string]bool   // who said last that a peer's blob can be put there
	lead    map[turn][]string // whose turn it is
	fresh   int               // bytes that were counted since the others were asked
	asked   time.Time         // when that was
}

// turn is one of the choices that are made again and again.
type turn struct {
	class  uint8
	policy string // its key
	home   string // a region that limits the choice; empty: all are as good
	put    bool   // of a node to put at, not of a partner
}

// fading is a sum that forgets.
type fading struct {
	sum float64
	at  time.Time
}

func (f *fading) now(now time.Time) float64 {
	return f.sum * math.Exp(-float64(now.Sub(f.at))/float64(shareFor))
}

func (f *fading) set(sum float64, now time.Time) { f.sum, f.at = sum, now }

// reset begins anew if the set of nodes or a weight has changed.
func (s *shares) reset(peers []Peer) {
	sorted := slices.SortedFunc(slices.Values(peers), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	h := fnv.New64a()
	weights := make(map[string]uint32, len(peers))
	for _, p := range sorted {
		if !p.Takes() {
			continue
		}
		weights[p.ID] = p.Weight
		w := p.Weight
		_, _ = h.Write(append([]byte(p.ID), 0, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))) // a hash never fails
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.weights != nil && s.key == h.Sum64() {
		return
	}
	s.key, s.weights, s.taken, s.stores = h.Sum64(), weights, make(map[string]*fading), make(map[string]bool)
	s.fresh, s.asked = 0, time.Time{}
}

// count adds bytes of new mail that went to a node.
func (s *shares) count(node string, bytes int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh += bytes
	f := s.of(node)
	f.set(f.now(now)+float64(bytes), now)
}

// of is called under mu.
func (s *shares) of(node string) *fading {
	f := s.taken[node]
	if f == nil {
		f = new(fading)
		s.taken[node] = f
	}
	return f
}

// level is called under mu. That of a node that takes nothing is beyond all others.
func (s *shares) level(node string, now time.Time) float64 {
	w := s.weights[node]
	if w == 0 {
		return math.Inf(1)
	}
	return s.of(node).now(now) / float64(w)
}

// quantum is how far above the lowest a level may be whose node has its turn. Called under mu.
func (s *shares) quantum(now time.Time) float64 {
	sum, weights := 0.0, 0.0
	for node, w := range s.weights {
		sum += s.of(node).now(now)
		weights += float64(w)
	}
	if weights == 0 {
		return 0
	}
	return max(turnBytes, sum/turnShare) * float64(len(s.weights)) / weights
}

// standing is a node in one choice.
type standing struct {
	over  bool // too far above the lowest to be chosen
	lead  bool // it has the turn
	level float64
}

// standings judges the nodes that a choice is between; the first of equals has the turn if nobody has.
func (s *shares) standings(t turn, nodes []string) []standing {
	sets := make([][]string, len(nodes))
	for i := range nodes {
		sets[i] = nodes[i : i+1]
	}
	return s.standingsOf(t, sets)
}

// standingsOf judges sets of nodes that take the same mail, by the mean of their levels.
func (s *shares) standingsOf(t turn, sets [][]string) []standing {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]standing, len(sets))
	lowest, leader := 0, -1
	for i, set := range sets {
		for _, node := range set {
			out[i].level += s.level(node, now) / float64(len(set))
		}
		if out[i].level < out[lowest].level {
			lowest = i
		}
		if leader < 0 && slices.Equal(set, s.lead[t]) { // of a volume and its successor the first, so that it comes to its end
			leader = i
		}
	}
	limit := out[lowest].level + s.quantum(now)
	if leader < 0 || out[leader].level > limit {
		leader = lowest
		s.lead[t] = slices.Clone(sets[lowest])
	}
	for i := range out {
		out[i].over, out[i].lead = out[i].level > limit, i == leader
	}
	return out
}

// below chooses the one whose level is lowest, if that is clearly below another node's.
func (s *shares) below(node string, others []string) (string, bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	best, lowest := "", math.Inf(1)
	for _, other := range others {
		if l := s.level(other, now); l < lowest && s.stores[other] {
			best, lowest = other, l
		}
	}
	return best, best != "" && s.level(node, now)*0.98 > lowest+s.quantum(now)
}

// told takes what a node said of itself.
func (s *shares) told(node string, r shareReply) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores[node] = r.Stores
	if r.Key == s.key {
		s.of(node).set(float64(r.Taken), now)
	}
}

// anyStores says that one of the nodes takes blobs of peers.
func (s *shares) anyStores(nodes []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(nodes, func(node string) bool { return s.stores[node] })
}

// due says whether there is a reason to ask the others: what was counted, or a wish to be rid of mail.
func (s *shares) due(wish bool) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.fresh >= shareBytes || s.asked.IsZero() || (s.fresh > 0 || wish) && now.Sub(s.asked) >= shareRest
	if due {
		s.fresh, s.asked = 0, now
	}
	return due
}

// serveShare tells a peer what this node took.
func (m *Manager) serveShare(_ context.Context, from string, _ *shareRequest) (*shareReply, error) {
	if m.cfg.Volumes == nil {
		return nil, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	stores := m.takes() && slices.ContainsFunc(m.candidates(Anywhere(""), volume.ClassSmall), func(c candidate) bool { return !c.slow && c.p.partner != from })
	s := &m.shares
	s.mu.Lock()
	defer s.mu.Unlock()
	return &shareReply{Key: s.key, Taken: int64(s.of(m.cfg.ID).now(time.Now())), Stores: stores}, nil
}

// askShares asks those that this node may choose, while it takes mail, or wants to be rid of it.
func (m *Manager) askShares() {
	tick := pause.Ticker(shareEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
		if !m.shares.due(m.cfg.Volumes != nil && !m.takes()) {
			continue
		}
		var asked sync.WaitGroup
		for _, node := range m.choices() {
			asked.Go(func() {
				ctx, stop := context.WithTimeout(m.ctx, shareWait)
				defer stop()
				var reply shareReply
				if err := m.cfg.Net.CallSound(ctx, node, methodShare, &shareRequest{}, &reply); err == nil {
					m.shares.told(node, reply)
				}
			})
		}
		asked.Wait()
	}
}

// choices are the nodes that mail from here may go to: partners, and some of those nearest to put at.
func (m *Manager) choices() []string {
	nodes := slices.DeleteFunc(m.takers(), func(node string) bool { return !m.cfg.Net.Up(node) || m.cfg.Net.InDoubt(node) })
	m.sortNodes(nodes, m.cfg.Region)
	nodes = nodes[:min(len(nodes), maxPartners)]
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.own {
		for _, o := range p.others {
			if !slices.Contains(nodes, o.ID) {
				nodes = append(nodes, o.ID)
			}
		}
	}
	return nodes
}

// takers are the other nodes that take volumes.
func (m *Manager) takers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var nodes []string
	for _, p := range m.peers {
		if p.ID != m.cfg.ID && p.Takes() {
			nodes = append(nodes, p.ID)
		}
	}
	return nodes
}

// elsewhere says that mail under a policy can be put at another node.
func (m *Manager) elsewhere(p policy.Policy) bool {
	nodes := slices.DeleteFunc(m.allowed(m.takers(), p), func(node string) bool { return !m.cfg.Net.Up(node) || m.cfg.Net.InDoubt(node) })
	if len(nodes) < int(p.Copies) {
		return false
	}
	return m.shares.anyStores(nodes)
}

// passTo gives a near node of this region whose share is less used than this one's, for mail that came here.
func (m *Manager) passTo() (string, bool) {
	now := time.Now()
	m.mu.Lock()
	var near []string
	for _, p := range m.peers {
		if p.ID != m.cfg.ID && p.Region == m.cfg.Region && p.Takes() && !now.Before(m.avoided[p.ID]) {
			near = append(near, p.ID)
		}
	}
	m.mu.Unlock()
	near = slices.DeleteFunc(near, func(node string) bool { return m.cfg.Net.InDoubt(node) || m.distance(node) > passNear })
	return m.shares.below(m.cfg.ID, near)
}

// rendezvous orders nodes for a chooser so that many choosers together take each as often as its weight says: the least first.
func rendezvous(hash uint64, weight uint32) float64 {
	hash ^= hash >> 33 // FNV leaves the high bits of short names alike: murmur3's finalizer
	hash *= 0xff51afd7ed558ccd
	hash ^= hash >> 33
	hash *= 0xc4ceb9fe1a85ec53
	hash ^= hash >> 33
	return -math.Log((float64(hash>>11)+0.5)/(1<<53)) / float64(max(weight, 1))
}
