package scenario

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"hongyan/bench/load/read"
)

// idlers are sessions in IDLE that do nothing else.
type idlers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

const loginsAtOnce = 8 // each costs the server a password hash

// openIdle has n sessions on the nodes in turn, with its accounts in turn, all in IDLE when it returns.
func (e *Env) openIdle(ctx context.Context, n int) (*idlers, error) {
	ctx, stop := context.WithCancel(ctx)
	all := &idlers{stop: stop}
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(loginsAtOnce)
	for i := range n {
		g.Go(func() error {
			s, err := e.login(opening, i%len(e.Target.Nodes), e.Target.Accounts[i%len(e.Target.Accounts)], read.Options{})
			if err != nil {
				return fmt.Errorf("session %d: %w", i+1, err)
			}
			if _, err := s.Select(opening, inbox); err != nil {
				s.Close()
				return fmt.Errorf("session %d: %w", i+1, err)
			}
			standing := make(chan struct{})
			ended := make(chan error, 1)
			all.wg.Go(func() {
				defer s.Close()
				ended <- s.Watch(ctx, func() { close(standing) }, func(read.Notice) {})
			})
			select {
			case <-standing:
				return nil
			case err := <-ended:
				return fmt.Errorf("session %d: %w", i+1, err)
			}
		})
	}
	if err := g.Wait(); err != nil {
		all.close()
		return nil, fmt.Errorf("open idle sessions: %w", err)
	}
	return all, nil
}

// close ends them all.
func (i *idlers) close() {
	i.stop()
	i.wg.Wait()
}
