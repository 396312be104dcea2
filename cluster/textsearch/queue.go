package textsearch

import (
	"sync"
	"time"

	"hongyan/engine/fulltext"
)

const (
	gatherFor  = 500 * time.Millisecond // after a mailbox changed: a burst becomes one segment
	maxWaiting = 100_000                // mailboxes of each kind that wait
	firstRetry = time.Second
	lastRetry  = 2 * time.Minute
	maxTries   = 10 // to read a message, over about ten minutes
)

// lane is one of the two lists of mailboxes that wait.
type lane int

const (
	fresh lane = iota // changed just now
	old               // found by a sweep, or with much to index
	lanes
)

// line is a list of mailboxes, each at most once.
type line struct {
	since map[fulltext.Mailbox]time.Time // when it came
	order []fulltext.Mailbox
}

// queue is what waits to be indexed.
type queue struct {
	wake [lanes]chan struct{} // capacity one

	mu     sync.Mutex // guards what follows
	lines  [lanes]line
	busy   map[fulltext.Mailbox]time.Time // being indexed, and when it came
	failed map[fulltext.Mailbox]failure
}

// failure is of a mailbox of which a message could not be read.
type failure struct {
	uid   uint32
	tries int
	until time.Time // it is left alone
}

func newQueue() *queue {
	q := &queue{busy: make(map[fulltext.Mailbox]time.Time), failed: make(map[fulltext.Mailbox]failure)}
	for i := range q.lines {
		q.wake[i] = make(chan struct{}, 1)
		q.lines[i].since = make(map[fulltext.Mailbox]time.Time)
	}
	return q
}

// add has a mailbox wait. ok is false when too many do.
func (q *queue) add(l lane, m fulltext.Mailbox, came time.Time) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.addLocked(l, m, came)
}

func (q *queue) addLocked(l lane, m fulltext.Mailbox, came time.Time) bool {
	w := &q.lines[l]
	if _, known := w.since[m]; known {
		return true
	}
	if len(w.order) >= maxWaiting {
		return false
	}
	w.since[m] = came
	w.order = append(w.order, m)
	select {
	case q.wake[l] <- struct{}{}:
	default:
	}
	return true
}

// take gives the next mailbox of a lane, which is busy until done is called; or how long to wait for one.
func (q *queue) take(l lane, now time.Time) (m fulltext.Mailbox, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &q.lines[l]
	for range len(w.order) {
		m := w.order[0]
		came := w.since[m]
		if left := came.Add(gatherFor).Sub(now); l == fresh && left > 0 {
			return m, left, false
		}
		w.order = w.order[1:]
		if _, busy := q.busy[m]; busy || now.Before(q.failed[m].until) {
			w.order = append(w.order, m)
			continue
		}
		delete(w.since, m)
		q.busy[m] = came
		return m, 0, true
	}
	return m, time.Second, false
}

// done ends what take began; again has the mailbox wait once more, in that lane. ok is false when too many wait there.
func (q *queue) done(m fulltext.Mailbox, again bool, l lane) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	came := q.busy[m]
	delete(q.busy, m)
	return !again || q.addLocked(l, m, came)
}

// fail notes that a message could not be read, and says how often that was.
func (q *queue) fail(m fulltext.Mailbox, uid uint32, now time.Time) (tries int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.failed[m]
	if f.uid != uid {
		f = failure{uid: uid}
	}
	f.until = now.Add(min(lastRetry, firstRetry<<min(f.tries, 10)))
	f.tries++
	q.failed[m] = f
	return f.tries
}

// hopeless says that a message was tried to be read often enough.
func (q *queue) hopeless(m fulltext.Mailbox, uid uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.failed[m]
	return f.uid == uid && f.tries >= maxTries
}

func (q *queue) succeed(m fulltext.Mailbox) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.failed, m)
}

// waiting counts the mailboxes that wait, and says since when the oldest of the fresh ones does; zero: none does.
func (q *queue) waiting() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	oldest := func(t time.Time) {
		if since.IsZero() || t.Before(since) {
			since = t
		}
	}
	for _, t := range q.lines[fresh].since {
		oldest(t)
	}
	return len(q.lines[fresh].order) + len(q.lines[old].order) + len(q.busy), since
}

// late says that the next mailbox of a lane has waited for longer than lag.
func (q *queue) late(l lane, now time.Time, lag time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &q.lines[l]
	return len(w.order) > 0 && now.Sub(w.since[w.order[0]]) > lag
}

// room says whether a sweep may add more.
func (q *queue) room() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines[old].order) < maxWaiting/2
}
