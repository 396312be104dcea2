package textsearch

import (
	"context"
	"time"

	"hongyan/cluster/pause"
)

// How much of a core indexing may take: after working for a time it rests for so many times as long. A rest that lasts longer than it was
// meant to says that others wait for the processor, and then the next is longer.
const (
	restFresh  = 0.25
	restOld    = 6.0 // of what was there before: nobody waits for it
	restMuch   = 1.0 // when there is so much of it that it waits for longer than muchLag
	restTend   = 2.0
	restUrgent = 1.0 // when mail that was delivered waits for longer than urgentLag, however busy it is
	restBusy   = 6.0
	urgentLag  = 2 * time.Second
	muchLag    = time.Minute
	shortRest  = 2 * time.Millisecond
	leastRest  = 20 * time.Millisecond // shorter ones are put together: where many wait for the processor each costs another turn
	longRest   = 2 * time.Second
	lateRest   = 4 * time.Millisecond // more than this over is busy
	decayOfLag = 0.7
)

// pace is of one goroutine.
type pace struct {
	rest float64
	owed time.Duration
	late time.Duration // how much longer than meant rests are at present
}

// after rests from work that took so long.
func (p *pace) after(ctx context.Context, worked time.Duration, urgent bool) {
	factor := p.rest
	switch {
	case p.late <= lateRest:
	case urgent:
		factor = restUrgent
	default:
		factor = restBusy
	}
	if p.owed += time.Duration(float64(worked) * factor); p.owed < leastRest {
		return
	}
	rest := min(longRest, p.owed)
	p.owed = 0
	began := time.Now()
	pause.For(ctx, rest)
	p.late = time.Duration(decayOfLag*float64(p.late) + (1-decayOfLag)*float64(time.Since(began)-rest))
}
