package shard

import (
	"sync"

	"github.com/hashicorp/raft"
)

// leaders tells who waits for a leader that this replica has come to know of another one, or of none.
type leaders struct {
	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// watch is called once. Raft calls the filter from its main loop when its leader changes; nothing is sent to the observer.
func (l *leaders) watch(r *raft.Raft) {
	l.changed = make(chan struct{})
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if _, ok := o.Data.(raft.LeaderObservation); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			close(l.changed)
			l.changed = make(chan struct{})
		}
		return false
	}))
}

// change is closed with the next change.
func (l *leaders) change() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
