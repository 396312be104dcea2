package shard

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// How long survivors are waited for when a leader's node is in doubt. What they know comes as soon as they doubt too, which overseas takes
// some 600 ms and the way here.
const (
	suspectTimeout = 1500 * time.Millisecond
	suspectGrace   = 20 * time.Millisecond  // for those who have not answered when a majority has: all are to see the same survivors
	standPatience  = 200 * time.Millisecond // and two round trips: for the one who stands to be elected
	standRounds    = 20                     // after that raft's own timers have done it, or there is no majority
)

// SuspectRequest asks a voter to answer as soon as it doubts a node too.
type SuspectRequest struct {
	Node   string   `cbor:"2,keyasint"`
	Shards []uint32 `cbor:"3,keyasint"` // that the node led, and that the voter votes in
}

// SuspectResponse is that answer: it doubts the node.
type SuspectResponse struct {
	Stands []Stand `cbor:"3,keyasint"` // one for each shard asked for
}

// Stand is how a voter would do as a leader.
type Stand struct {
	Fit      bool   `cbor:"1,keyasint,omitempty"` // it applies entries, and its disk works
	Standing bool   `cbor:"2,keyasint,omitempty"` // it stands for election already, and was not elected yet
	Term     uint64 `cbor:"3,keyasint,omitempty"` // of its last entry
	Index    uint64 `cbor:"4,keyasint,omitempty"` // of its last entry
}

// MethodSuspect asks a voter about a node in doubt.
const MethodSuspect = "shard.suspect"

// survivor is a voter that doubts the leader's node.
type survivor struct {
	node string
	Stand
}

// elector is the part of our transport that starts an election.
type elector interface {
	Elect(ctx context.Context) error
}

// A leader's node that is in doubt (transport.Net.InDoubt: it is down, silent, or its disk hangs) is replaced within a few round trips
// instead of Raft's timeouts, for all the shards that it leads together. Every voter does the same:
//
//  1. It asks the other voters, once for all shards, to answer as soon as they doubt the node too. It goes on only with answers of a
//     majority of a shard's voters, itself included, and gives the others a moment.
//  2. Among those, find the best: fit, not standing already in vain, the longest log as Raft compares them, then a voter in the home
//     region, then the order of the membership. All survivors come to the same one, or to none if they see different things.
//  3. If that is this node, and nobody else leads meanwhile, and the node is still in doubt, stand for election.
//  4. If no leader is known two round trips later, begin again: the one who stood and failed is not taken twice.
//
// A false alarm costs a change of leader and nothing else: votes and terms are Raft's, and read indexes are given by terms, not by
// leases. One voter's doubt alone changes nothing.
func (h *Host) takeOver(ctx context.Context, node string) {
	groups := make(map[uint32]*Group)
	for _, g := range h.Groups() {
		if g.Leader() == node && slices.Contains(g.cfg.Group.Voters, g.cfg.Self) {
			groups[g.Shard()] = g
		}
	}
	for range standRounds {
		for shard, g := range groups {
			if now := g.Leader(); now != node && now != "" || g.ctx.Err() != nil {
				delete(groups, shard)
			}
		}
		if len(groups) == 0 || ctx.Err() != nil || !h.peers.InDoubt(node) {
			return
		}
		began := time.Now()
		h.elect(ctx, node, groups)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(began.Add(standPatience)) + 2*h.farthest(groups)):
		}
	}
}

// farthest is the round trip to the most distant voter that answers.
func (h *Host) farthest(groups map[uint32]*Group) time.Duration {
	var most time.Duration
	for _, g := range groups {
		for _, v := range g.cfg.Group.Voters {
			if rtt, ok := h.peers.RTT(v); ok && !h.peers.InDoubt(v) {
				most = max(most, rtt)
			}
		}
	}
	return most
}

// answer is a voter's.
type answer struct {
	voter  string
	shards []uint32
	stands []Stand // none: it did not answer
}

// elect takes steps 1 to 3 for some groups.
func (h *Host) elect(ctx context.Context, node string, groups map[uint32]*Group) {
	ctx, cancel := context.WithTimeout(ctx, suspectTimeout)
	defer cancel()
	ask := make(map[string][]uint32)
	waiting := make(map[uint32]int) // answers that are out
	survivors := make(map[uint32][]survivor)
	for shard, g := range groups {
		survivors[shard] = []survivor{{g.cfg.Self, g.stand()}}
		for _, v := range g.cfg.Group.Voters {
			if v != g.cfg.Self && v != node && !h.peers.InDoubt(v) {
				ask[v] = append(ask[v], shard)
				waiting[shard]++
			}
		}
	}
	answers := make(chan answer, len(ask))
	for v, shards := range ask {
		go func() {
			var resp SuspectResponse
			err := h.peers.CallSound(ctx, v, MethodSuspect, &SuspectRequest{Node: node, Shards: shards}, &resp)
			if err != nil || len(resp.Stands) != len(shards) {
				resp.Stands = nil
			}
			answers <- answer{v, shards, resp.Stands}
		}()
	}
	done := make(map[uint32]bool)
	decide := func(all bool) {
		for shard, g := range groups {
			if majority := len(survivors[shard]) > len(g.cfg.Group.Voters)/2; majority && !done[shard] && (all || waiting[shard] == 0) {
				done[shard] = true
				g.standIf(ctx, node, survivors[shard])
			}
		}
	}
	var grace <-chan time.Time
	for out := len(ask); out > 0; {
		select {
		case a := <-answers:
			out--
			for i, shard := range a.shards {
				waiting[shard]--
				if a.stands != nil {
					survivors[shard] = append(survivors[shard], survivor{a.voter, a.stands[i]})
				}
			}
			decide(false)
			if grace == nil && len(done) < len(groups) {
				grace = time.After(suspectGrace)
			}
		case <-grace:
			decide(true)
			grace = nil
			if len(done) == len(groups) {
				return
			}
		}
	}
	decide(true)
}

// standIf is steps 2 and 3.
func (g *Group) standIf(ctx context.Context, node string, survivors []survivor) {
	g.cfg.Log.Debug("agreed with other voters that the leader's node is in doubt", "shard", g.Shard(), "doubted", node, "survivors", survivors)
	if g.best(survivors) != g.cfg.Self || !g.cfg.Peers.InDoubt(node) {
		return
	}
	if now := g.Leader(); now != "" && now != node {
		return
	}
	e, ok := g.cfg.Transport.(elector)
	if !ok {
		return
	}
	if err := e.Elect(ctx); err != nil {
		g.cfg.Log.Warn("could not stand for election", "shard", g.Shard(), "err", err)
		return
	}
	g.cfg.Log.Info("stands for election: the leader's node is in doubt", "shard", g.Shard(), "doubted", node)
}

// stand is what survivors compare.
func (g *Group) stand() Stand {
	s := Stand{Fit: g.unfit() == nil && !g.cfg.Peers.InDoubt(g.cfg.Self), Standing: g.raft.State() == raft.Candidate, Index: g.raft.LastIndex()}
	var last raft.Log
	if err := g.log.GetLog(s.Index, &last); err == nil {
		s.Term = last.Term
	}
	return s
}

// best is step 2; "" when none of them should lead.
func (g *Group) best(survivors []survivor) string {
	rank := func(s survivor) int {
		i := slices.Index(g.cfg.Group.Voters, s.node)
		if !slices.Contains(g.cfg.Preferred, s.node) {
			i += len(g.cfg.Group.Voters)
		}
		return i
	}
	better := func(a, b survivor) bool {
		switch {
		case a.Fit != b.Fit:
			return a.Fit
		case a.Standing != b.Standing:
			return b.Standing
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
	select {
	case <-h.peers.Doubted(req.Node):
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Unavailable, "%s is not in doubt here", req.Node)
	}
	resp := &SuspectResponse{Stands: make([]Stand, len(req.Shards))}
	for i, shard := range req.Shards {
		g, err := h.find(shard)
		if err != nil {
			return nil, err
		}
		resp.Stands[i] = g.stand()
	}
	return resp, nil
}

// doubted lets the groups that a node in doubt led look for a new leader.
func (h *Host) doubted(node string, in bool) {
	if !in {
		return
	}
	h.work.Go(func() { h.takeOver(h.ctx, node) })
}
