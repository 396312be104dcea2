package shard

import (
	"sync"
	"time"
)

// How elections of a group are spaced.
const (
	calmAfter = 5 * time.Second // that a leader has been known for, and an election before it counts no more
	mostTries = 7               // 12.8 s; should the leader then fail for good, Raft's own timers, which are shorter, notice
)

// calm keeps a group's elections from overtaking each other. The first one after quiet times is held at once. Each that follows soon waits twice as long as the one before, from when
// the term began: with disks or links so slow that an election takes longer than what usually suffices, everyone would else stand in a later term before the votes of
// this one are in, and what that writes makes the disks slower still. All voters see the same terms, so they wait alike.
type calm struct {
	mu    sync.Mutex // guards the rest
	term  uint64     // 0: none was seen yet
	since time.Time  // when it was first seen here
	led   time.Time  // since when a leader is known, or the last time that this took a try away; zero without one
	tries uint64     // elections of late
}

// note takes account of a term that this replica is in, and of whether it knows a leader.
func (c *calm) note(term uint64, led bool, now time.Time) {
	if term != c.term {
		if c.term != 0 {
			c.tries = min(c.tries+term-c.term, mostTries)
		}
		c.term, c.since, c.led = term, now, time.Time{}
	}
	switch {
	case !led:
		c.led = time.Time{}
	case c.led.IsZero():
		c.led = now
	case now.Sub(c.led) >= calmAfter:
		c.led = now
		c.tries = max(c.tries, 1) - 1
	}
}

// wait is how long it is until the next election may be held; not positive: now.
func (c *calm) wait(now time.Time) time.Duration {
	if c.tries == 0 {
		return 0
	}
	return standPatience<<(c.tries-1) - now.Sub(c.since)
}

// calmFor notes how the group is, and gives how long it is until its next election.
func (g *Group) calmFor(now time.Time) time.Duration {
	term, led := g.raft.CurrentTerm(), g.Leader() != ""
	g.calm.mu.Lock()
	defer g.calm.mu.Unlock()
	g.calm.note(term, led, now)
	return g.calm.wait(now)
}
