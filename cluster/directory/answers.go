package directory

import (
	"sync"
	"time"
)

// How long a node without a replica goes by an answer, and how many it keeps of a kind.
const (
	answerKept  = 500 * time.Millisecond
	answersKept = 1024
)

// answers are what such a node was told of things by name. The zero value is ready, and safe for concurrent use.
type answers[T any] struct {
	mu     sync.Mutex // guards byName
	byName map[string]answer[T]
}

type answer[T any] struct {
	value T
	until time.Time
}

func (a *answers[T]) get(name string) (T, bool) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	kept, ok := a.byName[name]
	return kept.value, ok && now.Before(kept.until)
}

func (a *answers[T]) put(name string, value T) {
	until := time.Now().Add(answerKept)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byName == nil || len(a.byName) >= answersKept {
		a.byName = make(map[string]answer[T])
	}
	a.byName[name] = answer[T]{value, until}
}
