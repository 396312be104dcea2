package pop3

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errInUse = errors.New("another session has the maildrop open")

// locks are the maildrops that are open at this server, one session each (RFC 1939 section 4). A login waits a little for the session before
// it to end: a client that lost its connection comes back at once, and its old session ends with the connection.
type locks struct {
	patience time.Duration

	mu   sync.Mutex               // guards held
	held map[uint64]chan struct{} // by account; closed when it is given up
}

func newLocks(patience time.Duration) *locks {
	return &locks{patience: patience, held: make(map[uint64]chan struct{})}
}

// lock takes an account's maildrop, and reports whether it got it in time.
func (l *locks) lock(ctx context.Context, account uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for {
		l.mu.Lock()
		other, taken := l.held[account]
		if !taken {
			l.held[account] = make(chan struct{})
		}
		l.mu.Unlock()
		if !taken {
			return true
		}
		select {
		case <-other:
		case <-ctx.Done():
			return false
		}
	}
}

// unlock gives it up.
func (l *locks) unlock(account uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[account])
	delete(l.held, account)
}
