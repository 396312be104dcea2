package index

import "github.com/cockroachdb/pebble/v2"

// stepper moves an iterator on, key by key. Until the next flush pebble keeps every version that a key had, and its Next passes over them one by one: flags that
// were stored a hundred times took forty times as long to read. NextPrefix looks for the next key from the top instead. That costs more where a key
// has six to some twenty versions, so each few keys a step is made by Next, to see how many there are.
type stepper struct {
	steps int  // since one looked
	pause int  // how many must be between two that look
	few   bool // the key that was looked at has few versions
}

const (
	lookSteps   = 16 // between two steps that look, or as many as that one passed over
	fewVersions = 20 // up to where Next is quicker
)

func (s *stepper) next(it *pebble.Iterator) bool {
	s.steps++
	switch {
	case s.steps >= max(s.pause, lookSteps):
		before := passed(it)
		ok := it.Next()
		s.steps, s.pause = 0, passed(it)-before
		s.few = s.pause <= fewVersions
		return ok
	case s.few:
		return it.Next()
	}
	return it.NextPrefix() // no key is a prefix of others to pebble's comparer
}

// passed is how many versions an iterator has stepped over.
func passed(it *pebble.Iterator) int { return it.Stats().ForwardStepCount[pebble.InternalIterCall] }
