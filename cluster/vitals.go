package cluster

import (
	"context"
	"fmt"
	"time"

	"hongyan/cluster/liveness"
	"hongyan/cluster/pause"
	"hongyan/engine/journal"
)

// How this node finds out that its disk does not get on. The journal is the pulse: every commit of every shard writes to it.
const (
	pulseEvery = 50 * time.Millisecond
	pulseSlow  = 100 * time.Millisecond // the mean of the last second's writes, if that is slowBy usual ones
	pulseHung  = time.Second            // a write that took longer says nothing of how long the others may
	slowBy     = 10
	slowFrames = 5               // fewer say nothing about a mean
	wellAfter  = 2 * time.Second // without a reason to worry
)

// pulse judges a journal by its writes.
type pulse struct {
	late   liveness.Lateness // of the longest writes in pulseEvery: one write may take as long as an answer from a peer, by the same rule
	usual  time.Duration     // of a write, as long as the disk was well
	frames uint64            // at the last look at means, and the time spent then
	busy   time.Duration
	looked time.Time
	ill    string
	last   time.Time // when it was ill last
}

// feel says why the disk is not well, "" if it is.
func (p *pulse) feel(now time.Time, stalled, longest time.Duration, s journal.Stats) string {
	why := ""
	if longest > 0 && longest < pulseHung {
		p.late.Add(longest)
	}
	if stalled > p.late.Patience() {
		why = fmt.Sprintf("a write to the journal has taken %s so far", stalled.Round(time.Millisecond))
	}
	if frames := s.Frames - p.frames; now.Sub(p.looked) >= time.Second {
		if frames >= slowFrames {
			mean := (s.Busy - p.busy) / time.Duration(frames)
			switch {
			case p.usual > 0 && mean > max(pulseSlow, slowBy*p.usual):
				why = fmt.Sprintf("writes to the journal take %s, %s is usual", mean.Round(time.Microsecond), p.usual.Round(time.Microsecond))
			case p.usual == 0:
				p.usual = mean
			default:
				p.usual += (mean - p.usual) / 16
			}
		}
		p.frames, p.busy, p.looked = s.Frames, s.Busy, now
	}
	switch {
	case why != "":
		p.ill, p.last = why, now
	case now.Sub(p.last) > wellAfter:
		p.ill = ""
	}
	return p.ill
}

// watchVitals tells the network when this node's disk hangs or has become slow, so that others lead and take in mail in its place.
func (n *Node) watchVitals(ctx context.Context) {
	tick := pause.Ticker(pulseEvery)
	defer tick.Stop()
	p := pulse{looked: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			why := p.feel(now, n.logs.Stalled(), n.logs.Longest(), n.logs.Journal())
			if err := n.logs.Failed(); err != nil {
				why = err.Error()
			}
			n.net.Ail(why)
		}
	}
}
