package reconcile

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/client"
)

func newTest() *Service {
	s := &Service{turn: make(chan struct{}, 1), jobs: make(map[key]*job), memo: make(map[key]outcome)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Who asks about the same message while it is looked into, or soon after, causes no second look; a reader waits so long and no longer, and the work goes on.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest()
		defer s.Close()
		var looks atomic.Int32
		k := key{account: 1, folder: 1, uid: 1}
		ask := func(takes time.Duration, err error) outcome {
			return s.once(t.Context(), k, func(ctx context.Context) outcome {
				looks.Add(1)
				time.Sleep(takes)
				return outcome{err: err, dear: true}
			})
		}
		var work sync.WaitGroup
		for range 5 {
			work.Go(func() {
				if out := ask(time.Second, client.ErrLost); !errors.Is(out.err, client.ErrLost) {
					t.Error(out.err)
				}
			})
		}
		work.Wait()
		for range 5 {
			ask(time.Second, client.ErrLost)
			time.Sleep(time.Minute)
		}
		if n := looks.Load(); n != 1 {
			t.Errorf("%d looks", n)
		}
		time.Sleep(lostFor)
		if out := ask(time.Minute, nil); !errors.Is(out.err, client.ErrUnavailable) || looks.Load() != 2 {
			t.Errorf("%d looks, %v", looks.Load(), out.err)
		}
		time.Sleep(time.Minute)
		if out := ask(0, nil); out.err != nil || looks.Load() != 2 {
			t.Errorf("%d looks, %v", looks.Load(), out.err)
		}
	})
}

// One message at a time is looked into, with a rest after each, and so many wait and no more.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest()
		defer s.Close()
		var now, most, refused atomic.Int32
		var work sync.WaitGroup
		began := time.Now()
		for i := range maxWaiting + 10 {
			work.Go(func() {
				out := s.once(t.Context(), key{uid: uint32(i + 1)}, func(context.Context) outcome {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(50 * time.Millisecond)
					now.Add(-1)
					return outcome{}
				})
				if errors.Is(out.err, client.ErrUnavailable) {
					refused.Add(1)
				}
			})
		}
		work.Wait()
		s.mu.Lock()
		left := len(s.jobs)
		s.mu.Unlock()
		if took := time.Since(began); most.Load() != 1 || left != 0 || refused.Load() < 10 || took < 6*time.Second {
			t.Errorf("%d at once, %d left, %d refused, after %v", most.Load(), left, refused.Load(), took)
		}
	})
}
