// Package liveness judges by the answers to pings whether another node lives. It sends nothing itself: whoever has the connection asks a
// Detector when to ping, and tells it of answers.
package liveness

import (
	"sync/atomic"
	"time"
)

// leastStall is how late a Tick must be to count as one of a process that was stopped. It is well below the least patience: nobody is in doubt for that.
const leastStall = doubtLeast / 2

// State is what a detector thinks of the other node.
type State uint8

// The states.
const (
	Sound  State = iota // it answers as it usually does
	Silent              // an answer is overdue: others should be asked first
	Down                // none came for so long that the connection is of no use
)

// Detector watches one connection. All times are since the connection began. Answered may be called beside the other methods.
//
// A ping is sent every interval, and the first sooner. The oldest unanswered one was sent at most that long after the latest
// answered one, so silence since then plus what an answer may take means that it has waited too long. When this
// process was itself stopped or starved, which shows in a Tick that comes late, the peer gets a fresh start.
type Detector struct {
	silence time.Duration // at least, before it is down
	late    *Lateness

	answered atomic.Int64  // when the latest ping that was answered had been sent
	beat     time.Duration // pings are due at multiples of the interval after it
	lastPing time.Duration
	grace    time.Duration
	wake     time.Duration // when Tick is to be called
}

// NewDetector is for a connection whose first ping is sent now; Start comes before Tick. late is of all connections to that node.
func NewDetector(silence time.Duration, late *Lateness) *Detector {
	return &Detector{silence: silence, late: late}
}

// Answered notes the answer to the ping that was sent at a time. It says whether it is one to take a round trip time from.
func (d *Detector) Answered(sent, now time.Duration) bool {
	if now < sent || int64(sent) < d.answered.Load() {
		return false // not an answer to anything sent lately
	}
	d.late.Add(now - sent)
	d.answered.Store(int64(sent))
	return true
}

// Start is when watching begins: the next answer is a round trip and an interval away. Pings are due at multiples of the interval after
// beat, which is in the past or now: a node that has the same beat for all its connections wakes once for all of them. It gives when to
// call Tick.
func (d *Detector) Start(now, beat, interval time.Duration) (next time.Duration) {
	d.beat, d.lastPing, d.grace = beat, now-(now-beat)%interval, now
	d.wake = d.lastPing + interval
	return d.wake
}

// Tick gives the state, whether a ping is due, and when to call next. The interval may be another than the last time.
func (d *Detector) Tick(now, interval time.Duration) (state State, ping bool, next time.Duration) {
	if now-d.wake > min(interval, leastStall) {
		d.grace = now
	}
	heard := max(time.Duration(d.answered.Load()), d.grace)
	patience := d.late.Patience()
	down := heard + interval + max(d.silence, 3*patience/2)
	silent := heard + interval + patience
	switch {
	case now > down:
		state = Down
	case now > silent:
		state, silent = Silent, down
	}
	if ping = now >= d.due(interval); ping {
		d.lastPing = now - (now-d.beat)%interval
	}
	d.wake = min(d.due(interval), silent+time.Millisecond, down+time.Millisecond)
	return state, ping, d.wake
}

// due is when the next ping is.
func (d *Detector) due(interval time.Duration) time.Duration {
	return d.lastPing - (d.lastPing-d.beat)%interval + interval
}
