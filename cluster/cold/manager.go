package cold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"hongyan/cluster/clock"
	"hongyan/cluster/pause"
	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// Directory is what this package needs of the cluster's directory.
type Directory interface {
	// Volumes lists all volumes as this node's copy of the directory has them, which may lag behind.
	Volumes(ctx context.Context) ([]replica.Entry, error)
	// Volume gives a volume's entry with all that was acknowledged before the call, and whether there is one.
	Volume(ctx context.Context, id volume.ID) (replica.Entry, bool, error)
	// FreezeVolume puts fragments in the place of a volume's copies, unless the volume has changed since e.
	FreezeVolume(ctx context.Context, e replica.Entry, c replica.Cold) (replica.Entry, error)
	// ThawVolume puts whole copies in the place of fragments.
	ThawVolume(ctx context.Context, e replica.Entry, copies []string) (replica.Entry, error)
	// MoveFragment gives a fragment to another node.
	MoveFragment(ctx context.Context, id volume.ID, index int, from, to string) (replica.Entry, error)
	// DropVolume forgets a volume that holds nothing.
	DropVolume(ctx context.Context, id volume.ID) error
}

// Policy says which volumes turn cold, and how.
type Policy struct {
	After  time.Duration // since a volume was sealed; 0: none turns cold
	Least  int64         // bytes; smaller volumes stay as they are
	Data   int
	Parity int
	Rate   int64 // bytes a second that conversion, rebuild and verification read
}

// Config is what a Manager needs.
type Config struct {
	ID         string
	Region     string
	Net        *transport.Net
	Volumes    *volume.Set
	Fragments  *cold.Store
	Directory  Directory
	Peers      func() []replica.Peer                   // the cluster's storage nodes, this one among them
	Whole      func(node string, e replica.Entry) bool // asks a node whether its copy is as the entry says, and nothing in it is known to be damaged
	Paused     func() bool                             // the operator has moves wait; may be nil
	Recovering func() bool                             // shards were recovered, and what they lost is still looked for; may be nil
	Policy     Policy
	Clock      *clock.Clock
	Log        *slog.Logger
}

// Fixed bounds.
const (
	roundEvery   = 3 * time.Second
	directoryTTL = 5 * time.Second  // for changes of the directory
	callTimeout  = 10 * time.Second // for small calls
	streamIdle   = time.Minute      // without a word of a peer that makes a fragment: it may fsync and read back
	readSilence  = 500 * time.Millisecond
	bulkSilence  = 5 * time.Second  // of a peer that gives blocks for a rebuild
	dropAfter    = 10 * time.Second // a frozen volume's copies stay, for readers who have not heard of it yet
	sweepAfter   = time.Hour        // fragments that no entry names
	restTimes    = 2                // as long as a task took, before the next,
	longestRest  = 500 * time.Millisecond
	leastWork    = 5 * time.Millisecond // below it there was nothing to do
	convertFor   = 10 * time.Second     // in one round: mending waits for that
	goneAfter    = 24 * time.Hour       // a node that is down so long has its fragments moved
	verifyEvery  = 7 * 24 * time.Hour
	retryAfter   = 5 * time.Second // after a failure, doubled up to
	retryAtMost  = 10 * time.Minute
	maxMakes     = 64  // fragments that peers make here at once
	maxReads     = 256 // reads of blocks by peers at once
)

// Manager is one node's part in the cold tier. Safe for concurrent use.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup
	kicks chan struct{} // capacity one: there may be something to mend
	makes chan struct{} // one token for each fragment that a peer makes
	reads chan struct{} // and for each read of blocks
	pace  cold.Pace
	views views
	stats counters

	mu       sync.Mutex // guards what follows
	waits    map[task]wait
	verified map[cold.Name]time.Time // when a fragment was last found whole
	since    map[cold.Name]time.Time // fragments that no entry names, and copies of cold volumes (copyOf), since when
	down     map[string]time.Time    // peers that do not answer
	thawing  map[volume.ID]struct{}  // whose whole copy is being made here
	plain    map[volume.ID]struct{}  // with fragments here and known to be not encrypted
	suspect  map[volume.ID]struct{}  // whose index or keys here were found damaged, or not to be used
}

// task names work that is made again after a failure.
type task struct {
	what string
	id   volume.ID
	part int
}

type wait struct {
	until time.Time
	next  time.Duration
}

// New makes a node's manager and registers its methods, which must happen before the network serves. Start it afterwards.
func New(cfg Config) (*Manager, error) {
	if cfg.ID == "" || cfg.Region == "" || cfg.Net == nil || cfg.Volumes == nil || cfg.Fragments == nil || cfg.Directory == nil || cfg.Peers == nil || cfg.Whole == nil || cfg.Log == nil {
		return nil, errors.New("cold: node needs an id, a region, a network, storage, a directory, peers, somebody to ask for whole copies and a log")
	}
	if cfg.Policy.After > 0 {
		l := cold.Layout{Length: 1, Data: uint8(min(cfg.Policy.Data, 255)), Parity: uint8(min(cfg.Policy.Parity, 255))}
		if err := l.Check(); err != nil || cfg.Policy.Rate <= 0 {
			return nil, fmt.Errorf("cold: %d+%d fragments at %d bytes a second: %w", cfg.Policy.Data, cfg.Policy.Parity, cfg.Policy.Rate, errors.Join(err, cold.ErrLayout))
		}
	}
	never := func() bool { return false }
	if cfg.Paused == nil {
		cfg.Paused = never
	}
	if cfg.Recovering == nil {
		cfg.Recovering = never
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &Manager{
		cfg: cfg, log: cfg.Log.With("part", "cold"), ctx: ctx, stop: stop, kicks: make(chan struct{}, 1),
		makes: make(chan struct{}, maxMakes), reads: make(chan struct{}, maxReads), pace: newPace(cfg.Policy.Rate),
		waits: make(map[task]wait), verified: make(map[cold.Name]time.Time), since: make(map[cold.Name]time.Time), down: make(map[string]time.Time),
		thawing: make(map[volume.ID]struct{}), plain: make(map[volume.ID]struct{}), suspect: make(map[volume.ID]struct{}),
	}
	m.views.open = make(map[viewKey]*volume.View)
	cfg.Net.Handle(methodMake, m.serveMake)
	cfg.Net.Handle(methodRead, m.serveRead)
	transport.HandleUnary(cfg.Net, methodAttach, m.serveAttach)
	transport.HandleUnary(cfg.Net, methodFetch, m.serveFetch)
	transport.HandleUnary(cfg.Net, methodHave, m.serveHave)
	transport.HandleUnary(cfg.Net, methodThaw, m.serveThaw)
	return m, nil
}

// newPace lets through so many bytes a second, those of a quarter of a second at once. One goroutine uses it.
func newPace(rate int64) cold.Pace {
	if rate <= 0 {
		return nil
	}
	var free time.Time // when all that was let through so far is due
	return func(ctx context.Context, bytes int64) error {
		now := time.Now()
		if earliest := now.Add(-time.Second / 4); free.Before(earliest) {
			free = earliest
		}
		free = free.Add(time.Duration(float64(bytes) / float64(rate) * float64(time.Second)))
		pause.For(ctx, free.Sub(now))
		return ctx.Err()
	}
}

// Start begins the background work.
func (m *Manager) Start() {
	m.work.Go(m.keep)
}

// Close ends it. What is under way goes on after the next start.
func (m *Manager) Close() {
	m.stop()
	m.work.Wait()
}

// keep is the goroutine that converts, drops, rebuilds and verifies, one thing at a time (I4).
func (m *Manager) keep() {
	for {
		if entries, err := m.entries(); err != nil {
			m.log.Debug("directory not readable", "err", err)
		} else {
			m.round(entries, time.Now())
		}
		t := time.NewTimer(roundEvery/2 + rand.N(roundEvery))
		select {
		case <-m.kicks:
		case <-t.C:
		case <-m.ctx.Done():
		}
		t.Stop()
		if m.ctx.Err() != nil {
			return
		}
	}
}

func (m *Manager) entries() ([]replica.Entry, error) {
	ctx, stop := context.WithTimeout(m.ctx, directoryTTL)
	defer stop()
	return m.cfg.Directory.Volumes(ctx)
}

func (m *Manager) kick() {
	select {
	case m.kicks <- struct{}{}:
	default:
	}
}

// round does what is due. Mending comes first.
func (m *Manager) round(entries []replica.Entry, now time.Time) {
	m.noteDown(now)
	m.count(entries)
	for _, e := range entries {
		if m.ctx.Err() != nil {
			return
		}
		switch {
		case e.Cold != nil:
			m.tend(e, now)
		case e.State == replica.Sealed && e.Length == 0 && len(e.Copies) == 0:
			m.try(task{"forget", e.ID, 0}, func() error { return m.forget(e) })
		}
	}
	m.sweep(entries, now)
	began := time.Now()
	for _, e := range entries {
		if m.due(e, now) && time.Since(began) < convertFor {
			m.try(task{"convert", e.ID, 0}, func() error { return m.convert(e) })
		}
	}
	m.verifyNext(entries, now)
}

// forget drops the entry of a cold volume of which nothing was left.
func (m *Manager) forget(e replica.Entry) error {
	ctx, stop := context.WithTimeout(m.ctx, directoryTTL)
	defer stop()
	return m.cfg.Directory.DropVolume(ctx, e.ID)
}

// try does a task unless it failed a short while ago, and rests afterwards: what many small volumes cost is not their bytes, which have a rate, but files and
// entries in the directory. It says whether it was the task's time.
func (m *Manager) try(t task, do func() error) bool {
	m.mu.Lock()
	w := m.waits[t]
	m.mu.Unlock()
	if m.ctx.Err() != nil || time.Now().Before(w.until) {
		return false
	}
	began := time.Now()
	err := do()
	took := time.Since(began)
	m.mu.Lock()
	if err == nil || m.ctx.Err() != nil {
		delete(m.waits, t)
	} else {
		w.next = max(retryAfter, min(2*w.next, retryAtMost))
		w.until = time.Now().Add(w.next/2 + rand.N(w.next))
		m.waits[t] = w
	}
	m.mu.Unlock()
	if err != nil && m.ctx.Err() == nil {
		m.stats.failures.Add(1)
		m.log.Warn("cold volume: "+t.what+" failed", "volume", t.id, "fragment", t.part, "retry", w.next, "err", err)
	}
	if took >= leastWork {
		pause.For(m.ctx, min(restTimes*took, longestRest))
	}
	return true
}

// noteDown keeps since when peers do not answer. One that is in nobody's configuration any more counts as down for ever.
func (m *Manager) noteDown(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.cfg.Peers() {
		if _, known := m.down[p.ID]; p.ID == m.cfg.ID || m.cfg.Net.Up(p.ID) {
			delete(m.down, p.ID)
		} else if !known {
			m.down[p.ID] = now
		}
	}
}

func (m *Manager) up(node string) bool { return node == m.cfg.ID || m.cfg.Net.Up(node) }

// layout is that of a cold volume's fragments.
func layout(e replica.Entry) cold.Layout {
	return cold.Layout{Volume: e.ID, Generation: e.Generation, Seed: e.Cold.Seed, Length: e.Length, Data: e.Cold.Data, Parity: e.Cold.Parity}
}

// failed turns an error of this node's storage into one that keeps its kind on the way to a peer.
func failed(err error) error {
	code := wire.Internal
	switch {
	case errors.Is(err, cold.ErrNotFound), errors.Is(err, volume.ErrNotFound):
		code = wire.NotFound
	case errors.Is(err, cold.ErrBusy), errors.Is(err, cold.ErrClosed):
		code = wire.Unavailable
	case errors.Is(err, cold.ErrLayout):
		code = wire.Invalid
	}
	return wire.Errorf(code, "%v", err)
}
