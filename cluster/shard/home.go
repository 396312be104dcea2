package shard

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// How leadership returns to the home region: looked at each homeTick; a preferred voter must have been up for
// homeSettled looks in a row and lag by at most homeLag entries. A hand-over that failed or did not last is followed by a pause, at first
// homeRetry: a node at home that comes and goes must not cost its shards an election each time.
const (
	homeTick      = time.Second
	homeSettled   = 3
	homeLag       = 64
	homeRetry     = 10 * time.Second
	homeRetryMost = 5 * time.Minute
)

// abdicateTick is how often a leader looks whether its store works.
const abdicateTick = 500 * time.Millisecond

// AppliedRequest asks a replica how far it is.
type AppliedRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// AppliedResponse is the last entry in a replica's state.
type AppliedResponse struct {
	Index uint64 `cbor:"1,keyasint"`
}

// MethodApplied asks a replica for its applied index.
const MethodApplied = "shard.applied"

// keepHome moves leadership to a preferred voter that is up and caught up, while this node leads from elsewhere.
func (g *Group) keepHome(ctx context.Context) {
	if slices.Contains(g.cfg.Preferred, g.cfg.Self) {
		return
	}
	tick := time.NewTicker(homeTick)
	defer tick.Stop()
	settled := make(map[string]int)
	var way homeward
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range g.cfg.Preferred {
			if g.cfg.Peers.Up(p) {
				settled[p]++
			} else {
				settled[p] = 0
			}
			if settled[p] < homeSettled || !way.clear(time.Now()) || !g.IsLeader() || !g.caughtUp(ctx, p) {
				continue
			}
			way.taken(time.Now())
			if err := g.handOver(ctx, p); err != nil {
				g.cfg.Log.Warn("could not hand leadership home", "shard", g.Shard(), "to", p, "err", err)
			}
			break
		}
	}
}

// homeward spaces hand-overs.
type homeward struct {
	last  time.Time
	pause time.Duration // after last
}

// clear says whether the next one may be tried.
func (h *homeward) clear(now time.Time) bool { return h.last.IsZero() || now.Sub(h.last) >= h.pause }

// taken notes one. The pause grows while hand-overs follow each other as soon as they may.
func (h *homeward) taken(now time.Time) {
	if h.last.IsZero() || now.Sub(h.last) >= 2*h.pause {
		h.pause = homeRetry
	} else {
		h.pause = min(2*h.pause, homeRetryMost)
	}
	h.last = now
}

func (g *Group) caughtUp(ctx context.Context, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, homeTick)
	defer cancel()
	var resp AppliedResponse
	err := g.cfg.Peers.Call(ctx, node, MethodApplied, &AppliedRequest{Shard: g.Shard()}, &resp)
	return err == nil && resp.Index+homeLag >= g.Applied()
}

// unfit is why this replica should not lead: it would commit entries and answer none of them, or none in time.
func (g *Group) unfit() error { return errors.Join(g.Err(), g.cfg.Store.Ready()) }

// abdicate hands leadership over when this replica's store has failed or cannot flush, to a voter that is better off.
func (g *Group) abdicate(ctx context.Context) {
	tick := time.NewTicker(abdicateTick)
	defer tick.Stop()
	for stopped := g.fsm.stopped; ; {
		select {
		case <-ctx.Done():
			return
		case <-stopped:
			stopped = nil
		case <-tick.C:
		}
		if g.raft.State() != raft.Leader {
			continue
		}
		if why := g.unfit(); why != nil {
			g.leaveTo(ctx, why)
		}
	}
}

func (g *Group) leaveTo(ctx context.Context, why error) {
	for _, v := range g.cfg.Group.Voters {
		if v == g.cfg.Self || !g.cfg.Peers.Up(v) || !g.caughtUp(ctx, v) {
			continue
		}
		g.cfg.Log.Warn("hands leadership over", "shard", g.Shard(), "to", v, "err", why)
		if err := g.handOver(ctx, v); err == nil {
			return
		}
	}
}

// handOver gives leadership to node; raft brings it up to date first.
func (g *Group) handOver(ctx context.Context, node string) error {
	return g.await(ctx, g.raft.LeadershipTransferToServer(raft.ServerID(node), raft.ServerAddress(node)))
}
