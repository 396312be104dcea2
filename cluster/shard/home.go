package shard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How leadership returns to the home region: looked at each lookEvery; a preferred voter must have been sound for
// homeSettled looks in a row and lag by at most homeLag entries. A hand-over that failed or did not last is followed by a pause, at first
// homeRetry: a node at home that comes and goes must not cost its shards an election each time.
const (
	lookEvery     = 500 * time.Millisecond
	homeSettled   = 6
	firstLooks    = 2 // at a group without a leader
	homeLag       = 64
	homeRetry     = 10 * time.Second
	homeRetryMost = 5 * time.Minute
	askTimeout    = time.Second // how far another replica is
)

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

// watch is what has been seen of a group by those who look after it: the node's one goroutine for all groups, since a timer for each
// would be most of what idle shards cost.
type watch struct {
	mu      sync.Mutex // held for a look, which takes no time; guards the rest
	over    bool       // the group stops
	acting  bool       // a hand-over is under way
	settled map[string]int
	way     homeward
	led     bool // the group has had a leader since it started here, or was given one try to have this node
	waited  int  // looks without one while a majority is up
}

// end waits for a look that is under way; later ones do nothing.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// lookAfter looks after all groups until the host stops. The first that is added starts it.
func (h *Host) lookAfter() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		for _, g := range h.Groups() {
			g.look(time.Now())
		}
	}
}

// look has a leader that should not lead hand over: at once when its store has failed or cannot flush, and to a preferred voter once one
// is out of doubt and caught up.
func (g *Group) look(now time.Time) {
	w := &g.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	home := g.settledHome()
	g.calmFor(now)
	switch {
	case w.acting:
		return
	case g.raft.State() != raft.Leader:
		if g.leaderless() {
			w.act(g, func() { g.standNow("nobody leads yet") })
		}
		return
	}
	w.led = true
	if why := g.unfit(); why != nil {
		w.act(g, func() { g.leaveTo(g.ctx, why) })
	} else if len(home) > 0 && w.way.clear(now) && g.IsLeader() {
		w.act(g, func() { g.goHome(g.ctx, home) })
	}
}

// leaderless says, once at most, that a group which has just started needs this node as its first leader: a majority has been up for
// firstLooks, nobody leads, and no voter that is up should rather. Raft's own timers, which are wide, would take seconds, and
// rarely choose a node at home. g.watch.mu is held.
func (g *Group) leaderless() bool {
	w := &g.watch
	if w.led || g.Leader() != "" {
		w.led = true
		return false
	}
	r := g.roster()
	up := slices.DeleteFunc(slices.Clone(r.Voters), func(v string) bool { return v != g.cfg.Self && !g.cfg.Peers.Up(v) })
	if w.waited++; len(up) <= len(r.Voters)/2 || !slices.Contains(up, g.cfg.Self) {
		w.waited = 0
	}
	if w.waited < firstLooks {
		return false
	}
	best := up[0]
	if i := slices.IndexFunc(up, func(v string) bool { return slices.Contains(r.preferred, v) }); i >= 0 {
		best = up[i]
	}
	w.led = true
	return best == g.cfg.Self && g.unfit() == nil
}

// standNow has this node stand for election. Raft grants it only if the log is long enough.
func (g *Group) standNow(why string) {
	ctx, cancel := context.WithTimeout(g.ctx, suspectTimeout)
	defer cancel()
	g.standKnowing(ctx, nil, why)
}

// act runs f, which may take a while, beside the looks. w.mu is held.
func (w *watch) act(g *Group, f func()) {
	w.acting = true
	g.workers.Go(func() {
		f()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.acting = false
	})
}

// settledHome gives the preferred voters that have been sound for a while, none at home itself. g.watch.mu is held.
func (g *Group) settledHome() (home []string) {
	r := g.roster()
	if slices.Contains(r.preferred, g.cfg.Self) {
		return nil
	}
	w := &g.watch
	if w.settled == nil {
		w.settled = make(map[string]int)
	}
	for _, p := range r.preferred {
		if g.cfg.Peers.InDoubt(p) { // a transfer to a node whose disk hangs would leave the group without a leader for Raft's timeout
			w.settled[p] = 0
		} else if w.settled[p]++; w.settled[p] >= homeSettled {
			home = append(home, p)
		}
	}
	return home
}

// goHome moves leadership to the first of the preferred voters that has caught up.
func (g *Group) goHome(ctx context.Context, preferred []string) {
	for _, p := range preferred {
		if !g.caughtUp(ctx, p) {
			continue
		}
		g.watch.mu.Lock()
		g.watch.way.taken(time.Now())
		g.watch.mu.Unlock()
		if err := g.handOver(ctx, p); err != nil {
			g.cfg.Log.Warn("could not hand leadership home", "shard", g.Shard(), "to", p, "err", err)
		}
		return
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
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var resp AppliedResponse
	err := g.cfg.Peers.Call(ctx, node, MethodApplied, &AppliedRequest{Shard: g.Shard()}, &resp)
	return err == nil && resp.Index+homeLag >= g.Applied()
}

// unfit is why this replica should not lead: it would commit entries and answer none of them, or none in time.
func (g *Group) unfit() error { return errors.Join(g.Err(), g.cfg.Store.Ready()) }

// leaveTo hands leadership to a voter that is sound, if one is.
func (g *Group) leaveTo(ctx context.Context, why error) {
	for _, v := range g.roster().Voters {
		if v == g.cfg.Self || g.cfg.Peers.InDoubt(v) || !g.caughtUp(ctx, v) {
			continue
		}
		g.cfg.Log.Info("hands leadership over", "shard", g.Shard(), "to", v, "why", why)
		err := g.handOver(ctx, v)
		if err == nil {
			return
		}
		g.cfg.Log.Warn("could not hand leadership over", "shard", g.Shard(), "to", v, "err", err)
	}
}

var errHeir = errors.New("the node that was to lead is in doubt")

// handOver gives leadership to node. Raft brings it up to date first, and takes no proposals until it leads or an election timeout is over: a
// node that comes in doubt meanwhile is not waited for, this one has itself elected again.
func (g *Group) handOver(ctx context.Context, node string) error {
	if g.cfg.Peers.InDoubt(node) {
		return errHeir
	}
	over, stood := make(chan struct{}), false
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-g.cfg.Peers.Doubted(node): // the transport gives up as well, and most transfers with it
		case <-over:
			return
		}
		select {
		case <-time.After(suspectGrace):
			if stood = g.raft.State() == raft.Leader; stood {
				g.standNow(errHeir.Error())
			}
		case <-over:
		}
	})
	err := g.await(ctx, g.raft.LeadershipTransferToServer(raft.ServerID(node), raft.ServerAddress(node)))
	close(over)
	watching.Wait()
	if stood { // for Raft a leader that stands has handed over
		err = errHeir
	}
	return err
}
