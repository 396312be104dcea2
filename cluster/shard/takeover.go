package shard

import (
	"context"
	"slices"
	"time"
)

// suspectTimeout bounds the survivors' talk about a lost leader; Raft's own timers would take longer. suspectPause is
// between two questions.
const (
	suspectTimeout = 300 * time.Millisecond
	suspectPause   = 20 * time.Millisecond
)

// SuspectRequest asks a voter whether it has lost a node too.
type SuspectRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
	Node  string `cbor:"2,keyasint"`
}

// SuspectResponse says so, and how long the voter's log is, 0 when the voter could not serve as a leader.
type SuspectResponse struct {
	Down bool   `cbor:"1,keyasint,omitempty"`
	Last uint64 `cbor:"2,keyasint,omitempty"`
}

// MethodSuspect asks a voter about a lost node.
const MethodSuspect = "shard.suspect"

// survivor is a voter that has lost the leader's node.
type survivor struct {
	node string
	last uint64
}

// elector is the part of our transport that starts an election.
type elector interface {
	Elect(ctx context.Context) error
}

// takeOver is run by every voter that loses the connection to the node of its leader, so that a dead process costs a few
// round trips and not Raft's timeouts.
//
//  1. Ask the other voters that are up whether they have lost it too. Go on only with a majority of all voters.
//  2. Among those, find the best: the longest log, then a voter in the home region, then the order of the membership.
//     All survivors come to the same one, or to none if they see different things; then Raft's timers decide.
//  3. If that is this node, and nobody else has taken over meanwhile, stand for election. A false alarm costs a change of leader and
//     nothing else: votes and terms are Raft's, and read indexes are given by terms, not by leases.
func (g *Group) takeOver(node string) {
	if !slices.Contains(g.cfg.Group.Voters, g.cfg.Self) {
		return
	}
	go func() { // ends soon, and with the group
		ctx, cancel := context.WithTimeout(g.ctx, suspectTimeout)
		defer cancel()
		survivors := g.agree(ctx, node) // step 1
		if survivors == nil || g.best(survivors) != g.cfg.Self || g.cfg.Peers.Up(node) {
			return
		}
		if now := g.Leader(); now != "" && now != node {
			return
		}
		e, ok := g.cfg.Transport.(elector)
		if !ok {
			return
		}
		if err := e.Elect(ctx); err != nil { // step 3
			g.cfg.Log.Warn("could not stand for election", "shard", g.Shard(), "err", err)
			return
		}
		g.cfg.Log.Info("stands for election: the leader's node is lost", "shard", g.Shard(), "lost", node)
	}()
}

// agree asks until a majority of the voters, this one included, has lost node: they do not notice in the same moment.
// nil when that does not come about.
func (g *Group) agree(ctx context.Context, node string) []survivor {
	for {
		if s := g.survivors(ctx, node); len(s) > len(g.cfg.Group.Voters)/2 {
			return s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(suspectPause):
		}
	}
}

// survivors are the voters, this one included, that have lost node.
func (g *Group) survivors(ctx context.Context, node string) []survivor {
	out := []survivor{{g.cfg.Self, g.fitness()}}
	answers := make(chan survivor)
	asked := 0
	for _, v := range g.cfg.Group.Voters {
		if v == g.cfg.Self || v == node || !g.cfg.Peers.Up(v) {
			continue
		}
		asked++
		go func() {
			var resp SuspectResponse
			err := g.cfg.Peers.Call(ctx, v, MethodSuspect, &SuspectRequest{Shard: g.Shard(), Node: node}, &resp)
			if err != nil || !resp.Down {
				v = ""
			}
			answers <- survivor{v, resp.Last}
		}()
	}
	for range asked {
		if s := <-answers; s.node != "" {
			out = append(out, s)
		}
	}
	return out
}

// fitness is what survivors compare.
func (g *Group) fitness() uint64 {
	if g.unfit() != nil {
		return 0
	}
	return g.raft.LastIndex()
}

// best is step 2.
func (g *Group) best(survivors []survivor) string {
	rank := func(s survivor) int {
		i := slices.Index(g.cfg.Group.Voters, s.node)
		if !slices.Contains(g.cfg.Preferred, s.node) {
			i += len(g.cfg.Group.Voters)
		}
		return i
	}
	top := slices.MaxFunc(survivors, func(a, b survivor) int {
		if a.last != b.last {
			return int(int64(a.last) - int64(b.last))
		}
		return rank(b) - rank(a)
	})
	return top.node
}
