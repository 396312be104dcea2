package relocate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
)

// Pace of the work.
const (
	listed         = 256                    // moves that are read from the directory at once
	claimed        = 48                     // that are claimed together
	grouped        = 4                      // accounts that go the same way together
	clearEvery     = 250 * time.Millisecond // what moves leave behind goes together
	mostActive     = 96                     // accounts of which a move is claimed and not ended
	bytesPerSecond = 32 << 20               // of keys that are imported, by all moves together
	idlePause      = 2 * time.Second
	busyPause      = 20 * time.Millisecond
	firstAgain     = 500 * time.Millisecond // before a move that failed is tried again; doubled each time
	longestAgain   = 30 * time.Second
	warmRounds     = 6
	fewChanges     = 500             // that are left for the time in which the account is frozen
	warmEnough     = time.Second     // that the last round before may take
	frozenTimeout  = 4 * time.Second // before an account is given back to the old shard
	compared       = 20_000          // keys that are compared once more while an account is frozen
	smallKeys      = 1000            // as many are compared in less time than it takes to ask what has changed
	stepTimeout    = 20 * time.Second
	moveTimeout    = 30 * time.Minute
	sweepPause     = 50 * time.Millisecond

	longestSweepPause = 200 * time.Millisecond

	// Of each quietEvery no move is entered in the directory for quietFor: package collect needs a moment in which none is.
	quietEvery = 30 * time.Second
	quietFor   = 5 * time.Second
)

// Config is what a Relocator needs.
type Config struct {
	Self      string
	Net       *transport.Net
	Router    *shard.Router
	Host      *shard.Host
	Directory *directory.Service
	Paused    func() bool // the operator has stopped what moves: none is begun, those that were come to their end
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Relocator is one node's. It works while the node leads the directory, and answers for the node's replicas always.
type Relocator struct {
	cfg  Config
	rate *rate.Limiter
	work sync.WaitGroup

	queue, claims []directory.Relocation // read before, to be claimed; and claimed, to be taken up; only Run's goroutine uses them

	mu       sync.Mutex // guards what follows
	pace     pace
	moving   int             // groups, those included that rest
	active   map[uint64]bool // from its claim on to its end
	clearing []*move         // that wait for step 9
	failures map[uint64]*failure
}

// move is one that was claimed and is worked on.
type move struct {
	directory.Relocation
	with seat
	took time.Duration // until the account was in its new shard
}

// failure is a move that did not get on.
type failure struct {
	err   error
	pause time.Duration
	again time.Time
}

// New makes one and registers what it answers. The network must not serve yet.
func New(cfg Config) *Relocator {
	r := &Relocator{
		cfg: cfg, rate: rate.NewLimiter(bytesPerSecond, 4<<20), active: make(map[uint64]bool), failures: make(map[uint64]*failure),
	}
	cfg.Net.Handle(methodKeys, r.serveKeys)
	return r
}

// Run works until ctx ends, and returns when nothing of it is left.
func (r *Relocator) Run(ctx context.Context) {
	defer r.work.Wait()
	for ctx.Err() == nil {
		changed := r.cfg.Directory.Changed()
		pause := idlePause
		if g, ok := r.cfg.Host.Group(placement.DirectoryShard); !ok || !g.IsLeader() {
			r.forgive()
		} else {
			begun, err := r.round(ctx)
			if err != nil && ctx.Err() == nil {
				r.cfg.Log.Warn("accounts that are to move are not looked after now", "err", err)
			}
			if begun {
				pause = busyPause
			}
		}
		select {
		case <-time.After(pause):
		case <-changed:
			select {
			case <-time.After(busyPause):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
}

// round takes up moves while there is room. It says whether there are some.
func (r *Relocator) round(ctx context.Context) (some bool, err error) {
	paused, due := r.cfg.Paused(), r.due()
	r.mu.Lock()
	room := r.pace.begin(time.Now(), r.moving)
	if due && r.moving < 2*atOnce { // an account that is frozen waits for no other one
		room = max(room, 1)
	}
	full := len(r.active) >= mostActive // what is left behind does not go as fast as accounts move
	r.mu.Unlock()
	if room == 0 {
		return true, nil
	}
	if len(r.queue) == 0 || paused || due {
		if r.queue, err = r.cfg.Directory.FirstRelocations(listed, r.waits, !paused); err != nil {
			return false, err
		}
		r.forget()
	}
	if (len(r.claims) == 0 || due) && !full {
		r.claim(ctx)
	}
	some = full || len(r.claims) > 0
	for ; room > 0 && len(r.claims) > 0; room-- {
		group := r.group(ctx)
		r.mu.Lock()
		r.moving++
		r.pace.begun = time.Now()
		r.mu.Unlock()
		r.work.Go(func() { r.several(ctx, group) })
	}
	return some, nil
}

// group takes the first of the moves that were claimed, and those of the others that go the same way.
func (r *Relocator) group(ctx context.Context) (group []*move) {
	first, with := r.claims[0], r.newConvoy(ctx)
	r.claims = slices.DeleteFunc(r.claims, func(m directory.Relocation) bool {
		if m.From != first.From || m.To != first.To || len(group) == grouped {
			return false
		}
		group = append(group, &move{Relocation: m, with: with.join()})
		return true
	})
	return group
}

// claim is step 1 of those that come next: claims that are made together share their way into the log. While others are claimed already these are moves that
// somebody has begun, and go before them.
func (r *Relocator) claim(ctx context.Context) {
	next := r.queue[:min(claimed, len(r.queue))]
	if fresh := slices.IndexFunc(next, func(m directory.Relocation) bool { return m.Fence == 0 }); fresh >= 0 && len(r.claims) > 0 {
		next = next[:fresh]
	}
	r.queue = r.queue[len(next):]
	r.mu.Lock()
	for _, m := range next {
		r.active[m.Account] = true
	}
	r.mu.Unlock()
	got := make([]bool, len(next))
	with := r.newConvoy(ctx)
	seats := make([]seat, len(next))
	for i := range seats {
		seats[i] = with.join()
	}
	together(next, func(i int, m *directory.Relocation) {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		now, err := r.cfg.Directory.ClaimRelocation(ctx, m.Account, &seats[i])
		if err != nil {
			r.ended(ctx, m, err)
			return
		}
		*m, got[i] = now, true
	})
	var list []directory.Relocation
	for i, m := range next {
		if got[i] {
			list = append(list, m)
		}
	}
	r.claims = append(list, r.claims...)
}

// several moves accounts that were claimed and go the same way. Step 9 is left to whoever takes it for more of them.
func (r *Relocator) several(ctx context.Context, group []*move) {
	began := time.Now()
	together(group, func(_ int, m **move) { r.one(ctx, *m) })
	r.mu.Lock()
	rest := r.pace.rest(time.Since(began))
	r.mu.Unlock()
	pause.For(ctx, rest)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moving--
}

func (r *Relocator) one(ctx context.Context, m *move) {
	began := time.Now()
	there, err := r.move(ctx, m)
	m.with.leave()
	if !there {
		r.ended(ctx, &m.Relocation, err)
		return
	}
	m.took = time.Since(began)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clearing = append(r.clearing, m); len(r.clearing) == 1 {
		r.work.Go(func() { r.clearSoon(ctx) })
	}
}

// clearSoon waits for others.
func (r *Relocator) clearSoon(ctx context.Context) {
	pause.For(ctx, clearEvery)
	r.mu.Lock()
	list := r.clearing
	r.clearing = nil
	r.mu.Unlock()
	r.clear(ctx, list)
}

// leaveQuiet waits while package collect counts.
func (r *Relocator) leaveQuiet(ctx context.Context) error {
	into := time.Duration(r.cfg.Clock.Now().UnixNano()) % quietEvery
	if into >= quietFor {
		return nil
	}
	pause.For(ctx, quietFor-into)
	return ctx.Err()
}

// forget lets go of failures that are due and not in the queue: somebody else ended those moves.
func (r *Relocator) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.failures, func(account uint64, f *failure) bool {
		return !r.active[account] && f.due() && !slices.ContainsFunc(r.queue, func(m directory.Relocation) bool { return m.Account == account })
	})
}

func (f *failure) due() bool { return !time.Now().Before(f.again) }

// due says whether a move that failed is to be tried again: it goes before those that wait, for its account may be frozen.
func (r *Relocator) due() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for account, f := range r.failures {
		if !r.active[account] && f.due() {
			return true
		}
	}
	return false
}

// forgive forgets what failed and what was read, on a node that does not lead the directory.
func (r *Relocator) forgive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.claims {
		delete(r.active, m.Account)
	}
	r.queue, r.claims = nil, nil
	clear(r.failures)
}

// waits says whether a move is not to be taken up now.
func (r *Relocator) waits(account uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[account]
	return r.active[account] || f != nil && !f.due()
}

// committed takes note of how long a commit takes now.
func (r *Relocator) committed(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace.note(took)
}

// ended takes note of the end of what was tried for an account.
func (r *Relocator) ended(ctx context.Context, m *directory.Relocation, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, m.Account)
	if err == nil {
		delete(r.failures, m.Account)
		return
	}
	f := r.failures[m.Account]
	if f == nil {
		f = &failure{pause: firstAgain / 2}
		r.failures[m.Account] = f
	}
	f.err, f.pause = err, min(2*f.pause, longestAgain)
	f.again = time.Now().Add(f.pause)
	if ctx.Err() == nil {
		r.cfg.Log.Warn("account does not move now, it is tried again", "account", m.Address, "from", m.From, "to", m.To, "err", err)
	}
}

// Failures says why accounts did not get on when their move was last tried, as the node knows that leads the directory.
func (r *Relocator) Failures() map[uint64]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[uint64]string, len(r.failures))
	for account, f := range r.failures {
		out[account] = f.err.Error()
	}
	return out
}

func refusedWith(err error, code mailbox.Code) bool {
	var r *mailbox.RefusedError
	return errors.As(err, &r) && r.Code == code
}

// propose commits a command about an account in a shard.
func (r *Relocator) propose(ctx context.Context, number uint32, m *move, c *mailbox.Command, class shard.Class) (*mailbox.Result, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	result, at, err := c.Commit(func(body []byte) ([]byte, uint64, error) {
		return m.with.ProposeLevel(ctx, number, feature.Moves, body, class)
	})
	if err != nil {
		err = fmt.Errorf("shard %d: %w", number, err)
	}
	return result, at, err
}

// step takes one of an account's steps in a shard.
func (r *Relocator) step(ctx context.Context, number uint32, m *move, c mailbox.Move) (*mailbox.Result, uint64, error) {
	c.Account, c.Fence = m.Account, m.Fence
	return r.propose(ctx, number, m, &mailbox.Command{Move: &c}, shard.ForPeople)
}
