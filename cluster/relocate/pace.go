package relocate

import "time"

// How many groups of accounts move at once follows from how long a commit takes: the idea is that of TCP Vegas. What it takes in quiet times is known from the quickest one
// lately; when commits take much longer, mail waits for the moves or the moves for mail, and there are to be fewer of them, down to one at a time, with a longer rest after
// each. On a machine that is slow for other reasons that would be few: so another one begins every so often, whatever commits take.
const (
	atOnce      = 4
	firstRoom   = 2
	slowFifths  = 6                      // of what it takes in quiet times, and slowBy
	slowBy      = 500 * time.Microsecond // a disk's or a scheduler's whims
	forgetting  = 256                    // commits after which a quickest one counts little
	often       = time.Second
	rests       = 1 // of the time that a group took, before the next one: commits do not show what the processor is kept from
	slowRests   = 4 // in slow times
	longestRest = 500 * time.Millisecond
)

// pace is how fast a node moves accounts. The zero value has seen nothing yet.
type pace struct {
	quiet time.Duration // a commit in quiet times
	now   time.Duration // of late
	room  float64       // how many groups there may be
	begun time.Time     // when the last one began
}

// note takes account of a commit.
func (p *pace) note(took time.Duration) {
	if p.quiet == 0 {
		p.quiet, p.now, p.room = took, took, firstRoom
	}
	p.quiet = min(took, p.quiet+(took-p.quiet)/forgetting)
	p.now += (took - p.now) / 4
	if p.slow() {
		p.room = max(1, p.room*3/4)
	} else {
		p.room = min(atOnce, p.room+1/p.room)
	}
}

func (p *pace) slow() bool { return p.now > p.quiet*slowFifths/5+slowBy }

// most is how many groups may move at once.
func (p *pace) most() int { return max(firstRoom/2, int(p.room)) }

// begin is how many groups may begin, beside those that are under way or rest.
func (p *pace) begin(now time.Time, active int) int {
	if room := p.most() - active; room > 0 {
		return room
	}
	if active < atOnce && now.Sub(p.begun) >= often {
		return 1
	}
	return 0
}

// rest is how long a group that took so long keeps its place when it is done.
func (p *pace) rest(took time.Duration) time.Duration {
	times := time.Duration(rests)
	if p.slow() {
		times = slowRests
	}
	return min(times*took, longestRest)
}
