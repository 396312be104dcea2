package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/shard"
)

// When this node cannot work safely any more. It then says so on /readyz, has others lead and take in mail (vitals.go), and its process should end:
// what it has promised is on its disk, and a start either takes that up again or fails with the reason.
//
//  1. The journal has failed to write or fsync. It takes nothing any more, so no group here can vote or follow.
//  2. A write to the journal has hung for longer than disk_hang_seconds.
//  3. The index is damaged, or took an entry badly. The next start fetches it from other nodes, or replays the log.
//  4. Another process lives as this node (twin.go).
//
// A group that meets an entry of a newer program stops alone: the others here are as good as ever, and a start would not help.

var errIndexDamaged = errors.New("the index is damaged; started again, the node fetches it from the others")

// Unfit gives the reason once this node cannot work safely any more.
func (n *Node) Unfit() <-chan error { return n.unfit }

// endUnfit gives a reason; the first one counts.
func (n *Node) endUnfit(why error) {
	n.log.Error("this node cannot work safely and should end", "err", why)
	select {
	case n.unfit <- why:
	default:
	}
}

// watchFitness looks for reasons until there is one.
func (n *Node) watchFitness(ctx context.Context) {
	tick := pause.Ticker(pulseEvery)
	defer tick.Stop()
	h := hang{limit: seconds(n.cfg.DiskHangSeconds), last: time.Now()}
	for {
		var why error
		select {
		case <-ctx.Done():
			return
		case <-n.store.Index.Damaged():
			why = errIndexDamaged
		case now := <-tick.C:
			why = n.fault(h.add(now, n.logs.Stalled()))
		}
		if why != nil {
			n.endUnfit(why)
			return
		}
	}
}

// fault is the first reason of those that are asked for.
func (n *Node) fault(hung time.Duration) error {
	if err := n.logs.Failed(); err != nil {
		return fmt.Errorf("the journal takes nothing any more: %w", err)
	}
	if hung > 0 {
		return fmt.Errorf("the disk hangs: a write to the journal has taken %s", hung.Round(time.Millisecond))
	}
	for _, g := range n.host.Groups() {
		if err := g.Err(); errors.Is(err, shard.ErrStore) {
			return fmt.Errorf("shard %d: the state machine stopped: %w", g.Shard(), err)
		}
	}
	return nil
}

// diskReason is a line for /readyz, "" while the journal is written to.
func (n *Node) diskReason() string {
	if err := n.logs.Failed(); err != nil {
		return "the journal takes nothing any more: " + err.Error()
	}
	if stalled := n.logs.Stalled(); stalled > pulseHung {
		return fmt.Sprintf("the disk hangs: a write to the journal has taken %s so far", stalled.Round(time.Second))
	}
	return ""
}

// hang measures how long a write hangs in time in which this process ran: one that was frozen with its machine comes back with a write that seems
// to have taken hours.
type hang struct {
	limit time.Duration // 0: none
	last  time.Time
	hung  time.Duration
}

// add takes note of a look at the write that is under way, and gives how long it hangs once that is over the limit, else 0.
func (h *hang) add(now time.Time, stalled time.Duration) time.Duration {
	ran := min(now.Sub(h.last), 4*pulseEvery)
	h.last = now
	if h.hung = min(h.hung+ran, stalled); h.limit == 0 || h.hung <= h.limit {
		return 0
	}
	return stalled
}
