package pause

import "time"

// Ticker is one whose ticks come when the clock is at multiples of d, after a first interval of up to twice that. So what a process looks at every so often it looks at together:
// each time that an idle process wakes costs more than what it then does. A clock that jumps does not change the intervals.
func Ticker(d time.Duration) *time.Ticker {
	t := time.NewTicker(2 * d)
	time.AfterFunc(untilBeat(d), func() { t.Reset(d) })
	return t
}

// untilBeat is how long the clock takes to the next multiple of d.
func untilBeat(d time.Duration) time.Duration {
	return d - time.Duration(time.Now().UnixNano())%d
}
