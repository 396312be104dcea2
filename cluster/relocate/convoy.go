package relocate

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/shard"
)

// How long a move waits for the others of its convoy, and how long while its account is frozen.
const (
	meetWait   = 100 * time.Millisecond
	frozenWait = 25 * time.Millisecond
)

// convoy is of moves that go the same way. They take their steps together, in one log entry if they can: most of what it costs to
// move a small account is commits.
type convoy struct {
	commit func([]*task) // does them and closes their done; it may wait

	mu      sync.Mutex // guards the rest
	members int
	waiting []*task // each of another member
}

// task is a command that a member wants to have committed.
type task struct {
	ctx   context.Context // of who waits for it
	shard uint32
	level feature.Level
	body  []byte
	class shard.Class

	done   chan struct{} // closed when the rest is set
	result []byte
	at     uint64
	took   time.Duration
	err    error
}

// seat is one move's in its convoy. It is for one goroutine, which proposes by it.
type seat struct {
	convoy *convoy
	left   bool
	short  bool          // the account is frozen
	took   time.Duration // of the last commit, without the wait for others
}

// join gives a seat, before any member proposes.
func (c *convoy) join() seat {
	c.members++
	return seat{convoy: c}
}

// ProposeLevel is shard.Router's, together with what the other members propose: it waits until all have something, but not for long.
func (s *seat) ProposeLevel(ctx context.Context, number uint32, level feature.Level, body []byte, class shard.Class) (result []byte, at uint64, err error) {
	t := &task{ctx: ctx, shard: number, level: level, body: body, class: class, done: make(chan struct{})}
	c := s.convoy
	if s.left {
		go c.commit([]*task{t})
	} else {
		c.mu.Lock()
		c.waiting = append(c.waiting, t)
		c.goOn()
		c.mu.Unlock()
		wait := meetWait
		if s.short {
			wait = frozenWait
		}
		late := time.AfterFunc(wait, func() { c.goNow(t) })
		defer late.Stop()
	}
	select {
	case <-t.done:
		s.took = t.took
		return t.result, t.at, t.err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting = slices.DeleteFunc(c.waiting, func(w *task) bool { return w == t })
		return nil, 0, ctx.Err()
	}
}

// leave has the others go on alone.
func (s *seat) leave() {
	if s.left {
		return
	}
	s.left = true
	s.convoy.mu.Lock()
	defer s.convoy.mu.Unlock()
	s.convoy.members--
	s.convoy.goOn()
}

// goOn has what waits committed if that is all. The caller holds mu.
func (c *convoy) goOn() {
	if len(c.waiting) > 0 && len(c.waiting) >= c.members {
		c.take()
	}
}

// goNow has what waits committed if a task is still among it.
func (c *convoy) goNow(t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.waiting, t) {
		c.take()
	}
}

func (c *convoy) take() {
	tasks := c.waiting
	c.waiting = nil
	go c.commit(tasks)
}

// bundles puts tasks of one shard and class together, as many as one log entry takes.
func bundles(tasks []*task) (list [][]*task) {
	type kind struct {
		shard uint32
		class shard.Class
	}
	last, sizes := make(map[kind]int), []int(nil)
	for _, t := range tasks {
		k, size := kind{t.shard, t.class}, len(t.body)+shard.BundleHeader
		i, ok := last[k]
		if !ok || len(list[i]) == shard.MaxBundle || sizes[i]+size > shard.MaxCommand {
			i = len(list)
			list, sizes, last[k] = append(list, nil), append(sizes, 0), i
		}
		list[i], sizes[i] = append(list[i], t), sizes[i]+size
	}
	return list
}

// newConvoy makes one whose members' commands go into one log entry where every program knows what that is, and into their own but at the same time where not.
func (r *Relocator) newConvoy(ctx context.Context) *convoy {
	return &convoy{commit: func(tasks []*task) {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		var list [][]*task
		if r.cfg.Directory.Level() >= feature.Bundles {
			list = bundles(tasks)
		} else {
			list = slices.Collect(slices.Chunk(tasks, 1))
		}
		together(list, func(_ int, b *[]*task) { r.commit(ctx, *b) })
	}}
}

// commit proposes tasks of one shard and class. It gives up when nobody waits any more: what comes late could freeze an account again that was let go.
func (r *Relocator) commit(ctx context.Context, tasks []*task) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var waiting atomic.Int32
	waiting.Store(int32(len(tasks)))
	for _, t := range tasks {
		defer context.AfterFunc(t.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	first, began := tasks[0], time.Now()
	if len(tasks) == 1 {
		first.result, first.at, first.err = r.cfg.Router.ProposeLevel(ctx, first.shard, first.level, first.body, first.class)
	} else {
		bodies, level := make([][]byte, len(tasks)), first.level
		for i, t := range tasks {
			bodies[i], level = t.body, max(level, t.level)
		}
		results, at, err := r.cfg.Router.ProposeAll(ctx, first.shard, level, bodies, first.class)
		for i, t := range tasks {
			if t.at, t.err = at, err; err == nil {
				t.result = results[i]
			}
		}
	}
	for _, t := range tasks {
		t.took = time.Since(began)
		close(t.done)
	}
}
