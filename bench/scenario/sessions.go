package scenario

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
)

// idlers are sessions in IDLE that do nothing else.
type idlers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

const loginsAtOnce = 8 // each costs the server a password hash

// openIdle has n sessions on the target's nodes in turn, with its accounts in turn, all in IDLE when it returns.
func openIdle(ctx context.Context, t load.Target, n int) (*idlers, error) {
	ctx, stop := context.WithCancel(ctx)
	all := &idlers{stop: stop}
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(loginsAtOnce)
	for i := range n {
		g.Go(func() error {
			s, err := read.DialIMAP(opening, t, i%len(t.Nodes), read.Options{})
			if err != nil {
				return err
			}
			err = s.Login(opening, t.Accounts[i%len(t.Accounts)])
			if err == nil {
				_, err = s.Select(opening, "INBOX")
			}
			if err != nil {
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
