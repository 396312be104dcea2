package liveness

import (
	"math/bits"
	"sync"
	"time"
)

// Lateness remembers how long answers to pings took, as a histogram that fades, and says how long an answer may take before the
// peer is in doubt. A link on which answers are often a second late gets more time than one on which they never are: the idea is
// that of the φ accrual detector (Hayashibara et al., 2004), with a quantile that was seen in place of a distribution that is assumed.
// What was under way when a connection was given up does not count: a node that was frozen or cut off says nothing about the link.
type Lateness struct {
	mu     sync.Mutex // guards the rest
	counts [lateBuckets]float64
	total  float64
	faded  time.Time // when all counts were halved last
}

// A bucket is an eighth of a doubling of microseconds: what is read from it is at most 9 % too high.
const (
	lateSteps   = 8
	lateBuckets = 26 * lateSteps // up to a minute
	lateHalf    = 30 * time.Second
	lateShare   = 0.995 // of answers that came within what late gives
)

func lateBucket(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 1))
	whole := bits.Len64(us) - 1
	part := int((us << lateSteps >> whole) & (1<<lateSteps - 1)) // of the way to the next doubling, in 256ths
	return min(whole*lateSteps+part*lateSteps>>lateSteps, lateBuckets-1)
}

// upTo is the upper bound of a bucket.
func upTo(bucket int) time.Duration {
	whole, part := bucket/lateSteps, bucket%lateSteps
	us := uint64(1) << whole
	return time.Duration(us+us*uint64(part+1)/lateSteps) * time.Microsecond
}

// Add notes how long an answer took.
func (l *Lateness) Add(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wall := time.Now(); wall.Sub(l.faded) >= lateHalf {
		l.total = 0
		for i := range l.counts {
			l.counts[i] /= 2
			l.total += l.counts[i]
		}
		l.faded = wall
	}
	l.counts[lateBucket(took)]++
	l.total++
}

// within is the time in which a share of the answers came; 0 when nothing is known. Called under mu.
func (l *Lateness) within(share float64) time.Duration {
	if l.total == 0 {
		return 0
	}
	sum := 0.0
	for i, c := range l.counts {
		if sum += c; c > 0 && sum >= share*l.total {
			return upTo(i)
		}
	}
	return upTo(lateBuckets - 1)
}

// The least and the most that a peer's answer may take, besides the time between two pings.
const (
	doubtLeast = 120 * time.Millisecond // more than usual
	doubtMost  = 2500 * time.Millisecond
)

// Patience is how long the oldest unanswered ping may be out.
func (l *Lateness) Patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total == 0 {
		return doubtMost
	}
	usual, late := l.within(0.5), l.within(lateShare)
	return min(max(usual+doubtLeast, late+late/4), doubtMost)
}
