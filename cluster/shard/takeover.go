package shard

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// How long survivors are waited for when a leader's node is in doubt. What they know comes as soon as they doubt too, which takes some
// 200 ms and the way here.
const (
	suspectTimeout = 1500 * time.Millisecond
	suspectGrace   = 20 * time.Millisecond  // for those who have not answered when a majority has: all are to see the same survivors
	suspectLook    = 25 * time.Millisecond  // whether it is still in doubt
	standPatience  = 200 * time.Millisecond // and two round trips: for the one who stands to be elected
	standRounds    = 20                     // with an election to hold; after that raft's own timers have done it, or there is no majority
)

// SuspectRequest says that a voter doubts a node, and asks another to answer as soon as it does too.
type SuspectRequest struct {
	Node   string   `cbor:"2,keyasint"`
	Shards []uint32 `cbor:"3,keyasint"` // that the node led, and that both vote in
	Stands []Stand  `cbor:"4,keyasint"` // of the asker, one for each
}

// SuspectResponse is that answer: it doubts the node.
type SuspectResponse struct {
	Stands []Stand `cbor:"3,keyasint"` // one for each shard asked for
}

// Stand is how a voter would do as a leader.
type Stand struct {
	Fit   bool   `cbor:"1,keyasint,omitempty"` // it applies entries, and its disk works
	Term  uint64 `cbor:"3,keyasint,omitempty"` // of its last entry
	Index uint64 `cbor:"4,keyasint,omitempty"` // of its last entry
	Led   bool   `cbor:"5,keyasint,omitempty"` // it knows another leader, which is not in doubt: no survivor
}

// nobody in place of a node in doubt: the shards have no leader, and whoever is asked answers at once.
const nobody = ""

// MethodSuspect asks a voter about a node in doubt.
const MethodSuspect = "shard.suspect"

// survivor is a voter that doubts the leader's node.
type survivor struct {
	node string
	Stand
}

// elector is the part of our transport that starts an election.
type elector interface {
	// Elect has this replica stand; candidateIn is the term that it is a candidate of already, or 0. logs are the last entries of other
	// voters, as far as they are known.
	Elect(ctx context.Context, candidateIn uint64, logs map[string]uint64) error
}

// A leader's node that is in doubt (transport.Net.InDoubt: it is down, silent, or its disk hangs) is replaced within a few round trips
// instead of Raft's timeouts, for all the shards that it leads together. Every voter does the same:
//
//  1. It tells the other voters, once for all shards, and asks them to answer as soon as they doubt the node too. Whoever is asked has
//     heard of one more. It goes on only with a majority of a shard's voters, itself included, and gives the others a moment.
//  2. Among those, find the best: fit, the longest log as Raft compares them, then a voter in the home region, then the order of the
//     membership. Survivors that see the same come to the same one.
//  3. If that is this node, and nobody else leads meanwhile, and the node is still in doubt, stand for election.
//  4. If no leader is known two round trips later, begin again: two may have stood who saw different things, and shared the votes. Who
//     is a candidate still, then gives that up and stands in a later term. Each time a group is left alone for longer (calm.go).
//
// A group that nobody leads in the second round may have lost the node as a candidate, so it belongs to the groups then. If the node is in doubt no longer, an
// election that was lost has deposed it all the same: then the voters are asked without doubting anybody, and the best of all stands.
//
// A false alarm costs a change of leader and nothing else: votes and terms are Raft's, and read indexes are given by terms, not by
// leases. One voter's doubt alone changes nothing.
func (h *Host) takeOver(ctx context.Context, node string, more <-chan struct{}) {
	for round, held := 0, 0; held < standRounds; round++ {
		doubt := h.peers.InDoubt(node)
		groups, later := h.leaderless(node, doubt, round > 0)
		if len(groups) == 0 && !later && (round > 0 || !doubt) || ctx.Err() != nil {
			return
		}
		began, of := time.Now(), node
		if !doubt {
			of = nobody
		}
		if len(groups) > 0 {
			held++
			h.elect(ctx, of, groups)
		}
		select {
		case <-ctx.Done():
		case <-more:
			round, held = -1, 0
		case <-time.After(time.Until(began.Add(standPatience)) + 2*h.farthest()):
		}
	}
}

// leaderless gives the groups that need another leader than a node, and with orphans those that have none. later says that there are more, whose last election was
// a moment ago.
func (h *Host) leaderless(node string, doubt, orphans bool) (groups map[uint32]*Group, later bool) {
	groups = make(map[uint32]*Group)
	for _, g := range h.Groups() {
		r, leader := g.roster(), g.Leader()
		if !r.votes(g.cfg.Self) || !r.votes(node) || g.ctx.Err() != nil || !(leader == node && doubt || leader == "" && orphans) {
			continue
		}
		if g.calmFor(time.Now()) > 0 {
			later = true
		} else {
			groups[g.Shard()] = g
		}
	}
	return groups, later
}

// farthest is the round trip to the most distant voter that answers.
func (h *Host) farthest() time.Duration {
	var most time.Duration
	for _, g := range h.Groups() {
		for _, v := range g.roster().Voters {
			if rtt, ok := h.peers.RTT(v); ok && !h.peers.InDoubt(v) {
				most = max(most, rtt)
			}
		}
	}
	return most
}

// answer is what a voter said of itself when it doubted a node.
type answer struct {
	voter  string
	shards []uint32
	stands []Stand // none: it did not answer
	at     time.Time
}

// told are the answers that came as questions, by the node in doubt and the voter. They count while they are asked, and for the round
// that this node begins when it doubts too.
type told struct {
	mu   sync.Mutex // guards the rest
	by   map[string]map[string]answer
	news map[string]chan struct{} // by node; closed and replaced when one comes
}

func newTold() *told {
	return &told{by: make(map[string]map[string]answer), news: make(map[string]chan struct{})}
}

func (t *told) note(node string, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.by, func(_ string, by map[string]answer) bool { // of nodes that nobody replaced here
		maps.DeleteFunc(by, func(_ string, a answer) bool { return time.Since(a.at) > suspectTimeout })
		return len(by) == 0
	})
	if t.by[node] == nil {
		t.by[node] = make(map[string]answer)
	}
	t.by[node][a.voter] = a
	if c := t.news[node]; c != nil {
		close(c)
		delete(t.news, node)
	}
}

func (t *told) forget(node, voter string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by[node], voter)
}

// of gives the answers about a node that still count, and a channel that is closed when there is another.
func (t *told) of(node string) (list []answer, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for voter, a := range t.by[node] {
		if time.Since(a.at) > suspectTimeout {
			delete(t.by[node], voter)
			continue
		}
		list = append(list, a)
	}
	if t.news[node] == nil {
		t.news[node] = make(chan struct{})
	}
	return list, t.news[node]
}

// elect takes steps 1 to 3 for some groups.
func (h *Host) elect(ctx context.Context, node string, groups map[uint32]*Group) {
	ctx, cancel := context.WithTimeout(ctx, suspectTimeout)
	defer cancel()
	p := &poll{node: node, groups: groups, voters: make(map[uint32]map[string]Stand), waiting: make(map[uint32]map[string]bool), done: make(map[uint32]bool)}
	ask := make(map[string]*SuspectRequest)
	for shard, g := range groups {
		own := g.stand()
		p.voters[shard], p.waiting[shard] = map[string]Stand{g.cfg.Self: own}, make(map[string]bool)
		for _, v := range g.roster().Voters {
			if v != g.cfg.Self && v != node && !h.peers.InDoubt(v) {
				if ask[v] == nil {
					ask[v] = &SuspectRequest{Node: node}
				}
				ask[v].Shards, ask[v].Stands = append(ask[v].Shards, shard), append(ask[v].Stands, own)
				p.waiting[shard][v] = true
			}
		}
	}
	answers := make(chan answer, len(ask))
	for v, req := range ask {
		go func() {
			var resp SuspectResponse
			err := h.peers.CallSound(ctx, v, MethodSuspect, req, &resp)
			if err != nil || len(resp.Stands) != len(req.Shards) {
				resp.Stands = nil
			}
			answers <- answer{voter: v, shards: req.Shards, stands: resp.Stands}
		}()
	}
	look := time.NewTicker(suspectLook)
	defer look.Stop()
	var grace <-chan time.Time
	for len(p.done) < len(groups) {
		list, news := h.told.of(node)
		for _, a := range list {
			p.take(a)
		}
		p.decide(ctx, false)
		if grace == nil && p.agreed() {
			grace = time.After(suspectGrace)
		}
		select {
		case a := <-answers:
			for _, shard := range a.shards {
				delete(p.waiting[shard], a.voter)
			}
			p.take(a)
		case <-news:
		case <-grace:
			p.decide(ctx, true)
			grace = nil
		case <-look.C:
			if node != nobody && !h.peers.InDoubt(node) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// poll is what is known in one round.
type poll struct {
	node    string
	groups  map[uint32]*Group
	voters  map[uint32]map[string]Stand // that doubt the node
	waiting map[uint32]map[string]bool  // voters who were asked and have not been heard of
	done    map[uint32]bool
}

func (p *poll) take(a answer) {
	for i, shard := range a.shards {
		if known := p.voters[shard]; known != nil && i < len(a.stands) {
			if !a.stands[i].Led {
				known[a.voter] = a.stands[i]
			}
			delete(p.waiting[shard], a.voter)
		}
	}
}

// agreed says that a majority of some group that is not done yet doubts the node.
func (p *poll) agreed() bool {
	for shard, g := range p.groups {
		if _, ok := g.roster().majority(p.voters[shard]); ok && !p.done[shard] {
			return true
		}
	}
	return false
}

// decide has this node stand for those groups where it should, once all have answered, or by what is known.
func (p *poll) decide(ctx context.Context, now bool) {
	for shard, g := range p.groups {
		list, ok := g.roster().majority(p.voters[shard])
		if p.done[shard] || !ok || !now && len(p.waiting[shard]) > 0 {
			continue
		}
		p.done[shard] = true
		g.standIf(ctx, p.node, list)
	}
}

// majority gives the voters among some nodes, and says whether they are one. Who began as a voter may be none any more.
func (r *roster) majority(of map[string]Stand) ([]survivor, bool) {
	list := make([]survivor, 0, len(of))
	for _, v := range r.Voters {
		if s, ok := of[v]; ok {
			list = append(list, survivor{v, s})
		}
	}
	return list, len(list) > len(r.Voters)/2
}

// standIf is steps 2 and 3.
func (g *Group) standIf(ctx context.Context, node string, survivors []survivor) {
	g.cfg.Log.Debug("agreed with other voters that the leader's node is in doubt", "shard", g.Shard(), "doubted", node, "survivors", survivors)
	if g.roster().best(survivors) != g.cfg.Self || node != nobody && !g.cfg.Peers.InDoubt(node) {
		return
	}
	if now := g.Leader(); now != "" && now != node || g.calmFor(time.Now()) > 0 {
		return
	}
	logs := make(map[string]uint64)
	for _, s := range survivors {
		logs[s.node] = s.Index
	}
	why := "in doubt: " + node
	if node == nobody {
		why = "a false alarm left no leader"
	}
	g.standKnowing(ctx, logs, why)
}

// standKnowing has this node stand for election, in a later term if it is a candidate already.
func (g *Group) standKnowing(ctx context.Context, logs map[string]uint64, why string) {
	e, ok := g.cfg.Transport.(elector)
	if !ok {
		return
	}
	candidateIn := uint64(0)
	if g.raft.State() == raft.Candidate {
		candidateIn = g.raft.CurrentTerm()
	}
	if err := e.Elect(ctx, candidateIn, logs); err != nil {
		g.cfg.Log.Warn("could not stand for election", "shard", g.Shard(), "err", err)
		return
	}
	g.cfg.Log.Info("stands for election", "shard", g.Shard(), "why", why)
}

// stand is what survivors compare.
func (g *Group) stand() Stand {
	s := Stand{Fit: g.unfit() == nil && g.mayVote() == nil && !g.cfg.Peers.InDoubt(g.cfg.Self), Index: g.raft.LastIndex()}
	var last raft.Log
	if err := g.log.GetLog(s.Index, &last); err == nil {
		s.Term = last.Term
	}
	return s
}

// best is step 2, of a majority; "" when none of them should lead.
func (r *roster) best(survivors []survivor) string {
	rank := func(s survivor) int {
		i := slices.Index(r.Voters, s.node)
		if !slices.Contains(r.preferred, s.node) {
			i += len(r.Voters)
		}
		return i
	}
	better := func(a, b survivor) bool {
		switch {
		case a.Fit != b.Fit:
			return a.Fit
		case a.Term != b.Term:
			return a.Term > b.Term
		case a.Index != b.Index:
			return a.Index > b.Index
		}
		return rank(a) < rank(b)
	}
	top := survivors[0]
	for _, s := range survivors[1:] {
		if better(s, top) {
			top = s
		}
	}
	if !top.Fit {
		return ""
	}
	return top.node
}

// suspect answers step 1's question: not before this node doubts the other too.
func (h *Host) suspect(ctx context.Context, from string, req *SuspectRequest) (*SuspectResponse, error) {
	if from == req.Node {
		return nil, wire.Errorf(wire.Invalid, "%s doubts itself", from)
	}
	if req.Node == nobody {
		return h.answerOf(req)
	}
	if here := len(h.Groups()); len(req.Shards) > here || len(req.Stands) != len(req.Shards) {
		return nil, wire.Errorf(wire.Invalid, "%s doubts %s with %d stands in %d shards, and %d are here", from, req.Node, len(req.Stands), len(req.Shards), here)
	}
	h.told.note(req.Node, answer{voter: from, shards: req.Shards, stands: req.Stands, at: time.Now()})
	select {
	case <-h.peers.Doubted(req.Node):
	case <-ctx.Done(): // nor does the asker any more, or it will ask again
		h.told.forget(req.Node, from)
		return nil, wire.Errorf(wire.Unavailable, "%s is not in doubt here", req.Node)
	}
	return h.answerOf(req)
}

// answerOf says how this node would do in each shard.
func (h *Host) answerOf(req *SuspectRequest) (*SuspectResponse, error) {
	resp := &SuspectResponse{Stands: make([]Stand, len(req.Shards))}
	for i, shard := range req.Shards {
		g, err := h.find(shard)
		if err != nil {
			return nil, err
		}
		resp.Stands[i] = g.stand()
		if leader := g.Leader(); leader != "" && leader != req.Node && !h.peers.InDoubt(leader) {
			resp.Stands[i].Led = true
		}
	}
	return resp, nil
}

// doubted lets the groups that a node in doubt led look for a new leader. A node that comes in doubt again while that goes on has it begin anew: two at
// once would hold elections against each other.
func (h *Host) doubted(node string, in bool) {
	if !in || h.own(node) { // a node that ails is replaced by others
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if more := h.replacing[node]; more != nil {
		select {
		case more <- struct{}{}:
		default:
		}
		return
	}
	more := make(chan struct{}, 1)
	h.replacing[node] = more
	h.work.Go(func() {
		for {
			h.takeOver(h.ctx, node, more)
			h.mu.Lock()
			select {
			case <-more: // it came when the last look was over
				h.mu.Unlock()
				continue
			default:
			}
			delete(h.replacing, node)
			h.mu.Unlock()
			return
		}
	})
}

// own says whether a node is this one.
func (h *Host) own(node string) bool {
	for _, g := range h.Groups() {
		return g.cfg.Self == node
	}
	return false
}
